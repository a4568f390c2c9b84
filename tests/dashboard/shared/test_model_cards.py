"""Models that are moved and removed by the heads of their columns, and one that has no column."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.shared import model_cards
from dashboard.shared.cache import STAGES
from swin_core.attribution.methods import METHODS
from swin_core.attribution.stages import has_stages
from tests.fixtures.pages import bundle, choose, fresh, opened, run, shown

__all__ = ["bundle", "fresh"]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"column": 0, "title": "a", "to": 2}, ["broken", "b", "c", "a"]),
        ({"column": 2, "title": "c", "to": 0}, ["broken", "c", "a", "b"]),
        ({"column": 1, "title": "b", "to": 0}, ["broken", "b", "a", "c"]),
        ({"column": 1, "title": "b", "to": None}, ["broken", "a", "c"]),
        *(
            ({"column": column, "title": "a", "to": to}, None)
            for column, to in ((0, 0), (3, 0), (0, 3), (-1, 0), ("0", 1), (0, "1"))
        ),
        # The browser still showed another column there.
        *(({"column": 1, "title": title, "to": to}, None) for title in ("c", None) for to in (0, None)),
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


@pytest.mark.parametrize(
    "change", [{"column": 1, "title": "b", "to": None}, *({"column": 0, "title": "a", "to": to} for to in (1, 2))]
)
def test_a_model_that_is_no_longer_chosen_is_neither_moved_nor_removed(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_cards, "chosen_models", lambda: ["a"])
    monkeypatch.setattr(model_cards, "set_url_list", lambda key, values: pytest.fail(str(values)))
    assert not model_cards.arrange_models(["a", "b", "c"], change)


def has_cards(app: AppTest) -> bool:
    """Whether there are cards; the heads of the columns must be cards if there are none."""
    cards = any(button.key and button.key.startswith("drop_") for button in app.button)
    assert all(
        cards != (column.get("movable") is True and column["subtitle"] != "") for column in shown(app)["columns"]
    )
    return cards


@pytest.mark.usefixtures("fresh")
def test_the_heads_of_the_columns_are_the_cards_unless_columns_are_stages() -> None:
    app = opened(sample="tulip", model=["first", "second"])
    assert not has_cards(app)
    app.selectbox(key="layer").set_value(STAGES)
    assert has_cards(run(app))
    assert app.button(key="left_1")
    # A method without layers leaves the choice of a layer as it was, and its columns are models.
    without = next(name for name in METHODS if not has_stages(name))
    app.selectbox(key="method").set_value(without)
    assert not has_cards(run(app))
    app.selectbox(key="method").set_value("gradcam")
    assert has_cards(run(app)) == (app.selectbox(key="layer").value == STAGES)
    # Without an image there is no grid.
    choose(app, "sample", [])
    assert run(app).button(key="drop_1")


@pytest.mark.usefixtures("fresh")
def test_a_model_without_a_column_can_be_removed() -> None:
    app = opened(sample="tulip", model=["first", "nowhere.pth"])
    app.button(key="failed_nowhere.pth").click()
    assert [column["title"] for column in shown(run(app))["columns"]] == ["first"]
    assert not app.error
