"""The look of the heat maps: the controls of the viewer set it, and the URL holds it."""

from dataclasses import dataclass

import streamlit as st

from dashboard.shared.url_state import invalid_number, unknown_values
from swin_core.attribution.overlay import COLORMAPS, SCALES, Look

SCALE_NAMES = dict(zip(SCALES, ("Shared", "Each map"), strict=True))
"""Values of the query parameter `scale`."""
_OLD_DEFAULT = "Per cell"
"""The default scale in older links."""


@dataclass
class HeldLook:
    """The look of a session, readable outside the page's script, e.g. by exports."""

    look: Look


def held_look() -> HeldLook:
    """Return the session's look."""
    held: HeldLook = st.session_state.setdefault("look", HeldLook(Look()))
    return held


def current_look() -> tuple[Look, list[str]]:
    """Return the look, and a warning for each query parameter of it that is not a possible value.

    The URL says it, so that Back undoes a change. At the first run of a visit to a page it is that of the page before.
    """
    if st.query_params.get("scale") == _OLD_DEFAULT:
        del st.query_params["scale"]
    ignored = invalid_number("opacity", 0, 100) + invalid_number("threshold", 0, 95)
    ignored += unknown_values("colors", COLORMAPS) + unknown_values("scale", list(SCALE_NAMES.values()))
    arrived = not st.session_state.get("look_settled")
    st.session_state.look_settled = True
    held = held_look()
    if arrived and not any(name in st.query_params for name in _parameters(Look())):
        set_look(held.look)
    else:
        held.look = _look_of_url()
    return held.look, ignored


def set_look(look: Look) -> None:
    """Keep a look, and write it into the URL; what is the default is left out of it."""
    held_look().look = look
    default = _parameters(Look())
    for name, value in _parameters(look).items():
        if value == default[name]:
            if name in st.query_params:
                del st.query_params[name]
        elif st.query_params.get(name) != value:
            st.query_params[name] = value


def _parameters(look: Look) -> dict[str, str]:
    return {
        "opacity": f"{100 * look.opacity:.0f}",
        "threshold": f"{100 * look.threshold:.0f}",
        "colors": look.colormap,
        "scale": SCALE_NAMES[look.scale],
    }


def _look_of_url() -> Look:
    default = Look()
    values = {name: st.query_params.get(name, value) for name, value in _parameters(default).items()}
    number = {
        name: int(values[name]) / 100 if not invalid_number(name, 0, most) else getattr(default, name)
        for name, most in (("opacity", 100), ("threshold", 95))
    }
    names = {name: scale for scale, name in SCALE_NAMES.items()}
    colormap = values["colors"] if values["colors"] in COLORMAPS else default.colormap
    return Look(colormap, number["opacity"], number["threshold"], names.get(values["scale"], default.scale))
