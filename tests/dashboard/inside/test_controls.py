"""The controls of the Inside page."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.inside.controls import _clicked

pytestmark = pytest.mark.usefixtures("one_thread")


def test_clicks_are_read_as_lists_and_as_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    class State(dict[str, Any]):
        pass

    def selected(data: object) -> list[Any] | None:
        points = [] if data is None else [{"customdata": data}]
        selection = type("Selection", (), {"points": points})
        monkeypatch.setattr("streamlit.session_state", State(chart=type("Event", (), {"selection": selection})))
        return _clicked("chart")

    assert selected([3, 4]) == [3, 4]
    assert selected({"0": 3, "1": 4}) == [3, 4]
    assert selected(None) is None
