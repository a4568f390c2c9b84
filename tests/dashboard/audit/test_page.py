"""The Audit page without a browser: start, stop, findings, dismissed findings, and the read-only mode."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.audit import cards, jobs, repair
from dashboard.shared import datasets
from dashboard.shared.image_selection import ImageSelection
from swin_core.audit.repair import Repair
from swin_core.data.dataset import DataSet
from swin_core.errors import DataError, RunError
from swin_core.runs.listing import Run, SavedWeights
from swin_core.runs.read_only import VARIABLE
from tests.fixtures.audit import corner_model, write_images
from tests.fixtures.pages import ROOT, empty_caches, run
from tests.fixtures.runs import make_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_images(folder / "photos", 10)
    return folder


@pytest.fixture(autouse=True)
def fresh(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One model, one data set, and no audit yet."""
    file = tmp_path / "corner.py"
    file.write_text("from tests.fixtures.audit import corner_model\n\ndef load():\n    return corner_model()\n")
    monkeypatch.setenv("SWINLENS_MODELS", str(file))
    monkeypatch.setenv("SWIN_DATA_ROOT", str(images))
    monkeypatch.setenv("SWIN_CACHE_ROOT", str(tmp_path / "cache"))
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(tmp_path / "runs"))
    empty_caches(monkeypatch, datasets, cards)
    monkeypatch.setattr(jobs.audits, "jobs", {})
    monkeypatch.setattr(jobs.repairs, "jobs", {})


def opened(**query: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=120)
    for name, value in {"model": "corner.py", "audited": "corner.py", **query}.items():
        app.query_params[name] = value
    return run(app.switch_page("views/audit.py"))


def click(app: AppTest, label: str) -> AppTest:
    (button,) = [each for each in app.button if each.label == label]
    button.click()
    return run(app)


def ended(app: AppTest) -> AppTest:
    end = time.monotonic() + 60
    while not all(job.ended.is_set() for job in (*jobs.audits.jobs.values(), *jobs.repairs.jobs.values())):
        assert time.monotonic() < end
        time.sleep(0.05)
    return run(app)


def headlines(app: AppTest) -> list[str]:
    return [text.value for text in app.markdown if text.value.startswith("A region at")]


def test_from_start_to_a_dismissed_finding(tmp_path: Path) -> None:
    app = opened()
    assert "were not audited with this model yet" in app.info[0].value
    app = ended(click(app, "Start"))
    assert app.warning[0].value.startswith("1 finding in 30 images")
    assert [header.value for header in app.main.header] == ["marked"]
    (line,) = headlines(app)
    assert "the lower right corner decides 'marked' in 10 of 10 images" in line.replace("\\", "")
    assert not [button for button in app.button if button.label == "Start"]
    assert sum(len(image.proto.imgs) for image in app.get("image")) == 1 + 8
    assert "photos%2Fall%2F20" in str(app.get("page_link")[-1].proto)
    app = click(app, "Dismiss")
    assert [header.value for header in app.main.header] == []
    again = opened()  # another visitor, after a restart of the server too
    assert [header.value for header in again.main.header] == []
    again = click(again, "Show again")
    assert [header.value for header in again.main.header] == ["marked"]
    (kept,) = (tmp_path / "cache").rglob("audit.json")
    kept.write_text(kept.read_text().replace('"images": 30', '"images": 99'))
    assert opened().warning[0].value.startswith("1 finding in 99 images")
    again = ended(click(opened(), "Audit again"))
    assert again.warning[0].value.startswith("1 finding in 30 images")


