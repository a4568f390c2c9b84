"""The Browse page: where is this model right, wrong, and sure of itself?"""

import streamlit as st

from dashboard.browse.classes_view import show_classes
from dashboard.browse.confusion_view import LEVELS, ORDERS, show_confusion
from dashboard.browse.filters import PAGE_SIZES, TABS, choose_data, choose_filter, choose_predictions
from dashboard.browse.predictions_view import best_matching_model, load_predictions, show_comparison, show_metrics
from dashboard.browse.sheet import show_sheet, show_tray
from dashboard.shared.page_heading import show_heading
from dashboard.shared.share_link import show_link
from dashboard.shared.sidebar import choose_data_images, choose_look, choose_models
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import ON_OFF, settle, surplus_models, unknown_values, with_previous_warnings
from swin_core.attribution.overlay import Look
from swin_core.data.dataset import data_root
from swin_core.errors import ConfigError, DataError
from swin_core.evaluation.selection import select

ignored: list[str] = (
    surplus_models() + unknown_values("view", TABS) + unknown_values("size", list(map(str, PAGE_SIZES)))
)
ignored += unknown_values("level", LEVELS) + unknown_values("classes_by", ORDERS)
ignored += unknown_values("maps", ON_OFF) + unknown_values("diagonal", ON_OFF)
actions = show_heading("browse")
filters = st.sidebar.container()
with st.sidebar:
    choose_data_images(always=True)
    chosen_models = choose_models()
    try:
        with filters:
            st.header("Images")
            data = choose_data(ignored)
    except DataError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        st.stop()
if data is None:
    root = escape_markdown(str(data_root()))
    st.info(f"There is no data set in {root}. This command fetches CIFAR-100 and flower_photos:")
    st.code("swinlens data", language="bash")
    st.markdown(
        "To browse your own images, put a folder with one folder for each class there, or start the dashboard with "
        "`SWIN_DATA_ROOT` set to the folder that holds such folders. Then reload this page."
    )
    st.stop()

with filters:
    models = choose_predictions(chosen_models, best_matching_model(chosen_models, data), ignored)
    query = choose_filter(data, models, ignored)
settle(ignored)
warning = st.container()
results = load_predictions(data, models)
show_metrics(data, models, results)
show_comparison(results)
images, confusion, classes = st.tabs(TABS, key="view", on_change="rerun", bind="query-params")
with images:
    if images.open:
        look = None
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            show_tray()
            if results and st.toggle("Heat maps", key="maps", bind="query-params"):
                look = Look()
        if look is not None:
            with st.sidebar:
                try:
                    look = choose_look()
                except ConfigError as error:
                    st.error(escape_markdown(str(error)))
        if query.needs_predictions and not results:
            st.caption("All images are shown until the predictions are ready.")
        rows = select(data.catalog, query, *results)
        show_sheet(data, rows, models, results, look, ignored)
with confusion:
    if confusion.open:
        if results and results[0].predictions.counted.any():
            show_confusion(data, results[0], ignored)
        else:
            st.info("The confusion matrix needs the predictions of a model that knows these classes.")
with classes:
    if classes.open:
        if results and results[0].predictions.counted.any():
            show_classes(data, models, results)
        else:
            st.info("Accuracy by class needs the predictions of a model that knows these classes.")
if ignored := with_previous_warnings(ignored):
    warning.warning(escape_markdown(f"These values in the address were ignored: {'; '.join(ignored)}."))
with actions:
    show_link(uploads=False)
