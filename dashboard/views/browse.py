"""The Browse page: where is this model right, wrong, and sure of itself?"""

import streamlit as st

from dashboard.browse.choices import PAGE_SIZES, VIEWS, choose_data, choose_judges, choose_wanted
from dashboard.browse.predictions_view import judge, knowing_model, show_comparison, show_figures
from dashboard.browse.sheet import show_sheet, show_tray
from dashboard.browse.tables import LEVELS, ORDERS, show_classes, show_confusion
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
    surplus_models() + unknown_values("view", VIEWS) + unknown_values("size", list(map(str, PAGE_SIZES)))
)
ignored += unknown_values("level", LEVELS) + unknown_values("classes_by", ORDERS)
ignored += unknown_values("maps", ON_OFF) + unknown_values("diagonal", ON_OFF)
actions = show_heading("browse")
place = st.sidebar.container()
with st.sidebar:
    choose_data_images(always=True)
    models = choose_models()
    try:
        with place:
            st.header("Images")
            shown = choose_data(ignored)
    except DataError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        st.stop()
if shown is None:
    root = escape_markdown(str(data_root()))
    st.info(f"There is no data set in {root} yet. This command fetches CIFAR-100 and flower_photos:")
    st.code("swinlens data", language="bash")
    st.markdown(
        "Have you images of your own? Put a folder with one folder for each class there, or start the dashboard with "
        "`SWIN_DATA_ROOT` set to the folder that holds such folders. Then reload this page."
    )
    st.stop()

with place:
    judges = choose_judges(models, knowing_model(models, shown), ignored)
    wanted = choose_wanted(shown, judges, ignored)
settle(ignored)
ignored_place = st.container()
judgements = judge(shown, judges)
show_figures(shown, judges, judgements)
show_comparison(judgements)
pictures, confusion, classes = st.tabs(VIEWS, key="view", on_change="rerun", bind="query-params")
with pictures:
    if pictures.open:
        look = None
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            show_tray()
            if judgements and st.toggle("Heat maps", key="maps", bind="query-params"):
                look = Look()
        if look is not None:
            with st.sidebar:
                try:
                    look = choose_look()
                except ConfigError as error:
                    st.error(escape_markdown(str(error)))
        if wanted.needs_predictions and not judgements:
            st.caption("All images are shown until the predictions are there.")
        rows = select(shown.catalog, wanted, *judgements)
        show_sheet(shown, rows, judges, judgements, look, ignored)
with confusion:
    if confusion.open:
        if judgements and judgements[0].predictions.counted.any():
            show_confusion(shown, judgements[0], ignored)
        else:
            st.info("The confusion matrix needs the predictions of a model that knows these classes.")
with classes:
    if classes.open:
        if judgements and judgements[0].predictions.counted.any():
            show_classes(shown, judges, judgements)
        else:
            st.info("Accuracy by class needs the predictions of a model that knows these classes.")
if ignored := with_previous_warnings(ignored):
    ignored_place.warning(escape_markdown(f"The address holds values that were ignored: {'; '.join(ignored)}."))
with actions:
    show_link(uploads=False)
