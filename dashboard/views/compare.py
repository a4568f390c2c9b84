"""The Compare page: what did each model look at?"""

import streamlit as st

from dashboard.address import models_too_many, not_offered
from dashboard.choices import samples
from dashboard.comparison import Comparison, Line
from dashboard.controls import (
    ROWS,
    choose_classes,
    choose_layer,
    choose_method,
    choose_rows,
    ignored_classes,
    name_classes,
)
from dashboard.details import show_agreement, show_exports, show_link, show_top_classes
from dashboard.sidebar import SCALE_NAMES, choose_look, choose_models, choose_pictures
from dashboard.stage import Stage
from dashboard.theme import plain
from swin_core.errors import ConfigError
from swin_core.explain import METHODS
from swin_core.explain.render import COLORMAPS, Look

READ = "Bright areas raised the score of the class named under the picture. "
READ_SCALE = {
    "shared": "One scale for all cells: equal colour is equal magnitude, which compares within one model and layer, "
    "and between models only with care.",
    "cell": "Each cell has its own scale: compare places, not strengths.",
}
AGREEMENT = (
    "Spearman's rank correlation of two maps, place by place: 1 is the same order of bright and dark, "
    "0 is unrelated, -1 the reverse."
)

ignored = not_offered("sample", list(samples())) + models_too_many()
ignored += not_offered("rows", list(ROWS.values())) + not_offered("scale", list(SCALE_NAMES.values()))
ignored += not_offered("colors", COLORMAPS) + not_offered("method", list(METHODS.values()))
with st.sidebar:
    pictures, faults = choose_pictures()
    models = choose_models()
    try:
        look = choose_look()
    except ConfigError as error:
        look = Look()
        faults.append(str(error))

title, actions = st.columns([3, 1], vertical_alignment="bottom")
title.title("What did each model look at?")
actions = actions.container(horizontal=True, horizontal_alignment="right")
with st.container(horizontal=True):
    rows = choose_rows()
    method = choose_method()
    layer_place = st.container(width="content")
classes_place = st.container()
for fault in faults:
    st.error(plain(fault), icon=":material/error:")
ignored_place = st.container()
st.caption(READ + READ_SCALE[look.scale])

if not pictures or not models:
    missing = "a picture" if not pictures else "a model"
    st.info(f"Choose {missing} in the sidebar to see what it looked at.", icon=":material/arrow_back:")
    st.stop()

stage = Stage()
st.container(key="hint").caption(
    "Drag over a cell to zoom all of them; double-click to go back. Point at one to read every model there."
)
below = st.container()

# While a new model is loading, what was there stays: the controls below need the models' classes and layers.
before: Comparison | None = st.session_state.get("before")
lines = list(map(Line, pictures))
if before and {line.picture.key for line in before.lines} <= {picture.key for picture in pictures}:
    lines = list(before.lines)
stage.load(Comparison(tuple(lines), tuple(models), method, before.layer if before else None), look)
with layer_place:
    layer = choose_layer(models)
ignored += ignored_classes(rows, pictures, models)
if ignored:
    ignored_place.warning(plain(f"The address holds values that were ignored: {'; '.join(ignored)}."))
with classes_place:
    if rows == "classes":
        lines = choose_classes(pictures, models, method)
    else:
        lines = name_classes(pictures, models) if rows == "named" else [Line(picture) for picture in pictures]
comparison = st.session_state.before = Comparison(tuple(lines), tuple(models), method, layer)
result = stage.fill(comparison, look)

with actions:
    show_link(uploads=bool(st.session_state.uploads))
    show_exports(result)

with below:
    number = 0
    if len(result.rows) > 1:
        titles = [f"{index}. {row.title}" for index, row in enumerate(result.rows, 1)]
        chosen = st.selectbox("Details of row", titles, key="detail", width=330, bind="query-params")
        number = titles.index(chosen)
    left, right = st.columns([1, 2], gap="large")
    with left:
        st.subheader("Agreement of the maps", help=AGREEMENT)
        show_agreement(result.agreement()[number], result.columns)
    with right:
        st.subheader("First choices of each model")
        show_top_classes(result.rows[number], result.columns)
