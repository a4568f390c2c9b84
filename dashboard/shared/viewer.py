"""The viewer of heat maps as a Streamlit component."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, TypedDict

import streamlit as st

from dashboard.shared.look import set_look
from swin_core.attribution.overlay import Look
from swin_core.errors import ConfigError
from swin_core.figures.grid import Grid, MapGrid
from swin_core.figures.viewer_payload import look_payload, viewer_payload, viewer_script, viewer_style


def viewer_module(host: Traversable) -> str:
    """Return the script of a component: the viewer, what all its hosts share, and a host."""
    shared = (files("dashboard.shared") / name for name in ("viewer_events.js", "viewer_look.js"))
    return viewer_script() + "".join(file.read_text("utf-8") for file in (*shared, host))


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
class Event:
    """Something that the user did in a component."""

    name: str
    value: Any
    """From the browser: not checked."""
    number: float
    """Grows from event to event."""
    last_done: dict[str, float]
    """Number of the last event of each name that was done."""

    def done(self) -> None:
        """Mark the event: later runs do not get it. No run can be stopped here, unlike where Streamlit is called."""
        self.last_done[self.name] = max(self.number, self.last_done.get(self.name, 0))


def new_events(key: str) -> list[Event]:
    """Return the events of a component that are not marked as done, in their order; they are not checked.

    Streamlit's triggers are not used, since it loses them while a run is under way: a run of the page drops the
    requests of fragments that wait for the run before it; a run that is stopped takes its triggers with it; and of two
    triggers of a component that wait, only the later one is kept. So the browser keeps the last events as the
    component's state, which Streamlit sends with every request, and a run marks an event once it has done what was
    asked. A run that is stopped before that leaves the event to the next one.
    """
    last_done: dict[str, dict[str, float]] = st.session_state.setdefault("events_done", {})
    return [
        event
        for event in _sent(key, last_done.setdefault(key, {}))
        if event.number > event.last_done.get(event.name, 0)
    ]


def _sent(key: str, last_done: dict[str, float]) -> list[Event]:
    """Return the last events of a component that the browser sent, also those that are done."""
    state: Any = st.session_state.get(key)
    sent = state.get("events") if state is not None else None
    events = []
    for entry in sent if isinstance(sent, list) else []:
        if isinstance(entry, Mapping) and entry.get("session") == events_token():
            name, value, number = map(entry.get, ("event", "value", "number"))
            if isinstance(name, str) and isinstance(number, int | float):
                events.append(Event(name, value, number, last_done))
    return events


def events_token() -> str:
    """Return what a component needs to send events: those that were meant for an earlier session are dropped."""
    token: str = st.session_state.setdefault("events_token", secrets.token_hex(8))
    return token


@dataclass(frozen=True)
class ViewerEvents:
    """What the user did in a viewer, the last of each kind; None for what did not happen."""

    look: Look | None = None
    """The look, after a drag or choice ended."""
    cell: tuple[int, int] | None = None
    """Row and column of the map whose badge was clicked; they may lie outside of the grid."""
    asked: Mapping[str, Any] | None = None
    """`row` and its `title`, `column`, `label` of a class that was clicked, and `against` if it was dragged onto
    another; unchecked."""
    stroke: Mapping[str, Any] | None = None
    """`row` and its `title`, `strokes`, `fill`, `keep` of a stroke of the brush that ended; unchecked."""
    columns: Mapping[str, Any] | None = None
    """`column` that is to be moved, its `title`, and `to` where, or None to remove it; unchecked."""
    point: tuple[float, float] | None = None
    """Place of a click, in fractions of width and height."""
    sent: Sequence[Event] = field(default=(), compare=False)
    """All of them."""

    def all(self, name: str) -> list[Mapping[str, Any]]:
        """Return the values of all events with a name, in their order; unchecked."""
        return [event.value for event in self.sent if event.name == name and isinstance(event.value, Mapping)]

    def done(self, *names: str) -> None:
        """Mark the events with these names as done."""
        for event in self.sent:
            if event.name in names:
                event.done()


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

    A look that the user has set is kept, and marked as done; the caller marks the other events.

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
        events = viewer_events(key)
        if on_point is not None and events.point is not None:
            on_point(*events.point)
        events.done("point")

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
            "session": events_token(),
            "points": on_point is not None,
        },
        key=key,
        on_events_change=take_point,
    )
    return events


def with_look(payload: dict[str, Any], look: Look, key: str) -> tuple[dict[str, Any], ViewerEvents]:
    """Return what a viewer is given to draw a payload, and what the user did in it; keep the look that was set there.

    The browser keeps its look: what it is given stays the same while the look changes, so that Streamlit does not send
    it again.
    """
    shown: _Shown = st.session_state.setdefault(f"{key}_shown", _Shown(look, look))
    events = viewer_events(key)
    if events.look is not None:
        shown.look = events.look
        set_look(events.look)
    elif look != shown.look:
        shown.look = shown.given = look
        shown.revision += 1
    events.done("look")
    return payload | {"look": look_payload(shown.given), "revision": shown.revision}, events


def show_badges(viewer: str, badges: Mapping[str, Badge], key: str) -> None:
    """Show badges under the maps of a viewer, by `map_key`; its maps are not sent again.

    Args:
        viewer: the viewer's key.
        badges: a badge for each map that has one.
        key: as of any widget of Streamlit.
    """
    _badges(data={"name": viewer, "badges": dict(badges)}, key=key, height=1)


def viewer_events(key: str) -> ViewerEvents:
    """Return what the user did in a viewer that is not marked as done; the browser's values are not trusted."""
    events = new_events(key)
    sent = {event.name: event.value for event in events if isinstance(event.value, Mapping)}
    look = cell = point = None
    with suppress(ConfigError, TypeError):
        look = Look(**sent["look"]) if "look" in sent else None
    row, column = map(sent.get("cell", {}).get, ("row", "column"))
    if isinstance(row, int) and isinstance(column, int):
        cell = row, column
    x, y = map(sent.get("point", {}).get, ("x", "y"))
    if isinstance(x, int | float) and isinstance(y, int | float) and 0 <= min(x, y) <= max(x, y) <= 1:
        point = float(x), float(y)
    return ViewerEvents(look, cell, sent.get("asked"), sent.get("stroke"), sent.get("columns"), point, events)
