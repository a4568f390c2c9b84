"""Several ranks train and evaluate like a single process, in real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swin_core import runs
from swin_core.commands import evaluate
from swin_core.commands import train as train_command
from swin_core.evaluation.accuracy import evaluate_named
from swin_core.training import TrainConfig, train
from tests.conftest import free_port
from tests.fixtures.ranks import run_ranks
from tests.fixtures.shell import CLASSES, TRAIN, Shell, assert_same_figures, options, pictures, shell, small
from tests.fixtures.started import eventually

pytestmark = pytest.mark.usefixtures("one_thread")
__all__ = ["pictures", "shell"]
TORCHRUN = ("-m", "torch.distributed.run")


@pytest.fixture(scope="module")
def config(pictures: Path) -> TrainConfig:
    return small(pictures)


@pytest.fixture(scope="module")
def whole(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process that nothing disturbed."""
    folder = runs.create(config.to_dict(), tmp_path_factory.mktemp("whole"))
    assert train(config, folder) == "finished"
    return folder


def state(run: Path) -> tuple[Any, Any]:
    status = runs.read_status(run)
    return status.get("state"), status.get("reason", "")


def test_two_ranks_give_the_figures_of_one(
    shell: Shell, config: TrainConfig, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGUSR1")  # the agent would keep those of this process
    words = ["fast-cifar100", *options(config), "--devices", "cpu", "--processes", "2", "--runs-root", str(shell.root)]
    assert train_command.main(words) == 0
    run = shell.only_run()
    assert_same_figures(run, whole)
    assert runs.read_status(run)["processes"] == 2
    assert state(run) == ("finished", "")
    assert capsys.readouterr().out.splitlines()[-1] == str(run)


def test_two_nodes_give_the_figures_of_one_in_one_folder(shell: Shell, config: TrainConfig, whole: Path) -> None:
    command = [*TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint"]
    command += [f"localhost:{free_port()}", TRAIN, "fast-cifar100", *options(config), "--devices", "cpu"]
    nodes = [shell.begin(*command) for _ in range(2)]
    run = eventually(lambda: next(iter(shell.root.glob("*")), None), 60)
    eventually(lambda: runs.busy(["cpu"]) == {"cpu": run}, 30)
    assert [node.wait(120) for node in nodes] == [0, 0], shell.said()
    assert shell.only_run() == run
    assert_same_figures(run, whole)
    assert runs.read_status(run)["processes"] == 2
    assert runs.busy(["cpu"]) == {}


def test_evaluation_by_two_ranks_counts_each_picture_once(whole: Path, pictures: Path, tmp_path: Path) -> None:
    file, model = tmp_path / "figures.json", str(whole / "model.safetensors")
    words = [model, "--data", str(pictures), "--split", "all", "--json", str(file)]
    assert run_ranks(evaluate.main, words, folder=tmp_path) == [0, 0], (tmp_path / "errors-0").read_text()
    found = json.loads(file.read_text())
    alone = json.loads(json.dumps(evaluate_named(model, str(pictures), "all").to_dict()))
    assert found["count"] == 36
    assert [sum(row) for row in found["confusion"]] == [11 + label for label in range(len(CLASSES))]
    loss = found.pop("loss")
    assert loss == pytest.approx(alone.pop("loss"), abs=1e-6)
    assert found == alone
