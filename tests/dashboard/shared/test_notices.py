"""Notices stay over reruns and other pages until they are dismissed."""

from streamlit.testing.v1 import AppTest


def _page() -> None:
    import streamlit as st

    from dashboard.shared.notices import notice, set_notice, show_notice

    st.button("Refuse", on_click=set_notice, args=("a", "Left out: *b*."))
    st.button("Accept", on_click=set_notice, args=("a", ""))
    st.button("Other")
    show_notice("a")
    show_notice("c", "error")
    st.text(notice("a"))


def click(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    app.run()
    assert not app.exception
    return app


def test_a_notice_stays_until_it_is_dismissed() -> None:
    app = AppTest.from_function(_page, default_timeout=120).run()
    assert not app.warning
    click(app, "Refuse")
    for _ in range(2):
        assert [warning.value for warning in app.warning] == [r"Left out\: \*b\*\."]
        click(app, "Other")
    click(app, "Dismiss")
    assert not app.warning
    assert not click(app, "Other").warning


def test_a_success_removes_it() -> None:
    app = AppTest.from_function(_page, default_timeout=120).run()
    click(app, "Refuse")
    click(app, "Accept")
    assert not app.warning
    assert not app.error
