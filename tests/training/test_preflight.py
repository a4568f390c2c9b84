"""The check before a run: what it measures, how it counts several ranks, and what does not fit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

import swin_core
from swin_core.commands.train import main
from swin_core.errors import ConfigError
from swin_core.evaluation.metrics import batch_size
from swin_core.training import preflight as check
from swin_core.training.preflight import preflight
from swin_core.training.trainer import Trainer
from swin_core.weights.files import save_weights
from tests.fixtures.shell import CLASSES, options, pictures, small

pytestmark = pytest.mark.usefixtures("one_thread")
__all__ = ["pictures"]
KEPT = 36 * 16 * 16 * 3
"""Bytes of all images of `pictures`, decoded."""


def test_the_check_measures_a_run_and_writes_none(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = small(pictures, epochs=7, limit=16, batch_size=6, accumulate=1)
    found = preflight(config, "cpu", 1)
    assert not list(tmp_path.iterdir())
    assert (found.pictures, found.steps) == (16, 7 * 3)
    assert found.images_per_second == pytest.approx(16 / 3 / found.seconds_a_step)
    assert found.seconds >= found.steps * found.seconds_a_step
    twice = preflight(config, "cpu", 2)
    assert (twice.pictures, twice.steps) == (16, 21)
    told = found.to_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["fits"] is (found.memory_bytes <= found.memory_free_bytes)
    assert found.memory_bytes > 2**20
    with pytest.raises(ConfigError, match="too small for 4 processes"):
        preflight(config, "cpu", 4)


def test_pictures_that_stay_on_the_disk_need_no_memory(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def memory_with(free: int) -> int:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
        monkeypatch.setattr(check, "_used", lambda device: 1000)
        return preflight(small(pictures), "cpu", 1).memory_bytes

    assert memory_with(2**30) == 1000 + KEPT
    assert memory_with(4000) == 1000


# -- several ranks on a CPU


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A machine of two cores; the list has PyTorch's threads in each step that is measured."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda program: {0, 1})
    monkeypatch.setattr(check, "_used", lambda device: 1000)
    threads: list[int] = []

    def measure(trainer: Trainer, count: int) -> tuple[float, float]:
        threads.append(torch.get_num_threads())
        return 1.0, 0.5

    monkeypatch.setattr(check, "_measure", measure)
    torch.set_num_threads(2)
    yield threads
    assert torch.get_num_threads() == 2


def test_ranks_on_a_cpu_share_its_cores(pictures: Path, two_cores: list[int]) -> None:
    """The check measures one rank with its share of the cores; four ranks on two cores take turns."""
    config = small(pictures, accumulate=1)
    found = [preflight(config, "cpu", count).seconds_a_step for count in (1, 2, 4)]
    assert two_cores == [2, 1, 1]
    assert found == [1, 1, 2]


def test_each_rank_on_a_cpu_keeps_all_images(pictures: Path, two_cores: list[int]) -> None:
    assert preflight(small(pictures, accumulate=1), "cpu", 4).memory_bytes == 4 * (1000 + KEPT)


def test_ranks_share_validation_by_whole_batches(
    pictures: Path, two_cores: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(pictures, accumulate=1, epochs=1)
    assert preflight(config, "cpu", 2).seconds == 3 * 1 + 8 * 0.5  # one batch: the second rank waits
    monkeypatch.setattr(check, "batch_size", lambda *_: 3)
    assert preflight(config, "cpu", 2).seconds == 3 * 1 + (3 + 2) * 0.5  # the second rank has the other 3


# -- memory


def test_a_validation_batch_has_the_size_of_the_run(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    validated: list[int] = []

    original, validate = Trainer.train_step, Trainer.validate

    def train_step(self: Trainer, count: int, *rest: Any) -> Tensor:
        trained.append(count)
        return original(self, count, *rest)

    def watched(self: Trainer) -> Any:
        validated.extend(len(images) for images, _ in self.data.validation_batches(0, 1))
        return validate(self)

    monkeypatch.setattr(Trainer, "train_step", train_step)
    monkeypatch.setattr(Trainer, "validate", watched)
    preflight(small(pictures, batch_size=4, accumulate=1), "cpu", 1)
    assert set(trained) == {4}
    assert validated == [8]  # all that there are, fewer than a batch
    assert batch_size(torch.device("cpu"), 32) > 8


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        OSError(12, "Cannot allocate memory"),
        MemoryError(),
    ],
    ids=lambda error: str(error)[:30],
)
def test_every_message_of_a_full_memory_means_that_it_does_not_fit(
    pictures: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(Trainer, "train_step", fail)
    found = preflight(small(pictures), "cpu", 1)
    assert (found.fits, found.ran_out, found.seconds) == (False, True, 0)
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)  # another program has filled the GPU
    found = preflight(small(pictures), "cuda:0", 1)
    assert (found.fits, found.ran_out, found.memory_free_bytes) == (False, True, 0)


# -- weights and teacher


@pytest.mark.parametrize("option", ["--teacher", "--init"])
def test_the_check_refuses_a_name_as_the_run_does(
    pictures: Path, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fast-cifar100", *options(small(pictures)), "--devices", "cpu", "--runs-root", str(tmp_path / "runs")]
    said = []
    for check_only in ([], ["--check"]):
        assert main([*words, f"{option}=doesnotexist", *check_only]) == 1
        said.append(capsys.readouterr().err)
    assert "doesnotexist" in said[0]
    assert said[0] == said[1]


def test_the_check_trains_from_the_weights_and_with_the_teacher(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = swin_core.build("swin_nano", num_classes=len(CLASSES), image_size=16, patch_size=2, window_size=4)
    metadata = {"labels": CLASSES, "mean": (0.25,) * 3, "std": (0.5,) * 3, "image_size": 16}
    file = tmp_path / "weights.safetensors"
    save_weights(model, file, metadata)
    seen: list[Trainer] = []

    def measure(trainer: Trainer, count: int) -> tuple[float, float]:
        seen.append(trainer)
        return 1.0, 1.0

    monkeypatch.setattr(check, "_measure", measure)
    words = ["fast-cifar100", *options(small(pictures, init=str(file), teacher=str(file))), "--devices", "cpu"]
    assert main([*words, "--check"]) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["fits"]
    (trainer,) = seen
    assert trainer.data.mean == (0.25,) * 3
    for name, value in model.state_dict().items():
        assert torch.equal(trainer.model.state_dict()[name], value)
    assert trainer._objective.teacher is not None
    assert trainer._objective.teacher(torch.rand(2, 3, 16, 16)).shape == (2, 3)
