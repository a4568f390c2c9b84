"""The Browse page: the images of a data set with a model's predictions."""

import streamlit as st

from dashboard.browse.classes_view import show_classes
from dashboard.browse.confidence_view import show_confidence
from dashboard.browse.confusion_view import LEVELS, ORDERS, show_confusion
from dashboard.browse.filters import (
    PAGE_SIZES,
    TABS,
    choose_data,
    choose_filter,
    choose_predictions,
    filter_bar,
    only_selected,
)
from dashboard.browse.map_view import show_map
from dashboard.browse.matching import choose_matches
from dashboard.browse.mean_view import show_mean_map
from dashboard.browse.predictions_view import (
    load_predictions,
    models_for,
    show_comparison,
    show_metrics,
    show_skipped,
)
from dashboard.browse.selection_link import keep_selection_in_link
from dashboard.browse.sheet import show_sheet, show_tray
from dashboard.shared.film_strip import tray
from dashboard.shared.look import current_look
from dashboard.shared.model_cards import choose_models
from dashboard.shared.page_heading import show_heading
from dashboard.shared.share_link import show_link
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import ON_OFF, settle, show_ignored, surplus_models, unknown_values
from swin_core.data.dataset import data_root
from swin_core.errors import DataError
from swin_core.evaluation.selection import select


def main() -> None:
    """Draw the page."""
    ignored = surplus_models() + unknown_values("view", TABS) + unknown_values("size", list(map(str, PAGE_SIZES)))
    ignored += unknown_values("level", LEVELS) + unknown_values("classes_by", ORDERS)
    ignored += unknown_values("maps", ON_OFF) + unknown_values("diagonal", ON_OFF)
    ignored += current_look()[1]
    actions = show_heading("browse")
    tray()  # its query parameter belongs to this page too
    chosen_models = choose_models()
    filters = filter_bar()
    try:
        with filters:
            data = choose_data(ignored)
    except DataError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    if data is None:
        _show_how_to_add_data()
        return
    with filters:
        models = choose_predictions(*models_for(data, chosen_models), ignored)
        query = choose_filter(data, models, ignored)
    keep_selection_in_link(data, ignored)
    settle(ignored)
    ignored_box = st.container()
    by_hand = choose_matches(data, models)
    results = load_predictions(data, models, by_hand)
    show_metrics(data, models, results)
    show_comparison(results)
    show_skipped(data)
    has_predictions = bool(results) and bool(results[0].predictions.counted.any())
    images_tab, map_tab, confusion_tab, classes_tab, confidence_tab, mean_tab = st.tabs(
        TABS, key="view", on_change="rerun", bind="query-params"
    )
    if images_tab.open:
        with images_tab:
            with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
                show_tray()
                with_maps = bool(results) and st.toggle("Heat maps", key="maps", bind="query-params")
            if query.needs_predictions and not results:
                st.caption("All images are shown until the predictions are ready.")
            rows = only_selected(data, select(data.catalog, query, *results))
            show_sheet(data, rows, models, results, with_maps, ignored)
    if map_tab.open:
        with map_tab:
            show_map(data, select(data.catalog, query, *results), models, results, ignored)

    def show_confidence_tab() -> None:
        show_confidence(data, models, results[0], bool(by_hand.get(str(models.first))), ignored)

    with_truth = (
        (confusion_tab, "The confusion matrix needs", lambda: show_confusion(data, results[0], ignored)),
        (classes_tab, "Accuracy by class needs", lambda: show_classes(data, models, results)),
        (confidence_tab, "Calibration needs", show_confidence_tab),
    )
    for tab, what, show in with_truth:
        if tab.open:
            with tab:
                if has_predictions:
                    show()
                else:
                    st.info(f"{what} the predictions of a model that knows these classes.")
    if mean_tab.open:
        with mean_tab:
            rows = only_selected(data, select(data.catalog, query, *results))
            show_mean_map(data, rows, models, results, by_hand.get(str(models.first), {}), ignored)
    show_ignored(ignored, ignored_box)
    with actions:
        show_link()


def _show_how_to_add_data() -> None:
    root = escape_markdown(str(data_root()))
    st.info(f"There is no data set in {root}. This command fetches CIFAR-100 and flower_photos:")
    st.code("swinlens data", language="bash")
    st.markdown(
        "To browse your own images, put a folder with one folder for each class there, or start the dashboard with "
        "`SWINLENS_DATA` set to that folder. Then reload this page."
    )


main()
