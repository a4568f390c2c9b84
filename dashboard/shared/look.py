"""The look of the heat maps: the controls of the viewer set it, and the URL holds it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import streamlit as st

from dashboard.shared.url_state import follows_back, is_integer
from swin_core.attribution.overlay import COLORMAPS, CONTOURS_AT_MOST, SCALES, Look
from swin_core.errors import ConfigError

SCALE_NAMES = dict(zip(SCALES, ("Shared", "Each map"), strict=True))
"""Values of the query parameter `scale`."""
_OLD_DEFAULT = "Per cell"
"""The default scale in older links."""
_LEVEL = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,2})?")
"""A level of contour lines in percent; the viewer has no more decimals."""


@dataclass
class HeldLook:
    """The look of a session, readable outside the page's script, e.g. by exports."""

    look: Look
    columns: tuple[str, ...] = ()
    """Columns that the number of the wipe counts; empty if it counts those that are drawn next."""


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
    look, ignored = _look_of_url()
    arrived = not st.session_state.get("look_settled")
    st.session_state.look_settled = True
    held = held_look()
    if arrived and not any(name in st.query_params for name in _parameters(Look())):
        set_look(held.look)
    else:
        if arrived or follows_back() or look.wipe != held.look.wipe:
            held.columns = ()
        held.look = look
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


def settle_wipe(columns: Sequence[str]) -> list[str]:
    """Let the wipe follow its column where columns were moved or removed, and end it where its column is gone.

    Args:
        columns: what stands in each column of the page's grid; no two are equal.

    Returns:
        A warning if a link names a column that is not there.
    """
    held = held_look()
    look, before, held.columns = held.look, held.columns, tuple(columns)
    if not look.wipe.isdigit():
        return []
    counted = before or held.columns
    name = counted[int(look.wipe)] if int(look.wipe) < len(counted) else None
    wipe = str(held.columns.index(name)) if name in held.columns else ""
    if wipe != look.wipe:
        set_look(replace(look, wipe=wipe))
    return [] if before or wipe else [f"wipe={look.wipe} (possible: image, or 0 to {len(columns) - 1})"]


def _parameters(look: Look) -> dict[str, str]:
    return {
        "opacity": f"{100 * look.opacity:.0f}",
        "threshold": f"{100 * look.threshold:.0f}",
        "colors": look.colormap,
        "scale": SCALE_NAMES[look.scale],
        "contours": ",".join(f"{100 * level:.2f}".rstrip("0").rstrip(".") for level in look.contours),
        "wipe": look.wipe,
        "wipe_at": f"{100 * look.split:.0f}",
        "photo": str(look.image).lower(),
        "raw": str(look.raw).lower(),
    }


def _look_of_url() -> tuple[Look, list[str]]:
    """Return the look that the URL says, and a warning for each value that is none."""
    look, ignored = Look(), []
    for name, (part, possible, read) in _READ.items():
        text = st.query_params.get(name)
        if text:
            try:
                look = replace(look, **{part: read(text)})
            except (KeyError, ValueError, ConfigError):
                ignored.append(f"{name}={text[:40]} (possible: {possible})")
    return look, ignored


def _percent(text: str, most: int) -> float:
    if not is_integer(text, 0, most):
        raise ValueError(text)
    return int(text) / 100


def _levels(text: str) -> tuple[float, ...]:
    levels = text.split(",")
    if not all(map(_LEVEL.fullmatch, levels)):  # `float` also accepts "2_5" and "1e1"
        raise ValueError(text)
    return tuple(float(level) / 100 for level in levels)


_ON_OFF = {"true": True, "false": False}
_READ: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "opacity": ("opacity", "0 to 100", partial(_percent, most=100)),
    "threshold": ("threshold", "0 to 95", partial(_percent, most=95)),
    "colors": ("colormap", ", ".join(COLORMAPS), str),
    "scale": (
        "scale",
        ", ".join(SCALE_NAMES.values()),
        {name: scale for scale, name in SCALE_NAMES.items()}.__getitem__,
    ),
    "contours": (
        "contours",
        f"up to {CONTOURS_AT_MOST} numbers above 0 and up to 100, with up to two decimals, separated by commas",
        _levels,
    ),
    "wipe": ("wipe", "image, or the number of a column, counted from 0", str),
    "wipe_at": ("split", "0 to 100", partial(_percent, most=100)),
    "photo": ("image", "true, false", _ON_OFF.__getitem__),
    "raw": ("raw", "true, false", _ON_OFF.__getitem__),
}
"""By query parameter: a field of `Look`, its possible values in words, and the function that reads one.

The names differ from the keys of all widgets: Browse already has widgets "split" and "image"."""
