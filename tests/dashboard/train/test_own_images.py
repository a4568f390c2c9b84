"""The Train page on a folder of one's own: what is skipped before the start, the Images tab, marks, going on longer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.train import folder_view, new_run
from swin_core import runs
from swin_core.runs.devices import Device
from tests.fixtures.images import write_messy_folder
from tests.fixtures.runs import make_run

ROOT = Path(__file__).resolve().parents[3]
MINE = "20260102-030405-mine"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(folder))
    monkeypatch.setattr("swin_core.images.read._reads_heif", lambda: False)
    monkeypatch.setattr(
        new_run.devices, "list_devices", lambda: [Device("cpu", "CPU, 2 cores", 4 * 10**9, 8 * 10**9, 0.5)]
    )
    folder_view._facts.clear()
    return folder


def opened(**query: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60)
    app.switch_page("views/train.py")
    for name, value in query.items():
        app.query_params[name] = value
    return run(app)


def run(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception, app.exception
    return app


def words(app: AppTest) -> str:
    parts = [*app.markdown, *app.caption, *app.error, *app.info, *app.warning]
    return " ".join([str(part.value) for part in parts] + [one.label for one in app.expander]).replace("\\", "")


def tables(app: AppTest) -> list[dict[str, list[Any]]]:
    return [frame.value.to_dict("list") for frame in app.dataframe]


def start_button(app: AppTest) -> Any:
    (button,) = (button for button in app.button if button.label == "Start")
    return button


def form_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The form with a folder; a select box of AppTest takes no text that is not offered."""
    monkeypatch.setattr("dashboard.train.form.trainable", lambda: [str(folder)])
    app = opened(new="custom")
    app.selectbox(key="setting_data").set_value(str(folder))
    return run(app)


def test_what_will_be_skipped_is_listed_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = form_with(write_messy_folder(tmp_path / "messy"), monkeypatch)
    assert "2 classes: cat, dog. 15 images to train on and 1 to validate on." in words(app)
    assert "Skipped 4 files: 3 of cat, 1 of nothing; no validation image of dog" in words(app)
    (skipped,) = [table for table in tables(app) if "Why" in table]
    assert skipped["File"] == ["cat/empty.jpg", "cat/notes.txt", "cat/phone.heic", "nothing"]
    assert not start_button(app).disabled
    app.toggle(key="setting_strict").set_value(True)
    run(app)
    assert "4 files cannot be used: cat/empty.jpg" in words(app)
    assert start_button(app).disabled


def test_a_folder_that_cannot_be_trained_on_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_messy_folder(tmp_path / "zip" / "photos")
    app = form_with(tmp_path / "zip", monkeypatch)
    assert "has a single class, photos, and a classifier needs two or more; did you mean" in words(app)
    assert start_button(app).disabled


@pytest.fixture
def uneven(root: Path) -> Path:
    folder = make_run(root, MINE, settings={"limit": 500, "epochs": 5})
    classes = {"ant": {"train": 180, "validation": 20}, "bee": {"train": 8, "validation": 1}}
    skipped = [{"name": "ant/x.jpg", "class": "ant", "reason": "is empty"}]
    (folder / "data.json").write_text(json.dumps({"classes": classes, "skipped": skipped}))
    validation = {"epoch": 5, "labels": ["ant", "bee"], "per_class": [0.95, 0.0], "confusion": [[19, 1], [1, 0]]}
    (folder / "validation.json").write_text(json.dumps(validation))
    runs.add_change(folder, 3, {"lr": (0.002, 0.001)})
    return folder


def test_a_runs_page_shows_images_recall_and_marks(uneven: Path) -> None:
    app = opened(run=MINE)
    counts, skipped = [table for table in tables(app) if "name" in table]
    assert counts == {"name": ["ant", "bee"], "train": [180, 8], "validation": [20, 1], "recall": [95.0, 0.0]}
    assert skipped == {"name": ["ant/x.jpg"], "class": ["ant"], "reason": ["is empty"]}
    said = words(app)
    assert "limited to 500 images; changed after epoch 3: lr 0.002 to 0.001" in said
    assert "skipped 1 file: 1 of ant" in said
    assert "Last balanced accuracy" in [metric.label for metric in app.metric]


def test_the_list_marks_a_limited_run(uneven: Path) -> None:
    (table,) = [table for table in tables(opened()) if "remarks" in table]
    assert table["remarks"][0] == "limited to 500 images; changed after epoch 3: lr 0.002 to 0.001"
    assert set(table["remarks"][1:]) <= {""}


def test_a_finished_run_goes_on_longer(uneven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resumed = []
    monkeypatch.setattr(runs, "resume", lambda run: resumed.append(run.name))
    app = opened(run=MINE)
    app.number_input(key=f"epochs of {MINE}").set_value(12)
    (button,) = (button for button in app.button if button.label == "Go on")
    button.click()
    run(app)
    assert resumed == [MINE]
    assert runs.read_config(uneven)["epochs"] == 12
    assert runs.read_changes(uneven)[-1] == {"epoch": 5, "settings": {"epochs": [5, 12]}}
