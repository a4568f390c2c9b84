"""The form of a new run: its widgets, validation, the check of memory and time, and the start."""

from __future__ import annotations

import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.train import form as training_form
from dashboard.train import new_run, preflight
from dashboard.train.form import GROUPS, fill, label
from dashboard.train.preflight import PreflightCheck, command_line
from swin_core import runs
from swin_core.commands import train
from swin_core.errors import RunError, SwinError
from swin_core.runs.devices import Device
from swin_core.training import RECIPES, TrainConfig, recipe, setting_help, setting_limits
from tests.fixtures.runs import make_run

ROOT = Path(__file__).resolve().parents[3]
NAMES = [field.name for field in fields(TrainConfig)]
MINE = "20260102-030405-mine"
FAST = RECIPES["fast-cifar100"].config
FIGURES = (
    '{"pictures": 9, "steps": 3, "seconds_a_step": 0.5, "images_per_second": 412.0, "seconds": 7500.0, '
    '"memory_bytes": 1800000000, "memory_free_bytes": 7100000000, "fits": %s}'
)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of runs, on a machine with two GPUs."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(folder))
    there = [Device(name, name.upper(), 4 * 10**9, 8 * 10**9, 0.5) for name in ("cpu", "cuda:0", "cuda:1")]
    monkeypatch.setattr(new_run.devices, "list_devices", lambda: there)
    return folder


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[dict[str, Any]]:
    """What was started, which is then a run's folder."""
    found: list[dict[str, Any]] = []

    def start(config: dict[str, Any], **options: Any) -> runs.Run:
        found.append({"config": config, **options})
        make_run(root, MINE, "running", settings=config)
        return runs.find(MINE)

    monkeypatch.setattr(runs, "start", start)
    return found


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a program in the place of the trainer's check; its arguments are written down beside it."""

    def put(source: str) -> Path:
        file = tmp_path / "check.py"
        note = (
            f"import pathlib, sys, time\npathlib.Path({str(tmp_path / 'words')!r}).write_text('|'.join(sys.argv[1:]))\n"
        )
        file.write_text(note + source)
        monkeypatch.setattr(preflight.runs, "TRAINER", (sys.executable, str(file)))
        return tmp_path / "words"

    return put


def opened(recipe_name: str = "fast-cifar100", **settings: Any) -> AppTest:
    """The form of a recipe, as it is after someone wrote some settings into it."""
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60)
    app.switch_page("views/train.py")
    app.query_params["new"] = recipe_name
    app.session_state["devices"] = ["cpu"]
    if settings:
        for key, value in (RECIPES[recipe_name].config.to_dict() | settings).items():
            app.session_state[f"setting_{key}"] = value
        app.session_state["recipe"] = recipe_name
    return run(app)


