"""The dashboard as it is shown to others: `SWINLENS_READ_ONLY=1`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.shared.model_names import model_source, offered_models
from dashboard.train.preflight import PreflightCheck
from swin_core import runs
from swin_core.errors import ModelError, RunError
from swin_core.runs.read_only import NOTE, VARIABLE, is_read_only
from swin_core.training import RECIPES
from swin_core.training.changes import change_settings

ROOT = Path(__file__).resolve().parents[2]
ACTIONS = re.compile("New run|Use this recipe|Start|Stop|Resume|Go on|Rename|Delete|Save and compare|Check memory")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Run:
    """A run that failed, which could be resumed, in the read-only mode."""
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(tmp_path))
    folder = runs.create({**RECIPES["fast-cifar100"].config.to_dict(), "name": "mine"})
    runs.write_status(folder, state="failed", message="made for a test")
    monkeypatch.setenv(VARIABLE, "1")
    return runs.find(folder.name)


def test_the_variable_turns_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, expected in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv(VARIABLE, value)
        assert is_read_only() is expected


def test_whatever_changes_a_run_refuses(run: runs.Run) -> None:
    config = RECIPES["fast-cifar100"].config
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()}
    for change in (
        lambda: runs.start(config.to_dict()),
        lambda: runs.resume(run),
        lambda: runs.request_stop(run),
        lambda: runs.kill(run),
        lambda: runs.rename(run, "other"),
        lambda: runs.delete(run),
        lambda: runs.write_notes(run, "text"),
        lambda: change_settings(run.folder, {"epochs": 2}),
        lambda: PreflightCheck("fast-cifar100", config, ("cpu",), 1),
    ):
        with pytest.raises(RunError, match="nothing can be started, changed or deleted here"):
            change()
    assert {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file()} == before
    assert [one.name for one in runs.list_runs()] == [run.name]


def test_models_are_those_that_are_offered(run: runs.Run) -> None:
    for name in ("timm/resnet18", "hf/microsoft/swin", "assets/swin_micro_flowers.safetensors", "../x", "nobody"):
        with pytest.raises(ModelError, match="this dashboard is read-only"):
            model_source(name)
    for name in offered_models():
        assert model_source(name)


@pytest.mark.parametrize("view", ["train", "models", "run", "new"])
def test_pages_say_so_and_offer_no_action(run: runs.Run, view: str) -> None:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=120)
    app.switch_page(f"views/{'models' if view == 'models' else 'train'}.py")
    if view == "run":
        app.query_params["run"] = run.name
    elif view == "new":
        app.query_params["new"] = "fast-cifar100"
    app.run()
    assert not app.exception
    assert app.main.caption[0].value == NOTE
    assert not [button.label for button in app.button if ACTIONS.search(button.label)]
    assert not app.get("file_uploader")
    assert all(area.disabled for area in app.text_area)
