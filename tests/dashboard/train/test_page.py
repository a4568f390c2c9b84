"""The Train page without a browser: the list of runs, the view of one, and its checkpoints."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import swin_core
from dashboard.shared.model_names import model_title
from dashboard.train import new_run, run_list
from swin_core import runs
from swin_core.errors import RunError
from swin_core.runs.devices import Device
from swin_core.training import RECIPES
from swin_core.training.recipes import nearest_recipe
from tests.fixtures.pages import cells, shown
from tests.fixtures.runs import epoch_line, make_run, write_lines

ROOT = Path(__file__).resolve().parents[3]
MINE, OTHER = "20260102-030405-mine", "20260103-030405-other"
ATTACK = "<img src=x onerror=alert(1)>"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of runs, on a machine that has a CPU only."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(folder))
    monkeypatch.setattr(
        new_run.devices, "list_devices", lambda: [Device("cpu", "CPU, 2 cores", 4 * 10**9, 8 * 10**9, 0.5)]
    )
    return folder


def opened(**query: str) -> AppTest:
    """The page, with the address that leads to it."""
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=60)
    app.switch_page("views/train.py")
    for name, value in query.items():
        app.query_params[name] = value
    return run(app)


def run(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception, app.exception
    return app


def click(app: AppTest, label: str) -> AppTest:
    (button,) = (button for button in app.button if button.label == label)
    button.click()
    return run(app)


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def charts(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def words(app: AppTest) -> str:
    """All text that Markdown draws, as a person reads it."""
    parts = [*app.markdown, *app.caption, *app.error, *app.info, *app.title, *app.success, *app.warning]
    return " ".join(str(part.value) for part in parts).replace("\\", "")


def select(app: AppTest, table: str, rows: list[int]) -> None:
    app.session_state[table] = {"selection": {"rows": rows, "columns": [], "cells": []}}


def ticked(app: AppTest, table: str) -> list[str]:
    names, chosen = app.session_state["ticks"][table]
    assert [names[row] for row in app.session_state[table]["selection"]["rows"]] == chosen
    return chosen


# -- the list


def test_a_newcomer_sees_recipes_with_time_and_result_and_the_bundled_curves() -> None:
    app = opened()
    for name, entry in RECIPES.items():
        assert name in words(app)
        assert entry.time in words(app)
        assert entry.result in words(app)
    card = json.loads((ROOT / "assets" / "swin_micro_cifar100.json").read_text("utf-8"))
    top1 = next(trace for trace in charts(app)[1]["data"] if trace["name"] == "Swin S · 100 things")
    assert top1["y"] == pytest.approx([line["top1"] for line in card["epochs"]], rel=1e-4)
    titles = [row["name"] for row in app.dataframe[0].value.to_dict("records")]
    assert titles == [model_title(name) for name in swin_core.available()]
    app.button(key="use flowers").click()
    assert run(app).title[0].value == "New run"
    assert app.text_input(key="setting_name").value == "flowers"


def test_each_run_is_a_row_newest_first_and_the_one_that_runs_is_drawn(root: Path) -> None:
    make_run(root, MINE, "running", epochs=6, settings={"lr": 0.5, "data": "/some/where/photos"})
    make_run(root, OTHER, "failed", reason="no space left on the device")
    app = opened()
    rows = app.dataframe[0].value.to_dict("records")
    assert [row["name"] for row in rows][:2] == ["other", "mine"]
    mine = rows[1]
    assert (mine["state"], mine["epoch"], mine["devices"], mine["data"]) == (["running"], "6 / 12", "cpu", "photos")
    assert mine["best"] == pytest.approx(100 * epoch_line(6)["top1"])
    assert (mine["speed"], mine["left"], mine["recipe"]) == (412.0, "1 h 1 min", "fast-cifar100 + 3")
    assert mine["seen"].endswith("s ago")
    assert list(mine["curve"]) == pytest.approx([epoch_line(e)["top1"] for e in range(1, 7)], abs=1e-4)
    assert rows[0]["state"] == ["failed"]
    assert {trace["name"] for chart in charts(app) for trace in chart["data"]} == {
        "mine",
        "mine training",
        "mine validation",
    }


def test_ticked_rows_are_drawn_over_each_other_and_stay_ticked_when_a_run_comes(root: Path) -> None:
    make_run(root, MINE)
    app = opened()
    select(app, "runs_table", [0, 2])
    assert ticked(run(app), "runs_table") == [MINE, "swin_milli_flowers"]
    assert [trace["name"] for trace in charts(app)[1]["data"]] == ["mine", "Swin M · 5 flowers"]
    colour = charts(app)[1]["data"][1]["line"]["color"]
    # A shell starts a run: it takes the first row, and the ticks move on by one.
    make_run(root, OTHER)
    assert ticked(run(app), "runs_table") == [MINE, "swin_milli_flowers"]
    assert app.session_state.runs_table["selection"]["rows"] == [1, 3]
    select(app, "runs_table", [0, 3])
    run(app)
    assert charts(app)[1]["data"][1]["line"]["color"] == colour
    assert charts(app)[1]["data"][0]["line"]["color"] != colour


def test_more_runs_than_colours_are_not_drawn(root: Path) -> None:
    for number in range(10):
        make_run(root, f"202601{number + 10}-030405-run{number}", epochs=2)
    app = opened()
    select(app, "runs_table", list(range(10)))
    run(app)
    assert len(charts(app)[1]["data"]) == run_list.SHOWN_AT_MOST
    assert "Only the first 8 of the ticked runs are drawn" in words(app)


def test_half_written_odd_and_missing_figures_are_drawn(root: Path) -> None:
    odd = make_run(root, MINE, "running")
    lines = [epoch_line(1), epoch_line(2, loss=math.nan, top1=math.inf), epoch_line(3, top5=None), epoch_line(4)]
    write_lines(odd / "metrics.jsonl", lines)
    with (odd / "metrics.jsonl").open("a") as file:
        file.write('[1, 2]\n{"epoch": 5, "loss": "x"}\n{"epoch": 6, "lo')
    with (odd / "steps.jsonl").open("a") as file:
        file.write('{"step": 99, "epoch": NaN, "loss": Infinity}\n\0\0{')
    (odd / "status.json").write_text('{"state": "running", "epoch": "x", "seconds_left": NaN, "best_top1": []')
    make_run(root, OTHER, "stopped")
    for name in ("config.json", "launch.json", "status.json", "metrics.jsonl", "steps.jsonl"):
        (root / OTHER / name).write_text("")
    app = opened()
    assert app.dataframe[0].value["best"][1] == pytest.approx(100 * epoch_line(4)["top1"])
    select(app, "runs_table", [0, 1])
    run(app)
    top1 = next(trace for trace in charts(app)[1]["data"] if trace["name"] == "mine")
    assert top1["y"][1] is None
    assert top1["y"][3] == pytest.approx(epoch_line(4)["top1"], rel=1e-4)
    for name in (MINE, OTHER):
        assert opened(run=name).title[0].value


def test_names_and_reasons_are_inert(root: Path) -> None:
    name = f"20260104-030405-{ATTACK}"
    folder = make_run(root, name, "failed", reason=f"{ATTACK} :material/bug_report: $x^2$", settings={"data": ATTACK})
    (folder / "log.txt").write_text(ATTACK)
    (folder / "notes.txt").write_text(ATTACK)
    for app in (opened(), opened(run=name)):
        drawn = [*app.markdown, *app.caption, *app.title, *app.error, *app.html]
        assert ATTACK in words(app) + " ".join(part.value for part in app.html).replace("&lt;", "<").replace(
            "&gt;", ">"
        )
        for part in drawn:
            assert "<img" not in str(part.value).replace("\\<img", "")
        for chart in charts(app):
            assert "<img" not in json.dumps(chart)


@pytest.mark.parametrize("name", ["../elsewhere", "/etc", "nothing", ".", "a\0b", ATTACK])
def test_a_run_that_is_not_there_is_one_line(name: str) -> None:
    app = opened(run=name)
    (error,) = app.error
    assert "\n" not in error.value
    assert "<img" not in error.value.replace("\\<img", "")
    assert not click(app, "All runs").error


def test_only_what_is_alive_is_read_again_and_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    fragment = st.fragment

    def watched(function: Any = None, *, run_every: Any = None, **options: Any) -> Any:
        asked.append(run_every)
        return fragment(function, run_every=run_every, **options)

    monkeypatch.setattr(st, "fragment", watched)
    make_run(root, MINE, "stopped")
    opened()
    opened(run=MINE)
    opened(new="flowers")
    assert set(asked) <= {None}
    make_run(root, OTHER, "running")
    asked.clear()
    opened()
    opened(run=OTHER)
    assert asked == [run_list.REFRESH_SECONDS] * 2


def test_ten_runs_of_three_hundred_epochs_grow_on_the_page(root: Path) -> None:
    for number in range(10):
        folder = make_run(root, f"202601{number + 10}-030405-run{number}", "running" if number > 7 else "finished", 300)
        (folder / "checkpoints" / "best.safetensors").write_bytes(b"x")
    app = opened(smoothing="5")
    select(app, "runs_table", list(range(10)))
    run(app)
    assert len(charts(app)[0]["data"]) == 4 * run_list.SHOWN_AT_MOST
    for epoch in range(301, 306):
        for number in (8, 9):
            folder = root / f"202601{number + 10}-030405-run{number}"
            with (folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(epoch_line(epoch)) + "\n")
        run(app)
    assert len(charts(app)[1]["data"][1]["x"]) >= 305


# -- a run's own view


def test_a_running_run_can_be_asked_to_stop_and_then_be_ended(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(root, MINE, "running")
    app = opened(run=MINE)
    assert app.title[0].value == "mine"
    assert {"Stop"} <= set(labels(app))
    assert not {"Resume", "Delete for good", "Stop now"} & set(labels(app))
    assert "Epoch 5 / 10" in app.progress[0].text
    values = {metric.label: metric.value.replace("\\", "") for metric in app.metric}
    assert (values["Images per second"], values["Time left"], values["Trained for"]) == ("412", "1 h 1 min", "5 min")
    assert values["Best top-1"] == f"{epoch_line(5)['top1']:.2%}".replace("%", " %")
    assert "epoch 5: loss" in app.code[0].value
    click(app, "Stop")
    assert (folder / "stop").exists()
    assert "stopping" in words(app)
    ended: list[str] = []
    monkeypatch.setattr(runs, "kill", lambda run, grace: ended.append(run.name))
    click(app, "Stop now")
    assert ended == [MINE]


def test_a_stopped_run_is_resumed_or_says_why_not(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(root, MINE, "stopped")
    app = opened(run=MINE)
    assert "Stop" not in labels(app)

    def busy(run: runs.Run) -> runs.Run:
        raise RunError(f"cpu is in use by run X; stop it or wait, {run.title}.")

    monkeypatch.setattr(runs, "resume", busy)
    (error,) = click(app, "Resume").error
    assert "cpu is in use by run X" in error.value
    assert run(app).error  # until it is dismissed
    assert not click(app, "Dismiss").error
    click(app, "Resume")
    monkeypatch.setattr(runs, "resume", lambda run: make_run_alive(root))
    click(app, "Resume")
    assert "running" in words(app)
    assert "Resume" not in labels(app)
    assert not app.error


def test_a_run_whose_data_changed_is_resumed_with_them(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(
        root, MINE, "failed", reason="the data are not those; swinlens runs resume X --accept-changed-data"
    )
    accepted: list[bool] = []
    monkeypatch.setattr(runs, "resume", lambda run, accept_changed_data=False: accepted.append(accept_changed_data))
    app = opened(run=MINE)
    click(app, "Resume")
    click(app, "Resume with the changed data")
    assert accepted == [False, True]
    runs.write_status(folder, state="stopped")
    assert "Resume with the changed data" not in labels(opened(run=MINE))


def make_run_alive(root: Path) -> None:
    runs.write_status(root / MINE, state="running", epoch=5, epochs=10)


@pytest.mark.parametrize(("state", "resumable"), [("finished", False), ("failed", True), ("running", True)])
def test_what_ended_can_be_resumed_unless_it_is_finished(root: Path, state: str, resumable: bool) -> None:
    folder = make_run(root, MINE, state, reason="rank 1 was killed")
    if state == "running":  # its program is gone: it died
        (folder / "launch.json").write_text("{}")
        written = json.loads((folder / "status.json").read_text())
        (folder / "status.json").write_text(json.dumps({**written, "pid": 2**22 + 1, "created": 1.0}))
    app = opened(run=MINE)
    assert ("Resume" in labels(app)) == resumable
    assert ("died" if state == "running" else state) in words(app)


def test_a_run_is_renamed_deleted_and_given_notes(root: Path) -> None:
    make_run(root, MINE, "stopped")
    app = opened(run=MINE)
    app.text_area(key=f"notes {MINE}").set_value("A *first* try.")
    run(app)
    assert (root / MINE / "notes.txt").read_text() == "A *first* try."
    assert opened(run=MINE).text_area(key=f"notes {MINE}").value == "A *first* try."
    app.text_input(key=f"new name {MINE}").set_value("../up")
    click(app, "Rename")
    assert "must be 1 to 64 letters" in app.error[0].value.replace("\\", "")
    app.text_input(key=f"new name {MINE}").set_value("better")
    click(app, "Rename")
    assert [entry.name for entry in root.iterdir()] == ["20260102-030405-better"]
    assert app.title[0].value == "better"
    click(app, "Delete for good")
    assert list(root.iterdir()) == []
    assert "There is no run yet" in words(app)


def test_a_run_that_is_deleted_elsewhere_is_one_line(root: Path) -> None:
    folder = make_run(root, MINE, "stopped")
    app = opened(run=MINE)
    folder.rename(root.parent / "gone")
    assert "there is no run" in run(app).error[0].value.replace("\\", "")


def test_settings_say_what_the_recipe_has_otherwise(root: Path) -> None:
    make_run(root, MINE, recipe="flowers", settings={"lr": 0.25})
    app = opened(run=MINE)
    table = app.dataframe[-1].value
    assert set(table["Setting"][:2]) == {"Learning rate", "Epochs"}
    changed = table.set_index("Setting").loc["Learning rate"]
    assert (changed["Value"], changed["Recipe"]) == ("0.25", str(RECIPES["flowers"].config.lr))


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_recipe_is_nearest_to_itself(name: str) -> None:
    assert nearest_recipe(RECIPES[name].config.to_dict() | {"epochs": 3, "name": "x", "limit": 9}) == name


# -- checkpoints


def with_weights(root: Path) -> Path:
    folder = make_run(root, MINE, "stopped")
    source = (ROOT / "assets" / "swin_micro_cifar100.safetensors").read_bytes()
    for name in ("model", "checkpoints/best", "checkpoints/epoch-0003"):
        (folder / f"{name}.safetensors").write_bytes(source)
    return folder


def test_checkpoints_are_listed_with_their_figures_and_opened_in_the_compare_page(root: Path) -> None:
    with_weights(root)
    app = opened(run=MINE)
    rows = app.dataframe[0].value
    assert sorted(rows["file"]) == ["best.safetensors", "epoch-0003.safetensors", "model.safetensors"]
    assert set(rows["size"]) == {"10.7 MB"}
    compare, start = (next(b for b in app.button if b.label == label) for label in ("Compare", "Start from here"))
    assert compare.disabled
    assert start.disabled
    select(app, f"checkpoints {MINE}", [0, 1])
    run(app)
    chosen = [f"{MINE}/checkpoints/{name}" if name != "model.safetensors" else MINE for name in rows["file"][:2]]
    click(app, "Compare")
    assert app.query_params["model"] == chosen
    assert len(cells(app)) == 2 * len(shown(app)["rows"])


def test_a_tick_stays_with_its_checkpoint(root: Path) -> None:
    folder = with_weights(root) / "checkpoints"
    app = opened(run=MINE)
    table, wanted = f"checkpoints {MINE}", f"{MINE}/checkpoints/epoch-0003.safetensors"
    row = list(app.dataframe[0].value["file"]).index("epoch-0003.safetensors")
    # The run saves another one, which takes a row above, while the user ticks a row.
    content = (folder / "epoch-0003.safetensors").read_bytes()
    (folder / "epoch-0004.safetensors").write_bytes(content)
    select(app, table, [row])
    assert ticked(run(app), table) == [wanted]
    assert list(app.dataframe[0].value["file"]).index("epoch-0003.safetensors") == row + 1
    (folder / "epoch-0005.safetensors").write_bytes(content)
    assert ticked(run(app), table) == [wanted]
    app.switch_page("views/browse.py")
    run(app)
    app.switch_page("views/train.py")
    app.query_params["run"] = MINE
    assert ticked(run(app), table) == [wanted]


def test_ticked_runs_are_still_ticked_after_a_visit_to_another_page(root: Path) -> None:
    make_run(root, MINE)
    make_run(root, OTHER)
    app = opened()
    select(app, "runs_table", [1])
    assert ticked(run(app), "runs_table") == [MINE]
    app.switch_page("views/models.py")
    run(app)
    app.switch_page("views/train.py")
    assert ticked(run(app), "runs_table") == [MINE]


def test_a_new_run_starts_from_a_checkpoint_with_the_settings_of_the_old_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_weights(root)
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(runs, "start", lambda config, **options: started.append(config) or runs.find(MINE))
    app = opened(run=MINE)
    rows = app.dataframe[0].value
    select(app, f"checkpoints {MINE}", [list(rows["file"]).index("epoch-0003.safetensors")])
    run(app)
    click(app, "Start from here")
    assert app.title[0].value == "New run"
    assert app.selectbox(key="setting_init").value == f"{MINE}/checkpoints/epoch-0003.safetensors"
    click(app, "Start")
    (config,) = started
    assert config["init"] == str(root / MINE / "checkpoints" / "epoch-0003.safetensors")
    assert config["epochs"] == 10
    assert app.title[0].value == "mine"