def run(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception, app.exception
    return app


def click(app: AppTest, name: str) -> AppTest:
    (button,) = (button for button in app.button if button.label == name)
    button.click()
    return run(app)


def disabled(app: AppTest, name: str) -> bool:
    return bool(next(button for button in app.button if button.label == name).disabled)


def words(app: AppTest) -> str:
    parts = [*app.markdown, *app.caption, *app.error, *app.info, *app.success, *app.warning]
    return " ".join(str(part.value) for part in parts).replace("\\", "")


# -- settings


def test_every_setting_has_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(NAMES)
    assert len({label(name) for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", list(RECIPES))
def test_the_form_gives_the_recipe_back(name: str, started: list[dict[str, Any]]) -> None:
    app = opened(name)
    entry = RECIPES[name]
    assert app.session_state.recipe == name
    for text in (entry.purpose, entry.source, entry.time, entry.result):
        assert text in words(app)
    if name == "custom":
        assert disabled(app, "Start")
        assert "Choose a data set" in words(app)
        app.selectbox(key="setting_data").set_value("flowers")
        run(app)
    click(app, "Start")
    assert TrainConfig.from_dict(started[0]["config"]) == (
        replace(entry.config, data="flowers") if name == "custom" else entry.config
    )


def test_each_setting_is_a_widget_of_its_kind_with_what_it_means() -> None:
    app = opened()
    kinds = {bool: "toggle", int: "number_input", float: "number_input"}
    for name in NAMES:
        kind = get_type_hints(TrainConfig)[name]
        widget = app.get_by_key(f"setting_{name}")
        assert widget.type == kinds.get(kind, widget.type)
        assert widget.help.replace("\\", "") == setting_help()[name]
        assert widget.label == label(name)
        if widget.type == "number_input":
            assert (widget.min, widget.max) == setting_limits()[name]


def test_values_of_a_damaged_run_are_brought_within_the_limits() -> None:
    app = opened()
    state: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_form.st, "session_state", state)
        fill({"epochs": 0, "clip": -1.0, "ema": 2, "seed": 7})
    found = [state[f"setting_{name}"] for name in ("epochs", "clip", "ema", "seed")]
    assert found == [1, 0.0, 0.999999, 7]
    for name in ("epochs", "clip", "ema"):
        app.session_state[f"setting_{name}"] = state[f"setting_{name}"]
    assert not run(app).exception


def test_another_recipe_fills_the_form_anew() -> None:
    app = opened()
    app.number_input(key="setting_epochs").set_value(3)
    app.get_by_key("recipe").set_value("flowers")
    run(app)
    assert app.number_input(key="setting_epochs").value == RECIPES["flowers"].config.epochs
    assert app.selectbox(key="setting_data").value == "flowers"
    assert app.query_params["new"] in ("flowers", ["flowers"])


def test_a_change_is_named_and_reaches_the_run(started: list[dict[str, Any]]) -> None:
    app = opened()
    assert "All settings are the recipe's" in words(app)
    app.number_input(key="setting_lr").set_value(0.0005)
    app.toggle(key="setting_flip").set_value(False)
    app.number_input(key="setting_limit").set_value(500)
    app.text_input(key="setting_name").set_value("mine")
    app.number_input(key="processes").set_value(2)
    run(app)
    said = words(app).partition("Changed from the recipe: ")[2]
    for change in ("Learning rate 0.0005", "Flip False", "Number of images (0 for all) 500"):
        assert change in said
    click(app, "Start")
    (start,) = started
    assert TrainConfig.from_dict(start["config"]) == replace(FAST, lr=0.0005, flip=False, limit=500, name="mine")
    assert (start["devices"], start["processes"]) == (("cpu",), 2)
    # The run's own view follows.
    assert app.query_params["run"] in (MINE, [MINE])
    assert "running" in words(app)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("epochs", None, "Epochs is empty"),
        ("name", "--x; touch p", "name '--x; touch p' must be 1 to 64 letters"),
        ("name", "<img src=x onerror=alert(1)>", "must be 1 to 64 letters"),
        ("init", "../../secret.safetensors", "Start from: a model's name consists of"),
        ("init", "nothing_of_that_name", "Start from: there is no model"),
        ("teacher", "/etc/passwd", "Teacher: a model's name consists of"),
        ("crop_padding", 40, "crop_padding must lie between 0 and 31 for images of 32 pixels, not 40"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_and_nothing_starts(
    name: str, value: Any, said: str, started: list[dict[str, Any]]
) -> None:
    app = opened("fast-cifar100", **{name: value})
    (error,) = app.error
    assert said in error.value.replace("\\", "")
    assert "\n" not in error.value
    assert "<img" not in error.value.replace("\\<img", "")
    assert disabled(app, "Start")
    assert disabled(app, "Check memory and time")
    assert not started


def test_values_stay_when_another_page_is_visited() -> None:
    app = opened()
    app.number_input(key="setting_epochs").set_value(7)
    run(app)
    app.switch_page("views/models.py")
    run(app)
    app.switch_page("views/train.py")
    app.query_params["new"] = "fast-cifar100"
    assert run(app).number_input(key="setting_epochs").value == 7


# -- devices and the start


def test_gpus_take_one_program_each_and_do_not_mix_with_the_cpu(started: list[dict[str, Any]]) -> None:
    app = opened()
    for name in ("CPU", "CUDA:0", "CUDA:1"):
        assert f"{name}, 4.0 of 8.0 GB free" in words(app)
    app.session_state.devices = ["cpu", "cuda:0"]
    assert "not on both" in run(app).error[0].value
    app.session_state.devices = ["cuda:0", "cuda:1"]
    run(app)
    assert app.number_input(key="processes 2").disabled
    click(app, "Start")
    assert (started[0]["devices"], started[0]["processes"]) == (("cuda:0", "cuda:1"), 2)


def test_a_device_that_is_in_use_is_named_and_the_refusal_is_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "busy", lambda names: {"cpu": root / MINE})

    def start(config: dict[str, Any], **options: Any) -> runs.Run:
        raise RunError(f"cpu is in use by run {MINE}; stop it.", busy=True)

    monkeypatch.setattr(runs, "start", start)
    app = opened()
    assert f"in use by run {MINE}" in words(app)
    (error,) = click(app, "Start").error
    assert "stop it" in error.value
    (error,) = run(app).error  # until it is dismissed
    assert not click(app, "Dismiss").error
    assert app.title[0].value == "New run"


def test_without_a_device_nothing_starts() -> None:
    app = opened()
    app.session_state.devices = []
    assert disabled(run(app), "Start")


# -- the check of memory and time


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_config_survives_the_command_line(name: str) -> None:
    odd = recipe(name, flip=False, checkpointing=True, lr=1e-5, name="x-", data="a b;c", clip=0.0)
    given = train.parser().parse_args(command_line(name, odd))
    assert recipe(given.recipe, **train.settings_of(given)) == odd
    assert command_line(name, RECIPES[name].config) == [name]


def settled(app: AppTest) -> AppTest:
    """Run the page as its fragment does, until nothing is being measured."""
    until = time.monotonic() + 30
    while "Measuring" in words(app):
        assert time.monotonic() < until
        time.sleep(0.1)
        run(app)
    return app


@pytest.mark.parametrize(("fits", "said"), [("true", "412 images/s"), ("false", "It does not fit")])
def test_memory_and_time_are_measured_beside_the_page(program: Any, fits: str, said: str) -> None:
    arguments_seen = program(f"print('noise')\ntime.sleep(1)\nprint('''{FIGURES % fits}''')")
    app = opened()
    app.number_input(key="setting_batch_size").set_value(32)
    app.number_input(key="processes").set_value(2)
    run(app)
    start = time.perf_counter()
    click(app, "Check memory and time")
    assert time.perf_counter() - start < 0.9
    assert "Measuring a few steps" in words(app)
    settled(app)
    for part in ("About 2 h 5 min", "1.8 GB of memory, 7.1 GB are free", said):
        assert part in words(app)
    assert arguments_seen.read_text() == "fast-cifar100|--batch-size=32|--check|--devices|cpu|--processes=2"
    # Another setting makes it out of date.
    app.number_input(key="setting_batch_size").set_value(64)
    run(app)
    assert "About 2 h" not in words(app)
    assert "The settings changed since the last check" in words(app)


def test_a_check_can_be_cancelled(program: Any) -> None:
    program("time.sleep(60)")
    app = click(opened(), "Check memory and time")
    check = app.session_state["preflight"]
    assert "Measuring a few steps" in words(app)
    click(app, "Cancel")
    assert "Measuring a few steps" not in words(app)
    assert not check.under_way


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("print('swinlens train: no CIFAR-100 at <b>x</b>', file=sys.stderr)\nsys.exit(1)", "no CIFAR-100 at <b>x</b>"),
        ("sys.exit(5)", "ended with code 5"),
        ("print('nothing')", "returned no metrics"),
        ("print('[]')", "returned no metrics"),
    ],
)
def test_a_check_that_fails_is_one_line(program: Any, source: str, said: str) -> None:
    program(source)
    app = settled(click(opened(), "Check memory and time"))
    (error,) = app.error
    assert said in error.value.replace("\\", "")
    assert "<b>" not in error.value.replace("\\<b", "")


