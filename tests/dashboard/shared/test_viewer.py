"""Events of the viewer: whatever a browser sends, the page goes on."""

from __future__ import annotations

from typing import Any

import pytest
import streamlit as st

from dashboard.shared.viewer import ViewerEvents, viewer_events
from swin_core.attribution.overlay import Look
from swin_core.figures.viewer_payload import look_payload


def received(monkeypatch: pytest.MonkeyPatch, **sent: Any) -> ViewerEvents:
    events = [{"number": 1, "session": "this", "event": name, "value": value} for name, value in sent.items()]
    return received_list(monkeypatch, events)


def received_list(monkeypatch: pytest.MonkeyPatch, events: Any, **state: Any) -> ViewerEvents:
    monkeypatch.setattr(st, "session_state", {"grid": {"events": events}, "events_token": "this", **state})
    return viewer_events("grid")


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, {"row": "a", "column": 0}, {"row": None}, {"row": 1.5}])
def test_what_is_no_event_is_dropped(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = received(monkeypatch, look=value, cell=value, asked=value, stroke=value, point=value)
    assert found.cell is None
    assert found.point is None
    # An empty look is the default one.
    assert found.look == (Look() if value == {} else None)
    assert found.asked in (None, value)
    assert found.asked is None or isinstance(found.asked, dict)
    assert found.stroke == found.asked


def test_events_are_read_as_they_were_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    look = Look("magma", 0.4, 0.1, "shared")
    cell, point = {"row": 1, "column": 2}, {"x": 0, "y": 1}
    found = received(monkeypatch, look=look_payload(look), cell=cell, asked=None, point=point)
    assert found == ViewerEvents(look, (1, 2), point=(0.0, 1.0))


@pytest.mark.parametrize("look", [{"opacity": "1"}, {"opacity": float("nan")}, {"colormap": []}, {"size": 1}])
def test_a_look_that_is_none_is_dropped(look: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert received(monkeypatch, look=look).look is None


@pytest.mark.parametrize(
    "events", [None, 3, "x", {}, [None, 3, {}], [{"number": "1", "session": "this", "event": "asked", "value": {}}]]
)
def test_a_list_that_is_none_holds_no_event(events: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert received_list(monkeypatch, events) == ViewerEvents()


def test_an_event_is_there_until_it_is_marked_and_only_in_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = [
        {"number": number, "session": "this", "event": "asked", "value": {"label": label}}
        for number, label in ((1, "cat"), (2, "dog"))
    ]
    sent += [{"number": 3, "session": "this", "event": "cell", "value": {"row": 0, "column": 1}}]
    assert received_list(monkeypatch, sent, events_token="another") == ViewerEvents()
    for _ in range(2):  # a run that is stopped before it marks the event leaves it to the next one
        events = received_list(monkeypatch, sent, events_done=(marked := {}))
        assert (events.asked, events.cell) == ({"label": "dog"}, (0, 1))
        assert [event.value for event in events.sent if event.name == "asked"] == [{"label": "cat"}, {"label": "dog"}]
    events.done("asked")
    assert received_list(monkeypatch, sent, events_done=marked) == ViewerEvents(cell=(0, 1))
    sent.append({**sent[0], "number": 4})
    assert received_list(monkeypatch, sent, events_done=marked).asked == {"label": "cat"}
