"""Models that are moved and removed by the heads of their columns, and one that has no column."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.shared import model_cards
from dashboard.shared.cache import STAGES
from tests.fixtures.pages import bundle, fresh, opened, run, shown

__all__ = ["bundle", "fresh"]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"column": 0, "to": 2}, ["broken", "b", "c", "a"]),
        ({"column": 2, "to": 0}, ["broken", "c", "a", "b"]),
        ({"column": 1, "to": 0}, ["broken", "b", "a", "c"]),
        ({"column": 1, "to": None}, ["broken", "a", "c"]),
        *(({"column": column, "to": to}, None) for column, to in ((0, 0), (3, 0), (0, 3), (-1, 0), ("0", 1), (0, "1"))),
        ({}, None),
    ],
)
def test_a_column_goes_where_it_was_dropped(
    change: dict[str, Any], names: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[list[str]] = []
    monkeypatch.setattr(model_cards, "chosen_models", lambda: ["broken", "a", "b", "c"])
    monkeypatch.setattr(model_cards, "set_url_list", lambda key, values: written.append(values))
    assert model_cards.arrange_models(["a", "b", "c"], change) == (names is not None)
    assert written == ([] if names is None else [names])


@pytest.mark.usefixtures("fresh")
def test_the_heads_of_the_columns_are_the_cards() -> None:
    app = opened(sample="tulip", model=["first", "second"])
    columns = shown(app)["columns"]
    assert all(column["movable"] and column["subtitle"] for column in columns)
    assert not [button.key for button in app.button if button.key and button.key.startswith(("left_", "drop_"))]
    # Columns are stages there, so the cards stand above.
    app.selectbox(key="layer").set_value(STAGES)
    assert not any("movable" in column for column in shown(run(app))["columns"])
    assert app.button(key="drop_1")


@pytest.mark.usefixtures("fresh")
def test_a_model_without_a_column_can_be_removed() -> None:
    app = opened(sample="tulip", model=["first", "nowhere.pth"])
    app.button(key="failed_nowhere.pth").click()
    assert [column["title"] for column in shown(run(app))["columns"]] == ["first"]
    assert not app.error
