"""The Map tab of the Browse page: images whose features are alike lie near each other, and can be selected."""

import base64
import zlib
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from sklearn.cluster import KMeans

from dashboard.browse import map_colours
from dashboard.browse.filters import PAGE_SIZES, ModelChoice, selected_rows
from dashboard.browse.large_view import open_large, show_large
from dashboard.browse.map_colours import Colouring
from dashboard.browse.map_selection import select_on_map, show_selection
from dashboard.browse.tiles import BrowsedData, add_predictions, class_words, plain_tiles
from dashboard.shared.feature_jobs import MAP, FeatureRequest, ImageMap, ready_map, show_job
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import unknown_values
from swin_core.errors import SwinError
from swin_core.evaluation.embedding import MOST_IMAGES
from swin_core.evaluation.selection import CatalogPredictions
from swin_core.figures.text import percent
from swin_core.system.cache import LRUCache

KEY = "image_map"
GROUPS = 40
"""Groups of neighbours in the table at most."""
LEAST_GROUP = 8
"""Images of a group on average, at least."""
_FADED = 255

_HERE = files("dashboard.browse")
_map = st.components.v2.component(
    "swinlens_map",
    html="""<div id="map">
      <div id="tools" role="group" aria-label="Pointer">
        <button type="button" data-tool="lasso">Lasso</button>
        <button type="button" data-tool="box">Box</button>
        <button type="button" data-tool="move">Move</button>
        <button type="button" id="whole">Whole map</button>
      </div>
      <ul id="legend" aria-label="Colours"></ul>
      <div id="frame" tabindex="0" role="img">
        <canvas></canvas><svg id="outline" aria-hidden="true"><polygon points=""/></svg>
        <div id="tip" hidden><img alt=""><div></div></div>
      </div>
    </div>""",
    css=(_HERE / "map.css").read_text("utf-8"),
    js=(_HERE / "map.js").read_text("utf-8"),
)
_tip = st.components.v2.component(
    "swinlens_map_tip",
    js="""export default function ({ data }) {
      document.dispatchEvent(new CustomEvent("swinlens-map-tip", { detail: data }));
    }""",
)
_groups: LRUCache[np.ndarray] = LRUCache(8)


def show_map(
    data: BrowsedData, rows: np.ndarray, models: ModelChoice, results: Sequence[CatalogPredictions], ignored: list[str]
) -> None:
    """Draw the map of the images, with those that the filters leave out faded.

    Args:
        data: the data set.
        rows: the images that the filters select, `(n,)`.
        models: the first one's features are shown.
        results: the predictions that are ready.
        ignored: receives a warning for each value of the URL that is not offered.
    """
    if models.first is None:
        st.info("Choose a model above: the map shows which images are alike to it.")
        return
    request = FeatureRequest(models.first, data.collection.name, data.splits, want=MAP)
    try:
        found = ready_map(request)
        if found is None:
            count = len(data.catalog)
            drawn = f" {MOST_IMAGES:,} of them are drawn at random." if count > MOST_IMAGES else ""
            show_job(
                request,
                "Make the map",
                f"The map lays images that are alike to {escape_markdown(models.titles[0])} near each other. It needs "
                f"the features of {count:,} images.{drawn} For thousands of images this takes some minutes; it can be "
                "stopped and goes on from there later, and is stored on disk.",
            )
            return
        colouring = _choose_colouring(data, found, models, results, ignored)
    except SwinError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    shown = np.isin(found.rows, rows)
    left_out = f" {int((~shown).sum()):,} that the filters leave out are faded." if not shown.all() else ""
    st.caption(
        f"{len(found.rows):,} images; near each other are those with similar features. Only distances between near "
        f"points mean something.{left_out} Rest on a point to see its image; click it to see it large."
    )
    show_selection(data, models)
    left, right = st.columns([8, 5])
    with left:
        _draw(data, found, colouring, shown, results)
    with right:
        _show_groups(data, found, shown, results)
    show_large(data, found.rows[shown], models, PAGE_SIZES[0], ignored)


def _choose_colouring(
    data: BrowsedData,
    found: ImageMap,
    models: ModelChoice,
    results: Sequence[CatalogPredictions],
    ignored: list[str],
) -> Colouring:
    """Draw the controls of the colours; return them."""
    findings = map_colours.findings_of(data, models.first)
    offered = map_colours.colourings(data, results, bool(findings))
    if not offered:
        return Colouring(("images",), (map_colours.SERIES[0],), np.zeros(len(found.rows), np.int64))
    value = st.session_state.get("map_colour")
    if value is None:
        ignored += unknown_values("map_colour", offered)
    elif value not in offered:
        del st.session_state["map_colour"]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        by = st.segmented_control(
            "Colour", offered, default=offered[0], required=True, key="map_colour", bind="query-params"
        )
        if by == map_colours.FINDING:
            return map_colours.finding_colouring(findings, found.rows)
        if by == map_colours.RIGHT:
            return map_colours.right_colouring(results[0], found.rows)
        if by == map_colours.CONFIDENCE:
            return map_colours.confidence_colouring(results[0], found.rows)
        if by == map_colours.PREDICTION:
            names, classes = map_colours.predicted_names(data, results[0])
        else:
            names, classes = class_words(data.catalog.classes), data.catalog.labels
        coloured = map_colours.first_coloured(classes, len(names), results)
        if len(names) > map_colours.MOST_COLOURED:
            chosen = _choose_classes(names, coloured, ignored)
            coloured = [index for index, name in enumerate(names) if name in chosen]
    return map_colours.class_colouring(names, classes[found.rows], coloured)