def test_a_stopped_audit_offers_to_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reached, go_on = threading.Event(), threading.Event()
    audit = jobs.audit

    def slow(*arguments: object, **options: object) -> object:
        reached.set()
        assert go_on.wait(60)
        return audit(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(jobs, "audit", slow)
    app = click(opened(), "Start")
    assert reached.wait(60)
    assert [button.label for button in app.button if button.label == "Start"] == []
    (job,) = jobs.audits.jobs.values()
    click(app, "Stop")
    assert job.stopped.is_set()
    go_on.set()
    app = ended(app)
    assert not job.error
    app = run(app)
    assert [button.label for button in app.button if button.label == "Start"] == ["Start"]
    monkeypatch.setattr(jobs, "audit", audit)
    assert [header.value for header in ended(click(app, "Start")).main.header] == ["marked"]


def test_a_selection_of_browse_is_audited_alone() -> None:
    rows = [*range(2, 10), *range(12, 20), *range(22, 30), 999]
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=120)
    for name in ("model", "audited"):
        app.query_params[name] = "corner.py"
    app.query_params["audit_selected"] = "true"
    names = frozenset(f"photos/all/{row}" for row in rows)
    app.session_state["image_selection"] = ImageSelection("your selection on the map", names)
    app = run(app.switch_page("views/audit.py"))
    assert app.toggle(key="audit_selected").label == "Only the 24 images of your selection on the map"
    assert "These 24 images were not audited" in app.info[0].value
    app = ended(click(app, "Start"))
    assert app.warning[0].value.startswith("1 finding in 24 images")
    link = str(app.get("page_link")[-1].proto)
    assert all(f"photos%2Fall%2F{row}" in link for row in range(22, 30))
    # The audit of all images is another one.
    app.toggle(key="audit_selected").set_value(False)
    assert "These 30 images were not audited" in run(app).info[0].value


def test_an_error_is_shown_and_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> object:
        raise RunError("the disk is on fire; fetch water.")

    monkeypatch.setattr(jobs, "audit", fail)
    app = ended(click(opened(), "Start"))
    assert "the disk is on fire" in app.error[0].value
    assert [button.label for button in app.button if button.label == "Start"] == ["Start"]


def test_the_read_only_mode_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    app = opened()
    assert not [button for button in app.button if button.label == "Start"]
    assert "no audit can be started here" in [caption.value for caption in app.main.caption][-1]
    with pytest.raises(RunError, match="nothing can be started, changed or deleted here"):
        jobs.start(jobs.Subject("corner.py", "photos", "all"))
    assert not jobs.audits.jobs


def test_without_data_the_page_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIN_DATA_ROOT", str(tmp_path / "nothing"))
    app = opened()
    assert "put a folder of images into" in app.info[0].value


def test_the_example_needs_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIN_DATA_ROOT", str(tmp_path / "nothing"))
    app = opened(audit_example="true")
    assert not app.error
    assert {header.value for header in app.main.header} == {"circles", "triangles"}
    assert "findings in 180 images" in app.warning[0].value
    assert not [button for button in app.button if button.label == "Dismiss"]


