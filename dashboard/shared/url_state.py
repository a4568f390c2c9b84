"""Query parameters: lists that pages keep under one, and a report of values that no widget accepts."""

import time
from collections.abc import Callable, Collection, Sequence

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dashboard.shared.model_names import unique
from dashboard.shared.notices import notice, set_notice, show_notice
from swin_core.comparisons.compare import MODELS_AT_MOST

ON_OFF = ("true", "false")
"""Values of a toggle."""
LISTED_VALUES = 12
"""Accepted values that a warning lists."""
IGNORED = "ignored"
"""Key of the notice about ignored values."""

STALE_SECONDS = 1.0
"""A browser that still sends the values from before a change so soon after it has not heard of the change."""

_second_run = st.components.v2.component(
    "swinlens_settler", js="export default ({ setTriggerValue }) => setTriggerValue('settled', true)"
)


def unknown_values(key: str, offered: Sequence[str]) -> list[str]:
    """Return a warning if a query parameter has values that are not offered; call it before the widget is made."""
    ignored = [value for value in st.query_params.get_all(key) if value and value not in offered]
    possible = ", ".join(offered[:LISTED_VALUES]) + (" ..." if len(offered) > LISTED_VALUES else "")
    return [f"{key}={', '.join(ignored)} (possible: {possible})"] if ignored else []


def unknown_link_values(key: str, offered: Sequence[str]) -> list[str]:
    """Return the warning of `unknown_values` if a link has set them; a choice of this session ends without a word."""
    return [] if key in st.session_state else unknown_values(key, offered)


def surplus_models() -> list[str]:
    """Return a warning if the URL names more models than there are columns; call it before the widget is made."""
    ignored = st.query_params.get_all("model")[MODELS_AT_MOST:]
    return [f"model={', '.join(ignored)} (possible: up to {MODELS_AT_MOST} models)"] if ignored else []


def invalid_number(key: str, least: int, most: int) -> list[str]:
    """Return a warning if a query parameter is not an integer in the range; call it before the widget is made."""
    ignored = [value for value in st.query_params.get_all(key) if not is_integer(value, least, most)]
    return [f"{key}={', '.join(ignored)} (possible: {least} to {most})"] if ignored else []


def is_integer(text: str, least: int, most: int) -> bool:
    """Return whether a text is an integer of the range in ASCII digits; `int` also accepts other digits and `_`."""
    return text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most


def settle(ignored: list[str]) -> None:
    """Let the browser request a second run of the page if the URL has query parameters.

    When the user changes pages, Streamlit restores the state of widgets from before the last run that the browser
    requested. Without a second run, choices of a link would be lost on the next page; `st.rerun` does not help.

    Args:
        ignored: warnings of this run, which `show_ignored` repeats in the second one.
    """
    # Keep the place in the second run: without it, all below moves up, is drawn anew and loses a click.
    place = st.container(key="settler")
    if not st.session_state.settled and len(st.query_params):
        _keep(ignored)
        with place:
            _second_run(key="settle", on_settled_change=_on_second_run)


def _on_second_run() -> None:
    st.session_state.settled = True


def show_ignored(ignored: list[str], container: st.delta_generator.DeltaGenerator) -> None:
    """Show the warnings of this run, after those of earlier runs of the page that were not dismissed."""
    _keep(ignored)
    with container:
        show_notice(IGNORED)


def _keep(ignored: list[str]) -> None:
    # Streamlit corrects the URL, so that only the first run of the page sees what was wrong.
    before = st.session_state.get("ignored", []) if notice(IGNORED) else []
    st.session_state.ignored = unique([before, ignored])
    if st.session_state.ignored:
        values = "; ".join(st.session_state.ignored)
        set_notice(IGNORED, f"These values in the URL were ignored: {values}.")


def url_list(
    key: str,
    default: Sequence[str],
    offered: Collection[str] | None = None,
    most: int | None = None,
    read: Callable[[str], str] = str,
) -> list[str]:
    """Return the values under a query parameter that belongs to no widget, and write them to the URL.

    They outlive a visit to another page. A link, and Back in the browser, replace what `set_url_list` set. No parameter
    stands for `default`, an empty one for no value.

    Args:
        key: the query parameter.
        default: the values without the parameter, or if it holds none that is offered.
        offered: values to accept; None for any.
        most: number of values to accept.
        read: turns a value of the URL, which may be that of an older link, into one of this list.
    """
    lists: dict[str, list[str]] = st.session_state.setdefault("url_lists", {})
    written: dict[str, tuple[float, list[str], list[str]]] = st.session_state.setdefault("url_written", {})
    in_url = st.query_params.get_all(key)
    when, before, last = written.get(key, (0.0, [], []))
    stale = in_url == before and time.monotonic() - when < STALE_SECONDS and not follows_back()
    if in_url != last and not stale:
        values = [read(value) for value in in_url if value]
        accepted = unique([[value for value in values if offered is None or value in offered]])[:most]
        if accepted or in_url == [""]:
            lists[key] = accepted
        else:
            lists.pop(key, None)
    values = lists.get(key, list(default))
    wanted = [] if values == list(default) else values or [""]
    if wanted != last:
        written[key] = time.monotonic(), in_url, wanted
    if wanted != in_url:
        if wanted:
            st.query_params[key] = wanted
        else:
            st.query_params.pop(key, None)
    return list(values)


def follows_back() -> bool:
    """Return whether the user pressed Back or Forward before this run, so that the URL is right and widgets are not."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def choose_from_list(
    label: str, options: Sequence[str], key: str, words: Callable[[str], str], start: str, ignored: list[str]
) -> str:
    """Draw a select box whose query parameter holds the option itself, while people read it in words.

    Args:
        label: its label.
        options: what can be chosen.
        key: the widget's key, and the query parameter.
        words: an option in words; links may hold these too.
        start: the option without the parameter.
        ignored: receives a warning about a value in the URL that is not offered.
    """
    by_words = {words(option): option for option in options}
    if key not in st.session_state.get("url_lists", {}):
        ignored += unknown_values(key, unique([options, list(by_words)]))
    chosen = url_list(key, [], options, 1, lambda value: by_words.get(value, value))
    st.session_state[key] = chosen[0] if chosen and chosen[0] in options else start
    return st.selectbox(label, options, format_func=words, key=key, on_change=_take_choice, args=(key,))


def _take_choice(key: str) -> None:
    set_url_list(key, [st.session_state[key]])


def set_url_list(key: str, values: Sequence[str]) -> None:
    """Replace the values of `url_list`; call it in a callback, or before `url_list` in a run."""
    st.session_state.setdefault("url_lists", {})[key] = list(values)


def forget_written_lists() -> None:
    """Start another page: its URL either names values, or takes those of the page before."""
    st.session_state.url_written = {}
