"""The checkpoint that a run writes is a model of its own."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
import torch

import swin_core
from swin_core import runs
from swin_core.errors import WeightsError
from swin_core.training.checkpoint import newest_checkpoint, read_checkpoint, write_checkpoint
from swin_core.training.config import TrainConfig
from swin_core.training.trainer import train
from swin_core.weights.files import read_metadata
from tests.fixtures.shell import CLASSES, write_pictures

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_last_checkpoint_opens_as_its_run_and_alone(tmp_path: Path) -> None:
    images = write_pictures(tmp_path / "pictures", (6, 6, 6), colour=95)
    config = TrainConfig(
        data=str(images),
        variant="swin_nano",
        image_size=16,
        epochs=1,
        batch_size=6,
        ema=0.9,
        optimizer="adamw",
        lr=1e-3,
    )
    run = runs.create(config.to_dict(), tmp_path / "runs")
    train(config, run)
    last = swin_core.load(run / "checkpoints" / "last.pt")
    assert (last.name, last.labels, last.image_size) == (run.name, tuple(CLASSES), 16)
    assert list(last.mean) == pytest.approx(read_metadata(run / "model.safetensors")["mean"])
    # After one epoch the last weights are the best ones, and both are those of the moving average.
    best = swin_core.load(run)
    x = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(last.model(x), best.model(x))
    shutil.copy(run / "checkpoints" / "last.pt", tmp_path / "moved.pt")
    moved = swin_core.load(tmp_path / "moved.pt")
    assert (moved.name, moved.labels, moved.mean) == ("moved", last.labels, last.mean)


def state(number: int) -> dict[str, object]:
    return {"model": {"weight": torch.full((1000,), float(number))}, "number": number}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder of checkpoints after two saves."""
    folder = tmp_path / "20260101-120000-mine" / "checkpoints"
    folder.mkdir(parents=True)
    for number in (1, 2):
        write_checkpoint(folder, state(number))
    return folder


def test_the_predecessor_is_kept(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["last.pt", "previous.pt"]
    assert (read_checkpoint(folder / "last.pt")["number"], read_checkpoint(folder / "previous.pt")["number"]) == (2, 1)
    newest = newest_checkpoint(folder)
    assert newest is not None
    assert (newest.state["number"], newest.remark) == (2, "")
    (folder / "last.pt").unlink()  # as after a crash on a file system without hard links
    newest = newest_checkpoint(folder)
    assert newest is not None
    assert (newest.state["number"], newest.remark) == (1, "'last.pt' is missing; 'previous.pt' is used instead")


@pytest.mark.parametrize("kind", ["flip", "flip near the end", "cut"])
def test_every_damage_is_noticed(kind: str, folder: Path) -> None:
    """PyTorch reads most files with a flipped bit without a word."""
    draw, last = random.Random(kind), folder / "last.pt"
    whole = last.read_bytes()
    for _ in range(50):
        damaged = bytearray(whole)
        if kind == "cut":
            damaged = damaged[: draw.randrange(len(whole))]
        else:
            first = len(whole) - 130 if kind == "flip near the end" else 0
            damaged[draw.randrange(first, len(whole))] ^= 1 << draw.randrange(8)
        last.write_bytes(damaged)
        newest = newest_checkpoint(folder)
        assert newest is not None
        assert newest.state["number"] == 1
        assert newest.remark.startswith("'last.pt' is ")
        assert newest.remark.endswith("; 'previous.pt' is used instead")
    (folder / "previous.pt").write_bytes(b"")
    with pytest.raises(
        WeightsError, match=r"'previous.pt' is empty; start a new run, with --init 20260101-120000-mine"
    ):
        newest_checkpoint(folder)


def test_a_damaged_checkpoint_does_not_replace_its_predecessor(folder: Path) -> None:
    damaged = bytearray((folder / "last.pt").read_bytes())
    damaged[3000] ^= 1
    (folder / "last.pt").write_bytes(damaged)
    write_checkpoint(folder, state(3))
    assert (read_checkpoint(folder / "last.pt")["number"], read_checkpoint(folder / "previous.pt")["number"]) == (3, 1)


def test_checkpoints_work_without_hard_links(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    write_checkpoint(folder, state(3))
    assert (read_checkpoint(folder / "last.pt")["number"], read_checkpoint(folder / "previous.pt")["number"]) == (3, 2)


def test_a_checkpoint_of_an_older_version_is_believed(folder: Path) -> None:
    torch.save(state(7), folder / "last.pt")
    newest = newest_checkpoint(folder)
    assert newest is not None
    assert newest.state["number"] == 7
    (folder / "last.pt").write_bytes((folder / "last.pt").read_bytes()[:-1])
    newest = newest_checkpoint(folder)
    assert newest is not None
    assert newest.state["number"] == 1
