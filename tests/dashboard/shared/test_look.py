"""The look in the link: what a link says is shown and exported, and what it says wrongly is named."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import streamlit as st

from dashboard.shared.look import current_look, held_look, set_look, settle_wipe
from swin_core.attribution.overlay import COLORMAPS, SCALES, Look
from swin_core.figures.viewer_payload import look_payload
from tests.fixtures.pages import bundle, choose, fresh, opened, run, shown

__all__ = ["bundle", "fresh"]

pytestmark = pytest.mark.usefixtures("fresh")


def test_a_link_holds_every_part_of_the_look() -> None:
    query = {"contours": "25,62.5", "wipe": "1", "wipe_at": "30", "photo": "false", "raw": "true", "opacity": "40"}
    app = opened(sample="tulip", model=["first", "second"], **query)
    look = Look(opacity=0.4, contours=(0.25, 0.625), wipe="1", split=0.3, image=False, raw=True)
    assert shown(app)["look"] == look_payload(look)
    assert app.session_state["look"].look == look  # what exports are drawn with
    assert not app.warning
    assert {name: app.query_params[name] for name in query} == query


@pytest.mark.parametrize(
    "query",
    [
        *({"contours": text} for text in ("0", "a", "101", "2_5", "1e1", "٢٥", "25,", "33.333")),
        *({"wipe": text} for text in ("left", "1", "7")),  # one model is column 0
        *({name: text} for name in ("wipe_at", "opacity") for text in ("101", "1_0", "٢٥")),
        {"photo": "1"},
    ],
)
def test_a_value_that_is_none_is_named(query: dict[str, str]) -> None:
    app = opened(sample="tulip", model="first", **query)
    ((name, value),) = query.items()
    (warning,) = (each.value for each in app.warning if "were ignored" in each.value)
    assert f"{name}={value} (possible: " in warning.replace("\\", "")
    assert shown(app)["look"] == look_payload(Look())
    assert app.session_state["look"].look == Look()


def test_a_wipe_ends_without_a_word_when_its_column_goes() -> None:
    app = opened(sample="tulip", model=["first", "second"], wipe="1")
    choose(app, "model", ["first"])
    assert shown(run(app))["look"]["wipe"] == ""
    assert "wipe" not in app.query_params
    assert not app.warning


class State(dict[str, Any]):
    """Takes the place of a session's state."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The query parameters of a page that has been drawn."""
    monkeypatch.setattr(st, "session_state", State(look_settled=True))
    parameters: dict[str, str] = {}
    monkeypatch.setattr(st, "query_params", parameters)
    return parameters


def test_a_look_is_read_back_as_it_was_written(url: dict[str, str]) -> None:
    looks = [Look(opacity=share / 100, split=share / 100) for share in range(101)]
    looks += [Look(threshold=share / 100) for share in range(96)]
    looks += [Look(name, scale=scale) for name in COLORMAPS for scale in SCALES]
    looks += [Look(image=False), Look(raw=True), Look(wipe="image"), Look(wipe="12")]
    levels = [hundredth / 100 / 100 for hundredth in range(1, 10_001)]  # of percent, as the viewer counts them
    looks += [Look(contours=tuple(levels[first::1000])) for first in range(1000)]
    for look in looks:
        set_look(look)
        assert current_look() == (look, [])
    set_look(Look())
    assert not url


@pytest.mark.usefixtures("url")
def test_the_wipe_goes_with_its_column() -> None:
    names = ["a", "b", "c"]
    for after in [list(order) for count in (1, 2, 3) for order in permutations(["a", "b", "c", "d"], count)]:
        for column, name in enumerate(names):
            set_look(Look(wipe=str(column), opacity=0.3))
            held_look().columns = ()
            assert settle_wipe(names) == settle_wipe(names) == []
            current_look()
            assert settle_wipe(after) == []
            look = current_look()[0]
            assert look.opacity == 0.3
            assert ([after[int(look.wipe)]] if look.wipe else []) == [each for each in after if each == name]
    for wipe in ("", "image"):
        set_look(Look(wipe=wipe))
        settle_wipe(["c"])
        assert current_look()[0] == Look(wipe=wipe)


def test_a_wipe_of_the_url_counts_the_columns_that_come_with_it(url: dict[str, str]) -> None:
    """As after Back, which restores the columns too."""
    settle_wipe(["a", "b"])
    url["wipe"] = "1"
    current_look()
    settle_wipe(["b", "a"])
    assert url["wipe"] == "1"
    url["wipe"] = "2"
    current_look()
    assert settle_wipe(["b", "a"]) == ["wipe=2 (possible: image, or 0 to 1)"]
    assert "wipe" not in url