def _choose_classes(names: Sequence[str], first: Sequence[int], ignored: list[str]) -> list[str]:
    """Draw the choice of the classes in colour; return their names, which another data set may not have."""
    value = st.session_state.get("map_classes")
    if value is None:
        ignored += unknown_values("map_classes", names)
    elif not set(value) <= set(names):
        del st.session_state["map_classes"]
    return st.multiselect(
        "Classes in colour",
        names,
        [names[index] for index in first],
        max_selections=map_colours.MOST_COLOURED,
        key="map_classes",
        bind="query-params",
    )


@st.fragment
def _draw(
    data: BrowsedData,
    found: ImageMap,
    colouring: Colouring,
    shown: np.ndarray,
    results: Sequence[CatalogPredictions],
) -> None:
    """Draw the points; the pointer over a point runs this alone."""
    if st.session_state.pop("map_acted", False):
        st.rerun()
    count = len(found.rows)
    revision = zlib.crc32(found.rows.tobytes()) ^ len(results)

    def pick() -> None:
        sent = st.session_state[KEY].picked
        places = [at for at in sent if _is_place(at, count)] if isinstance(sent, list) else []
        select_on_map(data, found.rows[places])
        st.session_state.map_acted = True

    def open_point() -> None:
        at = st.session_state[KEY].opened
        if _is_place(at, count):
            open_large(data.name(int(found.rows[at])))
            st.session_state.map_acted = True

    marked = np.flatnonzero(np.isin(found.rows, selected_rows(data)))
    kinds = np.where(shown, colouring.kinds, _FADED).astype(np.uint8)
    _map(
        data={
            "title": f"Map of {count} images of {data.collection.title}. The table of groups selects images, too.",
            "revision": revision,
            "places": _encoded(found.places.astype("<f4")),
            "colours": _encoded(kinds),
            "marked": _encoded(marked.astype("<i4")),
            "legend": colouring.legend(shown),
        },
        key=KEY,
        on_hovered_change=_ignore,
        on_picked_change=pick,
        on_opened_change=open_point,
    )
    state: Any = st.session_state.get(KEY)
    at = state.get("hovered") if state is not None else None
    if _is_place(at, count):
        # After the map, which would be drawn anew if it moved to another place.
        tip = {"revision": revision, "at": at} | _tip_of(data, int(found.rows[at]), results)
        _tip(data=tip, key="map_tip", height=1)


def _ignore() -> None:
    """Make a trigger known to Streamlit."""


def _is_place(value: Any, count: int) -> bool:
    """Return whether the browser sent the number of a point."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count


def _encoded(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).data).decode()


def _tip_of(data: BrowsedData, row: int, results: Sequence[CatalogPredictions]) -> dict[str, Any]:
    (tile,) = plain_tiles(data, [row])
    if results:
        add_predictions(tile, row, results)
    lines = [tile["label"], *(text for _, text in tile["verdicts"]), str(data.catalog.files[row]), tile["fault"]]
    return {"source": tile["source"], "lines": [line for line in lines if line]}


def _show_groups(data: BrowsedData, found: ImageMap, shown: np.ndarray, results: Sequence[CatalogPredictions]) -> None:
    """Draw the table of groups of neighbours; a row that is chosen selects its images, without a pointer."""
    rows, places = found.rows[shown], found.places[shown]
    count = min(GROUPS, len(rows) // LEAST_GROUP)
    if count < 2:
        return
    key = rows.tobytes(), places.tobytes()
    groups = _groups.get(key, lambda: KMeans(count, n_init=3, random_state=0).fit_predict(places))
    lines = []
    for group in range(count):
        of = rows[groups == group]
        line: dict[str, Any] = {"where": _where(places[groups == group].mean(0)), "images": len(of)}
        if data.catalog.classes:
            counts = np.bincount(data.catalog.labels[of], minlength=len(data.catalog.classes))
            most = int(counts.argmax())
            line["mostly"] = f"{class_words(data.catalog.classes)[most]} ({percent(float(counts[most] / len(of)))})"
        if results:
            counted = of[results[0].predictions.counted[of]]
            line["accuracy"] = 100 * float(results[0].predictions.right[counted].mean()) if len(counted) else None
            line["confidence"] = 100 * float(np.nanmean(results[0].predictions.confidence[of]))
        lines.append(line)
    order = sorted(range(count), key=lambda group: (lines[group].get("accuracy") or 0.0, -lines[group]["images"]))

    def choose() -> None:
        chosen = st.session_state.map_groups["selection"]["rows"]
        select_on_map(data, np.concatenate([rows[groups == order[at]] for at in chosen]) if chosen else rows[:0])

    st.header("Groups of neighbours")
    st.caption("Choose rows to select their images. Lowest accuracy first." if results else "Choose rows to select.")
    share = partial(st.column_config.ProgressColumn, format="%.0f %%", min_value=0, max_value=100, width=80)
    st.dataframe(
        pd.DataFrame([lines[group] for group in order]),
        hide_index=True,
        key="map_groups",
        on_select=choose,
        selection_mode="multi-row",
        column_order=["mostly", "images", "accuracy", "confidence", "where"],
        column_config={
            "where": st.column_config.TextColumn("Place", width=90),
            "images": st.column_config.NumberColumn("Images", width=65),
            "mostly": st.column_config.TextColumn("Most frequent class", width=135),
            "accuracy": share("Accuracy"),
            "confidence": share("Confidence"),
        },
        alt=f"{count} groups of images that are near each other on the map",
    )


def _where(centre: np.ndarray) -> str:
    """Return the place of a group in words: "upper left"."""
    words = [("lower", "", "upper"), ("left", "", "right")]
    steps = [names[int(np.digitize(value, (-0.2, 0.2)))] for names, value in zip(words, centre[::-1], strict=True)]
    return " ".join(filter(None, steps)) or "middle"
