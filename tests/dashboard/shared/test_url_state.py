"""Lists that a page keeps under a query parameter: links, Back, defaults, and old values that are still under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.shared import url_state


def script() -> None:
    import streamlit as st

    from dashboard.shared.url_state import choose_from_list, set_url_list, url_list

    names = url_list("name", ["a"], offered=("a", "b", "c"), most=2, read=str.lower)
    st.text(",".join(names))
    st.button("drop", on_click=set_url_list, args=("name", []))
    st.button("b", on_click=set_url_list, args=("name", ["b"]))
    ignored: list[str] = []
    st.text(choose_from_list("One", ["x", "y"], "one", "option {}".format, "x", ignored))
    st.text(";".join(ignored))


def opened(**query: str | Sequence[str]) -> AppTest:
    app = AppTest.from_function(script)
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def names(app: AppTest) -> str:
    return str(app.text[0].value)


def values(app: AppTest, key: str) -> list[str]:
    found: Any = app.query_params.get(key, [])
    return [found] if isinstance(found, str) else list(found)


@pytest.mark.parametrize(
    ("query", "chosen", "kept"),
    [
        ([], "a", []),
        (["a"], "a", []),
        (["b"], "b", ["b"]),
        (["C", "b"], "c,b", ["c", "b"]),
        (["a", "b", "c"], "a,b", ["a", "b"]),
        (["x"], "a", []),
        ([""], "", [""]),
    ],
)
def test_a_link_says_the_values_and_the_url_keeps_those_that_are_offered(
    query: list[str], chosen: str, kept: list[str]
) -> None:
    app = opened(**({"name": query} if query else {}))
    assert names(app) == chosen
    assert values(app, "name") == kept
    assert names(app.run()) == chosen


def test_a_choice_is_written_and_back_takes_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_state, "STALE_SECONDS", 0)
    app = opened(name="c")
    app.button[1].click().run()
    assert (names(app), values(app, "name")) == ("b", ["b"])
    app.button[0].click().run()
    assert (names(app), values(app, "name")) == ("", [""])
    app.query_params["name"] = "b"  # as Back does
    assert names(app.run()) == "b"
    del app.query_params["name"]
    assert names(app.run()) == "a"


def test_a_url_from_before_a_choice_does_not_undo_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_state, "STALE_SECONDS", 60)
    app = opened(name="c")
    app.button[1].click().run()
    app.query_params["name"] = "c"  # another click, before the browser heard of the first
    app.run()
    assert (names(app), values(app, "name")) == ("b", ["b"])


def test_one_value_is_chosen_by_itself_or_in_words() -> None:
    assert opened(one="y").text[1].value == "y"
    app = opened(one="option y")
    assert (app.text[1].value, values(app, "one")) == ("y", ["y"])
    app.selectbox[0].set_value("x").run()
    assert (app.text[1].value, values(app, "one")) == ("x", ["x"])
    wrong = opened(one="z")
    assert (wrong.text[1].value, wrong.text[2].value) == ("x", "one=z (possible: x, y, option x, option y)")
