"""The Compare page: what did each model look at, and can it be believed?"""

from dataclasses import replace
from functools import partial

import streamlit as st

from dashboard.compare.agreement import show_agreement, show_top_classes
from dashboard.compare.badges import show_badges
from dashboard.compare.class_mean_section import show_class_means
from dashboard.compare.controls import (
    BEST_TITLE,
    ROWS,
    choose_against,
    choose_classes,
    choose_layer,
    choose_method,
    choose_rows,
    ignored_classes,
    name_classes,
)
from dashboard.compare.export_menu import show_exports
from dashboard.compare.grid_view import Stage
from dashboard.compare.measurements import with_trust
from dashboard.compare.reading_guide import how_to_read
from dashboard.compare.timeline_section import show_gaze
from dashboard.shared.cache import STAGES
from dashboard.shared.comparison import Comparison, Line
from dashboard.shared.model_names import sample_images
from dashboard.shared.page_heading import show_heading
from dashboard.shared.share_link import show_link
from dashboard.shared.sidebar import SCALE_NAMES, choose_images, choose_look, choose_models, choose_trust
from dashboard.shared.theme import escape_markdown
from dashboard.shared.uploads import kept_uploads
from dashboard.shared.url_state import settle, surplus_models, unknown_values, with_previous_warnings
from swin_core.attribution.methods import METHODS
from swin_core.attribution.overlay import COLORMAPS, Look
from swin_core.errors import ConfigError

AGREEMENT = (
    "Spearman's rank correlation of two maps, place by place: 1 is the same order of bright and dark, "
    "0 is unrelated, -1 the reverse."
)

ignored = unknown_values("sample", list(sample_images())) + surplus_models()
ignored += unknown_values("rows", list(ROWS.values())) + unknown_values("scale", list(SCALE_NAMES.values()))
ignored += unknown_values("colors", COLORMAPS) + unknown_values("method", [BEST_TITLE, *METHODS.values()])
with st.sidebar:
    pictures, faults = choose_images()
    models = choose_models()
    try:
        look = choose_look()
    except ConfigError as error:
        look = Look()
        faults.append(str(error))
    trusted = choose_trust()

actions = show_heading("compare")
with st.container(horizontal=True):
    rows = choose_rows()
    method = choose_method()
    layer_place = st.container(width="content")
    against_place = st.container(width="content")
settle(ignored)
classes_place = st.container()
for fault in faults:
    st.error(escape_markdown(fault), icon=":material/error:")
ignored_place = st.container()
reading_place = st.container()

if not pictures or not models:
    missing = "an image" if not pictures else "a model"
    st.info(f"Choose {missing} in the sidebar to see what it looked at.", icon=":material/arrow_back:")
    st.stop()

reading_place.caption(how_to_read(method, look))
stage = Stage(badges=trusted)
st.container(key="hint").caption(
    "Drag over a cell to zoom all of them; double-click to go back. Point at one to read every model there."
)
below = st.container()

# While a new model is loading, what was there stays: the controls below need the models' classes and layers.
before: Comparison | None = st.session_state.get("before")
lines = list(map(Line, pictures))
if before and {line.picture.key for line in before.lines} <= {picture.key for picture in pictures}:
    lines = list(before.lines)
unchanged = before is not None and before.method == method
stage.load(
    Comparison(
        tuple(lines),
        tuple(models),
        method,
        before.layer if before and unchanged else None,
        before.against if before and unchanged else None,
    ),
    look,
)
with layer_place:
    layer = choose_layer(models, method)
with against_place:
    against = choose_against(models, method)
ignored += ignored_classes(rows, pictures, models)
if ignored := with_previous_warnings(ignored):
    ignored_place.warning(escape_markdown(f"The address holds values that were ignored: {'; '.join(ignored)}."))
with classes_place:
    if rows == "classes":
        lines = choose_classes(pictures, models, method)
    else:
        lines = name_classes(pictures, models) if rows == "named" else [Line(picture) for picture in pictures]
comparison = st.session_state.before = Comparison(tuple(lines), tuple(models), method, layer, against)
result = stage.fill(comparison, look)

link_place = actions.container(width="content")
with actions:
    show_exports(result, partial(with_trust, comparison, result))

with below:
    number = 0
    if len(result.rows) > 1:
        titles = [f"{index}. {row.title}" for index, row in enumerate(result.rows, 1)]
        chosen = st.selectbox("Details of row", titles, key="detail", width=330, bind="query-params")
        number = titles.index(chosen)
    left, right = st.columns([1, 2], gap="large")
    with left:
        st.header("Agreement of the maps", help=AGREEMENT)
        show_agreement(result.agreement()[number], result.columns)
    with right:
        st.header("First choices of each model")
        line, model = comparison.place(number, 0)
        row = result.rows[number]
        if layer == STAGES:
            show_top_classes(replace(row, cells=row.cells[:1]), (model,))
        else:
            show_top_classes(row, result.columns)
    st.space("small")
    show_gaze(comparison, line, look)
    explained = [cell.explanation.label(cell.target) for cell in result.rows[number].cells if cell.explanation]
    show_class_means(comparison, explained[0] if explained else "", look)
# Only now is all in the address: what a visit to another page took out of it comes back widget by widget.
with link_place:
    show_link(uploads=bool(kept_uploads()))
if trusted:
    show_badges(stage.badges, comparison, result)
