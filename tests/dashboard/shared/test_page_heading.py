"""All pages start with the same heading; a new page takes a view and a line; exports that cannot work are disabled."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.shared.page_heading import PAGES, PageTexts
from swin_core.figures import report_json
from tests.fixtures.pages import ROOT, opened, run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data sets and no runs, as on a fresh account."""
    monkeypatch.setenv("SWIN_DATA_ROOT", str(tmp_path))
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(tmp_path))


@pytest.fixture(scope="module")
def app() -> AppTest:
    return opened(model="swin_micro_cifar100")


@pytest.mark.parametrize(("name", "page"), PAGES.items())
def test_each_page_starts_with_its_heading_and_a_sentence(app: AppTest, name: str, page: PageTexts) -> None:
    run(app.switch_page(f"views/{name}.py"))
    assert [title.value for title in app.title] == [page.heading]
    assert app.main.caption[0].value == page.sentence
    assert not app.subheader  # its level comes below that of a header
    headers = [header.value for header in app.sidebar.header]
    assert headers == [header for header in ("Images", "Models", "Look") if header in headers]


def test_a_page_is_one_view_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "dashboard", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    view = "import streamlit as st\nfrom dashboard.shared.page_heading import show_heading\n"
    view += "with show_heading('toy'):\n    st.button('Play')\nst.write('A toy.')\n"
    (tmp_path / "app" / "views" / "toy.py").write_text(view)
    monkeypatch.setitem(PAGES, "toy", PageTexts("Toy", "toys", "Play with the toy", "Press the button."))
    app = run(AppTest.from_file(str(tmp_path / "app" / "main.py"), default_timeout=120).switch_page("views/toy.py"))
    assert app.title[0].value == "Play with the toy"
    assert [text.value for text in (*app.caption, *app.markdown)] == ["Press the button.", "A toy."]
    assert [button.label for button in app.button] == ["Play"]


def test_a_report_that_would_be_too_large_is_not_offered(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def disabled() -> list[str]:
        return [button.proto.id for button in app.get("download_button") if button.proto.disabled]

    run(app.switch_page("views/compare.py"))
    assert not disabled()
    monkeypatch.setattr(report_json, "PIXELS_AT_MOST", 1)
    run(app)
    (name,) = disabled()
    assert "export_json" in name
    (line,) = [caption.value for caption in app.caption if "Without JSON" in caption.value]
    assert "choose fewer or smaller ones" in line
    assert "\n" not in line
