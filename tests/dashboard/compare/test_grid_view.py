"""What the grid shows when a click in it runs it alone."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.compare import grid_view
from dashboard.shared import viewer
from dashboard.shared.comparison import Comparison, ImageAndClass
from dashboard.shared.viewer import ViewerEvents
from swin_core.attribution.overlay import Look
from swin_core.figures.grid import Grid
from tests.fixtures.pages import bundle, fresh, picture, run

__all__ = ["bundle", "fresh"]

pytestmark = pytest.mark.usefixtures("one_thread", "fresh")


def script() -> None:
    import streamlit as st

    from dashboard.compare.grid_view import _show

    _show(*st.session_state.arguments)


def test_a_click_after_a_drag_leaves_the_look_that_the_drag_set(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    events = ViewerEvents()
    monkeypatch.setattr(viewer, "_viewer", lambda data, **options: sent.append(data["payload"]))
    monkeypatch.setattr(viewer, "viewer_events", lambda key: events)
    monkeypatch.setattr(grid_view, "viewer_events", lambda key: events)
    comparison = Comparison((ImageAndClass(picture()),), ("first",), "gradcam")
    grid = Grid(tuple(comparison.rows()), comparison.columns, Look())
    answered: list[Look] = []
    app = AppTest.from_function(script)
    app.session_state["arguments"] = comparison, grid, lambda shown, events: answered.append(shown.look)
    run(app)
    dragged = Look(opacity=0.3)
    events = ViewerEvents(look=dragged)
    run(app)
    events = ViewerEvents(cell=(0, 0))
    run(app)
    # The browser keeps the look that was dragged as long as the page sends what it sent before.
    assert [(payload["look"]["opacity"], payload["revision"]) for payload in sent] == [(Look.opacity, 0)] * 3
    assert answered[-1] == dragged
