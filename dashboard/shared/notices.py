"""Messages about what happened once, such as a refused upload: they stay in the session until they are dismissed."""

from typing import Literal

import streamlit as st

from dashboard.shared.theme import escape_markdown


def set_notice(key: str, text: str) -> None:
    """Keep a message under a key, in place of an earlier one; an empty text removes it."""
    notices = st.session_state.setdefault("notices", {})
    if text:
        notices[key] = text
    else:
        notices.pop(key, None)


def notice(key: str) -> str:
    """Return the message under a key, or an empty text."""
    return str(st.session_state.get("notices", {}).get(key, ""))


def show_notice(key: str, kind: Literal["warning", "error"] = "warning") -> None:
    """Draw the message under a key, if there is one, with a button that dismisses it."""
    if not (text := notice(key)):
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key=f"notice_{key}"):
        if kind == "error":
            st.error(escape_markdown(text), icon=":material/error:")
        else:
            st.warning(escape_markdown(text), icon=":material/warning:")
        st.button(
            "Dismiss",
            icon=":material/close:",
            type="tertiary",
            key=f"dismiss_{key}",
            on_click=set_notice,
            args=(key, ""),
        )
