"""Events of the viewer: whatever a browser sends, the page goes on."""

from __future__ import annotations

from typing import Any

import pytest
import streamlit as st

from dashboard.shared.viewer import ViewerEvents, viewer_events
from swin_core.attribution.overlay import Look
from swin_core.figures.viewer_payload import look_payload


def received(monkeypatch: pytest.MonkeyPatch, **state: Any) -> ViewerEvents:
    monkeypatch.setattr(st, "session_state", {"grid": state})
    return viewer_events("grid")


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, {"row": "a", "column": 0}, {"row": None}, {"row": 1.5}])
def test_what_is_no_event_is_dropped(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = received(monkeypatch, look=value, cell=value, asked=value, stroke=value)
    assert found.cell is None
    # An empty look is the default one.
    assert found.look == (Look() if value == {} else None)
    assert found.asked in (None, value)
    assert found.asked is None or isinstance(found.asked, dict)
    assert found.stroke == found.asked


def test_events_are_read_as_they_were_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    look = Look("magma", 0.4, 0.1, "shared")
    found = received(monkeypatch, look=look_payload(look), cell={"row": 1, "column": 2}, asked=None)
    assert found == ViewerEvents(look, (1, 2))


@pytest.mark.parametrize("look", [{"opacity": "1"}, {"opacity": float("nan")}, {"colormap": []}, {"size": 1}])
def test_a_look_that_is_none_is_dropped(look: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert received(monkeypatch, look=look).look is None