def test_a_check_that_nobody_waits_for_is_ended(program: Any, started: list[dict[str, Any]]) -> None:
    program("time.sleep(60)")
    app = click(opened(), "Check memory and time")
    first: PreflightCheck = app.session_state.preflight
    click(app, "Check memory and time")
    second: PreflightCheck = app.session_state.preflight
    click(app, "Start")
    for check in (first, second):
        assert check is not None
        until = time.monotonic() + 10
        while check.under_way and time.monotonic() < until:
            time.sleep(0.05)
        assert not check.under_way


def test_a_check_that_takes_too_long_is_given_up(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    program("time.sleep(60)")
    monkeypatch.setattr(preflight, "TIMEOUT_SECONDS", 0)
    check = PreflightCheck("fast-cifar100", FAST, ["cpu"], 1)
    with pytest.raises(SwinError, match="took longer"):
        check.result()


def test_a_check_whose_tab_is_closed_is_ended(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    program("time.sleep(60)")
    monkeypatch.setattr(preflight, "ABANDONED_SECONDS", 2)
    asked, closed = (PreflightCheck("fast-cifar100", FAST, ["cpu"], 1) for _ in range(2))
    until = time.monotonic() + 20
    while closed.under_way and time.monotonic() < until:
        assert asked.result() is None
        time.sleep(0.05)
    assert not closed.under_way
    assert asked.under_way
    asked.stop()
