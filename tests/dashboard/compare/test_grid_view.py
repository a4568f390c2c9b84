"""What the user does in the grid, and what the grid shows while models load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dashboard.shared import viewer
from dashboard.shared.cache import STAGES
from swin_core.attribution.overlay import Look
from swin_core.figures.viewer_payload import look_payload
from swin_core.zoo import load as zoo
from tests.fixtures.pages import FLOWERS, OTHERS, act, bundle, choose, fresh, opened, run, save_model, shown

__all__ = ["bundle", "fresh"]

pytestmark = pytest.mark.usefixtures("one_thread", "fresh")


def test_a_click_after_a_drag_leaves_the_look_that_the_drag_set() -> None:
    app = opened(sample="tulip", model="first")
    sent = shown(app)["look"], shown(app)["revision"]
    dragged = Look(opacity=0.3)
    act(app, "look", look_payload(dragged))
    act(app, "cell", {"row": 0, "column": 0})
    # The browser keeps the look that was dragged as long as the page sends what it sent before.
    assert (shown(app)["look"], shown(app)["revision"]) == sent
    assert app.session_state["look"].look == dragged
    assert app.query_params["opacity"] == "30"


def titles(payload: dict[str, Any]) -> list[str]:
    return [column["title"] for column in payload["columns"]]


def test_heads_have_their_buttons_while_models_load(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, dict[str, Any]] = {}
    draw = viewer._viewer

    def record(data: dict[str, Any], **options: Any) -> None:
        drawn[data["name"]] = data["payload"]
        draw(data=data, **options)

    monkeypatch.setattr(viewer, "_viewer", record)
    app = opened(sample="tulip", model=["first", "second"], wipe="1")
    assert list(drawn)[:2] == ["grid_1", "grid_2"]
    assert list(drawn)[-1] == "grid"
    for payload in drawn.values():
        assert titles(payload) == ["first", "second"]
        assert all(column["movable"] for column in payload["columns"])
    # A click on one of them is done by the run that it starts, once.
    moved = {"column": 1, "title": "second", "to": 0}
    act(app, "columns", moved, key="grid_1")
    assert titles(shown(app)) == ["second", "first"]
    assert (app.query_params["model"], app.query_params["wipe"]) == (["second", "first"], "0")
    assert titles(shown(run(app))) == ["second", "first"]
    act(app, "look", look_payload(Look(opacity=0.2, wipe="0")), key="grid_2")
    assert app.query_params["opacity"] == "20"


def test_a_column_is_moved_and_removed_once_with_the_wipe() -> None:
    app = opened(sample="tulip", model=["first", "second"], wipe="0")
    act(app, "columns", {"column": 0, "title": "first", "to": 1})
    assert (titles(shown(app)), shown(app)["look"]["wipe"]) == (["second", "first"], "1")
    act(app, "columns", {"column": 0, "title": "first", "to": None})  # of the columns before: nothing
    assert titles(shown(run(app))) == ["second", "first"]
    act(app, "columns", {"column": 1, "title": "first", "to": None})
    assert titles(shown(run(app))) == ["second"]
    assert shown(app)["look"]["wipe"] == ""
    assert "wipe" not in app.query_params


@pytest.mark.parametrize(
    ("query", "goes"),
    [
        ({"wipe": "1"}, {"layer": "All stages, side by side"}),
        ({"wipe": "1"}, {"model": "first"}),
        ({"against": "rocket"}, {"model": "first"}),
        ({"layer": "layers.2.blocks.5"}, {"model": "first"}),
        ({"rows": "One row per image (chosen class)", "class1": "rocket"}, {"model": "first"}),
        ({"rows": "One row per class of an image", "classes": "rocket"}, {"model": "first"}),
    ],
)
def test_a_setting_goes_with_what_it_names(
    query: dict[str, str], goes: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word when the user takes it away, and with a line where a link names what is not there."""
    if "layer" in query:  # of a deeper model
        save_model(tmp_path, "first", FLOWERS, 1)
        save_model(tmp_path, "second", OTHERS, 2, variant="swin_tiny")
        monkeypatch.setattr(zoo, "ASSETS", tmp_path)
    named = {"sample": "tulip", "model": ["first", "second"], **query}
    app = opened(**named)
    assert not app.warning
    if "layer" in goes:
        app.selectbox(key="layer").set_value(STAGES)
    else:
        choose(app, "model", ["first"])
    run(app)
    rows = {key: value for key, value in query.items() if key == "rows"}
    plain = opened(sample="tulip", **goes, **rows)
    assert not app.warning
    assert shown(app)["rows"] == shown(plain)["rows"]
    assert shown(app)["look"] == shown(plain)["look"]
    if "model" in goes:
        key, value = list(query.items())[-1]
        (warning,) = opened(**{**named, **goes}).warning
        assert f"{key}={value} (possible: " in warning.value.replace("\\", "")