def test_a_finding_is_trained_away_and_compared(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = ended(click(opened(), "Start"))
    app = click(app, "Retrain without 1 finding")
    assert not app.exception
    assert app.session_state.recipe == "custom"
    assert app.session_state.setting_data == str(images / "photos")
    file = Path(app.session_state.setting_without)
    (finding,) = json.loads(file.read_text())["findings"]
    assert (finding["class"], finding["kind"]) == ("marked", "place")

    run_folder = tmp_path / "runs" / "20260101-120000-repaired"
    run_folder.mkdir(parents=True)
    (run_folder / "config.json").write_text(json.dumps({"without": str(file)}))
    # The run's own copy, with a finding of an audit before.
    (run_folder / "findings.json").write_text(json.dumps({"findings": [finding, {"class": "blue"}]}))
    monkeypatch.setattr(Run, "checkpoints", lambda self: [SavedWeights(self.folder, self.name, 1, 1, 1.0)])
    monkeypatch.setattr(jobs.cache, "classifier", lambda name: corner_model(looks="repaired" not in name))
    label = "Compare with repaired, trained without it"
    with monkeypatch.context() as closed:
        closed.setenv(VARIABLE, "1")
        (button,) = [each for each in opened().button if each.label == label]
        assert button.disabled
    reached, go_on = threading.Event(), threading.Event()
    compare = jobs.compare_repair

    def slow(*arguments: Any, **options: Any) -> Repair:
        reached.set()
        assert go_on.wait(60)
        return compare(*arguments, **options)

    monkeypatch.setattr(jobs, "compare_repair", slow)
    app = click(opened(), label)
    assert reached.wait(60)
    app = click(app, "Stop")
    go_on.set()
    app = ended(app)
    assert not [frame for frame in app.dataframe if "Right before" in frame.value]
    app = ended(click(app, label))
    (table,) = [frame.value for frame in app.dataframe if "Right before" in frame.value]
    rows = {row["Images"]: (row["Right before"], row["Right after"]) for _, row in table.iterrows()}
    assert rows["blue, with it"] == ("<0.1\N{NO-BREAK SPACE}%", "100\N{NO-BREAK SPACE}%")
    again = opened()  # kept on disk
    assert [frame for frame in again.dataframe if "Right before" in frame.value]


def test_the_chosen_findings_are_trained_away_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(click(opened(), "Start"))
    (kept,) = (tmp_path / "cache").rglob("audit.json")
    values = json.loads(kept.read_text())
    values["findings"].append(values["findings"][0] | {"class": "blue"})
    kept.write_text(json.dumps(values))
    earlier = {"class": "green", "kind": "place", "region": [0, 0, 1, 1], "frame": True}
    first = make_run(tmp_path / "runs", "20250101-120000-first", "finished")
    (first / "findings.json").write_text(json.dumps({"findings": [earlier]}))
    find = repair.runs.find  # the audited model is one of that run
    monkeypatch.setattr(repair.runs, "find", lambda name: find(first.name if name == "corner.py" else name))

    app = click(opened(), "Retrain without 2 findings")
    both = Path(app.session_state.setting_without)
    classes = [finding["class"] for finding in json.loads(both.read_text())["findings"]]
    assert classes == ["marked", "blue", "green"]

    app = opened()
    app.main.checkbox[0].set_value(False)
    app = click(run(app), "Retrain without 1 finding")
    one = Path(app.session_state.setting_without)
    assert [finding["class"] for finding in json.loads(one.read_text())["findings"]] == ["blue", "green"]
    assert one != both

    app = opened()
    for box in app.main.checkbox:
        box.set_value(False)
    (button,) = [each for each in run(app).button if each.label == "Retrain without 0 findings"]
    assert button.disabled


def test_nothing_tested_is_no_all_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "few" / "photos", 2)
    monkeypatch.setenv("SWIN_DATA_ROOT", str(tmp_path / "few"))
    app = ended(click(opened(), "Start"))
    assert "Nothing could be tested on 6 images." in [info.value.replace("\\", "") for info in app.info]
    assert not app.success


def test_all_images_of_a_finding_open_on_browse() -> None:
    app = click(ended(click(opened(), "Start")), "Show these 10 on Browse")
    assert not app.exception
    selection = app.session_state.image_selection
    assert selection.names == {f"photos/all/{number}" for number in range(20, 30)}
    lines = [text.value for text in app.markdown if text.value.startswith("Only the 10 images of")]
    assert len(lines) == 1
    app = click(app, "Show all images")
    assert not [text for text in app.markdown if text.value.startswith("Only the")]


def test_a_split_that_cannot_be_opened_is_not_compared(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened_split, splits = jobs.open_split, ("all", "train", "val", "test")
    (entry,) = datasets.data_sets()
    monkeypatch.setattr(jobs, "data_sets", lambda: [replace(entry, splits=splits)])

    def open_split(collection: str, split: str) -> DataSet:
        if split == "val":
            raise DataError("val is damaged; repair it.")
        return opened_split(collection, "all")

    monkeypatch.setattr(jobs, "open_split", open_split)
    assert len(jobs.Subject("corner.py", entry.name, "test").others()) == 1
