"""The look of the heat maps, and whether they are measured."""

import streamlit as st

from dashboard.shared.look import SCALE_NAMES, held_look
from dashboard.shared.theme import escape_markdown
from swin_core.attribution.overlay import COLORMAPS, SCALES, Look
from swin_core.errors import ConfigError


def choose_look() -> Look:
    """Draw the choice of colour map, opacity, threshold and scale of the heat maps; return them."""
    st.header("Look")
    colormap = st.selectbox("Colours", COLORMAPS, key="colors", bind="query-params")
    start = round(100 * Look.opacity)
    opacity = st.slider("Opacity", 0, 100, start, 5, format="%d %%", key="opacity", bind="query-params")
    threshold = st.slider(
        "Threshold",
        0,
        95,
        0,
        5,
        format="%d %%",
        help="Below this share of the scale, only the image is shown.",
        key="threshold",
        bind="query-params",
    )
    scale = st.segmented_control(
        "Scale",
        list(SCALES),
        format_func=lambda name: SCALE_NAMES.get(name, name),
        default=Look.scale,
        required=True,
        help="Shared: equal colours are equal values in all cells. Per cell: each map uses the whole colour map.",
        key="scale",
        bind="query-params",
    )
    try:
        held_look().look = Look(str(colormap), opacity / 100, threshold / 100, scale or Look.scale)
    except ConfigError as error:  # a value of the URL that no widget offers
        st.error(escape_markdown(str(error)), icon=":material/error:")
        held_look().look = Look()
    return held_look().look


def choose_trust() -> bool:
    """Draw the switch of the trust measurements; return its value."""
    return st.toggle(
        "Check the maps",
        True,
        help="Measures in the background whether removing what a map marks lowers the class more than removing other "
        "pixels: some 300 forward passes per map.",
        key="trust",
        bind="query-params",
    )
