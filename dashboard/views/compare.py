"""The Compare page: heat maps of several models on the same images."""

from dataclasses import replace
from functools import partial

import streamlit as st

from dashboard.compare.agreement import show_agreement, show_top_classes
from dashboard.compare.badges import open_details, show_map_checks
from dashboard.compare.brush import match_strokes, painted_in_url, repaint
from dashboard.compare.class_mean_section import show_class_means
from dashboard.compare.class_notes import show_class_notes
from dashboard.compare.controls import (
    BEST_TITLE,
    ROWS,
    choose_against,
    choose_layer,
    choose_lines,
    choose_method,
    choose_rows,
    ignored_classes,
    option_boxes,
    show_more,
    shows_stages,
)
from dashboard.compare.exports import show_grid_exports
from dashboard.compare.grid_view import GridView, take_events
from dashboard.compare.layer_place import show_layer_places
from dashboard.compare.measurements import with_trust
from dashboard.compare.method_menu import show_lacks, show_method_menu
from dashboard.compare.reading_guide import how_to_read
from dashboard.compare.timeline_section import show_timeline
from dashboard.shared.cache import STAGES, InputImage
from dashboard.shared.comparison import Comparison, ImageAndClass
from dashboard.shared.film_strip import can_show, choose_images, unknown_samples
from dashboard.shared.look import HeldLook, current_look, held_look, settle_wipe
from dashboard.shared.model_cards import known_labels, offer_models, show_cards
from dashboard.shared.nearest_images import show_nearest, unknown_data_set
from dashboard.shared.page_heading import show_heading
from dashboard.shared.page_tools import show_page_tools
from dashboard.shared.share_link import show_link
from dashboard.shared.tour import show_tour
from dashboard.shared.url_state import settle, show_ignored, surplus_models, unknown_values
from dashboard.shared.viewer import ViewerEvents
from swin_core.attribution.methods import METHODS
from swin_core.figures.grid import Grid

AGREEMENT = (
    "Spearman's rank correlation of two maps: 1 if both rank all positions alike, 0 if they are unrelated, "
    "-1 if one ranks them in reverse."
)


def main() -> None:
    """Draw the page."""
    take_events()
    look, ignored = current_look()
    ignored += unknown_samples() + surplus_models() + unknown_data_set() + unknown_values("rows", list(ROWS.values()))
    ignored += unknown_values("method", [BEST_TITLE, *(method.title for method in METHODS.values())])
    actions = show_heading("compare")
    with actions:
        show_page_tools()
    show_tour()
    images, faults = choose_images(known_labels())
    ignored += match_strokes(images)
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="choices"):
        chosen, cards_place = offer_models()
        boxes = option_boxes()
    with boxes.rows:
        rows = choose_rows()
    with boxes.method:
        method = choose_method()
    with boxes.more:
        trusted = show_more()
    settle(ignored)
    ignored_box = st.container()
    stages = shows_stages(method)
    has_grid = can_show(images, chosen, faults)
    if stages or not has_grid:  # else the heads of the columns are the cards
        show_cards(chosen, cards_place)
    if not has_grid:
        return
    grid_view = GridView(_open_details)
    badges_place = st.container(key="map_checks")
    st.caption(how_to_read(method))
    notes_box, details_box = st.container(), st.container()

    # The controls below need the models' layers and classes.
    models = grid_view.load(chosen, partial(_comparison_while_loading, images, chosen, method, stages), look)
    if not can_show(images, models, []):
        if not stages:
            show_cards(chosen, cards_place)
        return
    with boxes.layer:
        layer = choose_layer(models, method, ignored)
        if layer is not None or (method is not None and METHODS[method].kind == "layer"):
            show_layer_places(models, layer)
    with boxes.against:
        against = choose_against(models, method, ignored)
    ignored += ignored_classes(rows, images, models)
    with boxes.rows:
        lines = choose_lines(rows, images, models, method)
    comparison = Comparison(tuple(lines), tuple(models), method, layer, against)
    show_ignored(ignored + settle_wipe(comparison.columns), ignored_box)
    comparison, _ = repaint(comparison, painted_in_url())
    st.session_state.before = comparison
    with boxes.method:
        show_method_menu(models)
    grid = grid_view.fill(comparison, held_look().look)
    with notes_box:
        show_lacks(models, method)
        show_class_notes(grid.rows, models)

    link_box = actions.container(width="content")
    with actions:
        show_grid_exports(grid, partial(_latest, comparison, grid, held_look()))
    with details_box:
        _show_details(comparison, grid)
    with link_box:  # at the end, since each widget restores its query parameter after a visit to another page
        show_link()
    if trusted:
        with badges_place:
            show_map_checks(comparison, grid)


def _latest(comparison: Comparison, grid: Grid, held: HeldLook) -> Grid:
    """Return the grid as it is shown now: with the trust measured so far and the look that the user has set."""
    return replace(with_trust(comparison, grid), look=held.look)


def _open_details(grid: Grid, events: ViewerEvents) -> None:
    """Answer a click on a badge in the grid."""
    open_details(st.session_state.before, grid, events)


def _comparison_while_loading(
    images: list[InputImage], models: list[str], method: str | None, stages: bool
) -> Comparison:
    """Return what the grid shows while a model loads: as far as possible, what it showed before."""
    before: Comparison | None = st.session_state.get("before")
    lines = tuple(map(ImageAndClass, images))
    if before and {line.image.source.key for line in before.lines} <= {image.key for image in images}:
        lines = before.lines
    layer = against = None
    if before and before.method == method:
        layer, against = before.layer, before.against
    if stages != (layer == STAGES):
        layer = STAGES if stages else None
    return Comparison(lines, tuple(models), method, layer, against)


def _show_details(comparison: Comparison, grid: Grid) -> None:
    """Draw the sections below the grid, which are about one of its rows."""
    number = 0
    if len(grid.rows) > 1:
        titles = [f"{index}. {row.title}" for index, row in enumerate(grid.rows, 1)]
        number = titles.index(st.selectbox("Details of row", titles, key="detail", width=330, bind="query-params"))
    row = grid.rows[number]
    line, model = comparison.line_and_model(number, 0)
    left, right = st.columns([1, 2], gap="large")
    with left:
        st.header("Agreement of the maps", help=AGREEMENT)
        show_agreement(grid.row_agreement(row), grid.columns)
    with right:
        st.header("Top classes of each model")
        if comparison.layer == STAGES:
            show_top_classes(replace(row, cells=row.cells[:1]), (model,))
        else:
            show_top_classes(row, grid.columns)
    show_nearest(line.image.source, comparison.models)
    st.space("small")
    show_timeline(comparison, line, grid.look)
    labels = [cell.explanation.label(cell.target) for cell in row.cells if cell.explanation]
    show_class_means(comparison, labels[0] if labels else "")


main()
