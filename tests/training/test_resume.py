"""Runs that are resumed: from which checkpoint, on which data, and which lines of their metrics stay."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swin_core import runs
from swin_core.errors import RunError
from swin_core.training import TrainConfig, train
from swin_core.training.trainer import Trainer
from tests.fixtures.runs import fill_disk
from tests.fixtures.shell import write_pictures

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two epochs; return a folder with the images and the run."""
    folder = tmp_path_factory.mktemp("trained")
    images = write_pictures(folder / "images", (6, 6, 6))
    config = TrainConfig(data=str(images), variant="swin_nano", image_size=16, batch_size=5, epochs=2, holdout=0.2)
    run = runs.create(config.to_dict(), folder / "runs")
    train(config, run)
    return folder


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> tuple[TrainConfig, Path]:
    """A copy of the images and the run, which is to go on for one epoch more."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    [run] = (tmp_path / "runs").iterdir()
    config = replace(TrainConfig.of_run(run), data=str(tmp_path / "images"), epochs=3)
    return config, run


def epochs(run: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def steps(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "steps.jsonl").read_text().splitlines()]


def test_a_damaged_checkpoint_falls_back_and_says_so(copied: tuple[TrainConfig, Path]) -> None:
    config, run = copied
    content = bytearray((run / "checkpoints" / "last.pt").read_bytes())
    content[len(content) // 2] ^= 4
    (run / "checkpoints" / "last.pt").write_bytes(content)
    told: list[dict[str, Any]] = []
    assert train(config, run, on_metrics=told.append) == "finished"
    line = "'last.pt' is cut short or damaged: its checksum differs; 'previous.pt' is used instead"
    assert {"data": [line]} in told
    assert line in (run / "log.txt").read_text()
    assert epochs(run) == [1, 2, 3]
    assert steps(run) == list(range(1, 10))


def test_a_run_without_a_checkpoint_starts_anew_and_doubles_no_line(copied: tuple[TrainConfig, Path]) -> None:
    """Killed after the metrics of its first epoch, before the checkpoint."""
    config, run = copied
    names = ("metrics", "steps")
    before = {name: (run / f"{name}.jsonl").read_bytes() for name in names}
    for number in (1, 2):
        for path in (run / "checkpoints").glob("*.pt"):
            path.unlink()
        told: list[dict[str, Any]] = []
        assert train(replace(config, epochs=1), run, on_metrics=told.append) == "finished"
        assert epochs(run) == [1]
        assert steps(run) == [1, 2, 3]
        line = "no checkpoint is there, so the run starts anew; its earlier metrics are in "
        line += f"metrics-{number}.jsonl and steps-{number}.jsonl"
        assert {"data": [line]} in told
        assert line in (run / "log.txt").read_text()
    assert {name: (run / f"{name}-1.jsonl").read_bytes() for name in names} == before


def test_a_remark_on_the_start_stays_in_the_status_while_the_run_trains(copied: tuple[TrainConfig, Path]) -> None:
    config, run = copied
    (run / "checkpoints" / "last.pt").unlink()
    reasons = []
    train(config, run, stopping=lambda: bool(reasons.append(runs.read_status(run)["reason"])))
    assert set(reasons) == {"'last.pt' is missing; 'previous.pt' is used instead"}


def test_changed_images_are_refused_unless_accepted(copied: tuple[TrainConfig, Path]) -> None:
    config, run = copied
    data = Path(config.data)
    shutil.copy(data / "ant" / "00.png", data / "ant" / "06.png")
    (data / "bee" / "03.png").rename(data / "bee" / "30.png")
    with pytest.raises(
        RunError, match=r"not those that the run was trained on \(.*1 more .* image of ant.*of bee.*\)"
    ) as refused:
        train(config, run)
    command = f"swinlens runs resume {run} --accept-changed-data"
    assert str(refused.value).endswith(f"; restore them, or go on all the same: {command}")
    assert runs.read_status(run)["state"] == "failed"
    assert epochs(run) == [1, 2]
    assert train(config, run, accept_changed_data=True) == "finished"
    assert epochs(run) == [1, 2, 3]
    [remark] = runs.find(run.name, run.parent).remarks
    assert remark.startswith("changed after epoch 2: images 18 to 19 (")
    assert train(config, run) == "finished"  # the new checkpoint has the new data


def test_the_steps_of_finished_epochs_stay_when_images_are_removed(copied: tuple[TrainConfig, Path]) -> None:
    """An epoch has two steps then instead of three, so that step numbers are given twice."""
    config, run = copied
    before = runs.find(run.name, run.parent).steps()
    assert [line["epoch"] for line in before] == [number / 3 for number in range(1, 7)]
    for name in ("ant", "bee", "cow"):
        for image in sorted((Path(config.data) / name).iterdir())[:2]:
            image.unlink()
    count = iter(range(100))
    assert train(config, run, accept_changed_data=True, stopping=lambda: next(count) == 0) == "stopped"
    assert train(config, run) == "finished"
    told = runs.find(run.name, run.parent).steps()
    assert told[:6] == before
    assert [line["epoch"] for line in told[6:]] == [2.5, 3.0]
    assert len(steps(run)) == len(told)


def test_a_change_is_recorded_once_though_the_run_starts_twice(
    copied: tuple[TrainConfig, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before a checkpoint knows the new data."""
    config, run = copied
    (Path(config.data) / "ant" / "00.png").unlink()

    def killed(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", killed)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                train(config, run, accept_changed_data=True)
    assert train(config, run, accept_changed_data=True) == "finished"
    assert [change["epoch"] for change in runs.read_changes(run)] == [2]


def test_changed_classes_are_refused_even_if_changes_are_accepted(copied: tuple[TrainConfig, Path]) -> None:
    config, run = copied
    data = Path(config.data)
    (data / "ant").rename(data / "yak")
    for accept in (False, True):
        with pytest.raises(RunError, match=r"class yak new; class ant gone.*its classes would be mixed up; restore"):
            train(config, run, accept_changed_data=accept)


def test_a_full_disk_names_a_checkpoint_only_where_there_is_one(
    copied: tuple[TrainConfig, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = copied
    fill_disk(monkeypatch)
    with pytest.raises(RunError, match=r"free some and resume the run, its last checkpoint is intact\.$"):
        train(config, run)
    for name in ("last.pt", "previous.pt"):
        path = run / "checkpoints" / name
        path.write_bytes(path.read_bytes()[:-9])
    new = runs.create(config.to_dict(), run.parent)
    with pytest.raises(RunError, match=r"free some and resume the run; it has no checkpoint yet and starts anew\.$"):
        train(config, new)
