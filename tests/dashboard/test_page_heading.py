"""The four pages begin alike, and say beforehand what cannot be exported."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.shared import page_heading as heading
from dashboard.shared.page_heading import Purpose
from swin_core.figures import report_json as report
from tests.fixtures.pages import opened, run

pytestmark = pytest.mark.usefixtures("one_thread")

PAGES = {"compare": heading.COMPARE, "browse": heading.BROWSE, "train": heading.TRAIN, "inside": heading.INSIDE}


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data sets and no runs, as on a fresh account."""
    monkeypatch.setenv("SWIN_DATA_ROOT", str(tmp_path))
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(tmp_path))


@pytest.fixture(scope="module")
def app() -> AppTest:
    return opened(model="swin_micro_cifar100")


@pytest.mark.parametrize(("name", "purpose"), PAGES.items())
def test_each_page_begins_with_its_question_and_a_sentence(app: AppTest, name: str, purpose: Purpose) -> None:
    run(app.switch_page(f"views/{name}.py"))
    assert [title.value for title in app.title] == [purpose.question]
    assert app.main.caption[0].value == purpose.sentence
    assert not app.subheader  # its level comes below that of a header
    headers = [header.value for header in app.sidebar.header]
    assert headers == [one for one in ("Pictures", "Models", "Look") if one in headers]


def test_a_report_that_would_be_too_large_is_not_offered(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def disabled() -> list[str]:
        return [button.proto.id for button in app.get("download_button") if button.proto.disabled]

    run(app.switch_page("views/compare.py"))
    assert not disabled()
    monkeypatch.setattr(report, "PIXELS_AT_MOST", 1)
    run(app)
    (name,) = disabled()
    assert "export_json" in name
    (line,) = [caption.value for caption in app.caption if "Without JSON" in caption.value]
    assert "choose fewer or smaller ones" in line
    assert "\n" not in line
