"""The viewer of heat maps as a Streamlit component."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, TypedDict

import streamlit as st

from swin_core.attribution.overlay import Look
from swin_core.errors import ConfigError
from swin_core.figures.grid import Grid, MapGrid
from swin_core.figures.viewer_payload import look_payload, viewer_payload, viewer_script, viewer_style


def viewer_module(host: Traversable) -> str:
    """Return the script of a component: the viewer, the look that all viewers of a page share, and a host of both."""
    here = files("dashboard.shared")
    return viewer_script() + "".join(file.read_text("utf-8") for file in (here / "viewer_look.js", host))


_viewer = st.components.v2.component(
    "swinlens_viewer",
    html='<div id="viewer">\n</div>',
    css=viewer_style(),
    js=viewer_module(files("dashboard.shared") / "viewer_host.js"),
)
_badges = st.components.v2.component(
    "swinlens_badges",
    js="""export default function ({ data }) {
      (globalThis.swinlensBadges ??= {})[data.name] = data.badges;
      document.dispatchEvent(new CustomEvent("swinlens-badges", { detail: data.name }));
    }""",
)


class Badge(TypedDict):
    """A short text under a map."""

    text: str
    better: bool | None
    """None while it is measured, and if it cannot be; the badge is then no button."""
    reason: str
    """Shown where the pointer rests, or empty."""


@dataclass(frozen=True)
class ViewerEvents:
    """What the user did in the viewer since the last run; None for what did not happen."""

    look: Look | None = None
    """The look, after a drag or choice ended."""
    cell: tuple[int, int] | None = None
    """Row and column of the map whose badge was clicked; they may lie outside of the grid."""
    asked: Mapping[str, Any] | None = None
    """`row`, `column`, `label` of a class that was clicked, and `against` if it was dragged onto another; unchecked."""
    stroke: Mapping[str, Any] | None = None
    """`row`, `strokes`, `fill`, `keep` of a stroke of the brush that ended; unchecked."""
    columns: Mapping[str, Any] | None = None
    """`column` that is to be moved, its `title`, and `to` where, or None to remove it; unchecked."""


@dataclass
class _Shown:
    """What a browser shows."""

    look: Look
    given: Look
    """The look that it was told last."""
    revision: int = 0


def show_viewer(
    grid: Grid | MapGrid,
    key: str,
    classes: bool = False,
    brushes: Sequence[Mapping[str, Any]] = (),
    token: str = "",
    on_point: Callable[[float, float], None] | None = None,
    subtitles: Sequence[str] = (),
) -> ViewerEvents:
    """Draw the grid; return what the user did in it. Call it in a fragment, which an event runs again.

    Args:
        grid: the heat maps; its look is shown even if the user has set another one.
        key: the viewer's name on the page.
        classes: whether a click on a class under a map is an event.
        brushes: state of the brush at each row, as `brush_payload` returns it; empty if the user cannot paint.
        token: names what is shown in the request that answers a stroke at once; see `dashboard/compare/brush.py`.
        on_point: called before the page runs again after a click, with its place in fractions of width and height.
        subtitles: a line below each column's title; the user can then move and remove columns. Empty if not.
    """

    def take_point() -> None:
        point = st.session_state[key].get("point")
        place: list[Any] = [point.get(name) for name in ("x", "y")] if isinstance(point, Mapping) else []
        if on_point is not None and place and all(isinstance(each, int | float) and 0 <= each <= 1 for each in place):
            on_point(*place)

    payload, events = with_look(viewer_payload(grid), grid.look, key)
    for row, brush in zip(payload["rows"], brushes, strict=bool(brushes)):
        row["brush"] = brush
    for column, subtitle in zip(payload["columns"], subtitles, strict=bool(subtitles)):
        column |= {"subtitle": subtitle, "movable": True}
    _viewer(
        data={
            "name": key,
            "payload": payload,
            "classes": classes,
            "brush": bool(brushes),
            "token": token,
            "points": on_point is not None,
        },
        key=key,
        on_look_change=_ignore,
        on_cell_change=_ignore,
        on_asked_change=_ignore,
        on_stroke_change=_ignore,
        on_columns_change=_ignore,
        on_point_change=take_point,
    )
    return events


def with_look(payload: dict[str, Any], look: Look, key: str) -> tuple[dict[str, Any], ViewerEvents]:
    """Return what a viewer is given to draw a payload, and what the user did in it since the last run.

    The browser keeps its look: what it is given stays the same while the look changes, so that Streamlit does not send
    it again.
    """
    shown: _Shown = st.session_state.setdefault(f"{key}_shown", _Shown(look, look))
    events = viewer_events(key)
    if events.look is not None:
        shown.look = events.look
    elif look != shown.look:
        shown.look = shown.given = look
        shown.revision += 1
    return payload | {"look": look_payload(shown.given), "revision": shown.revision}, events


def show_badges(viewer: str, badges: Mapping[str, Badge], key: str) -> None:
    """Show badges under the maps of a viewer, by `map_key`; its maps are not sent again.

    Args:
        viewer: the viewer's key.
        badges: a badge for each map that has one.
        key: as of any widget of Streamlit.
    """
    _badges(data={"name": viewer, "badges": dict(badges)}, key=key, height=1)


def _ignore() -> None:
    """Make a trigger known to Streamlit."""


def viewer_events(key: str) -> ViewerEvents:
    """Return what the user did in a viewer since the last run; the browser's values are not trusted."""
    state: Any = st.session_state.get(key)
    if state is None:
        return ViewerEvents()
    sent = {name: state.get(name) for name in ("look", "cell", "asked", "stroke", "columns")}
    sent = {name: value for name, value in sent.items() if isinstance(value, Mapping)}
    look = cell = None
    with suppress(ConfigError, TypeError):
        look = Look(**sent["look"]) if "look" in sent else None
    row, column = (sent.get("cell", {}).get(name) for name in ("row", "column"))
    if isinstance(row, int) and isinstance(column, int):
        cell = row, column
    return ViewerEvents(look, cell, sent.get("asked"), sent.get("stroke"), sent.get("columns"))
