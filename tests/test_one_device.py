"""Training, resuming, evaluation, the memory check and every method on a pretended GPU: nothing is left on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import swin_core
from swin_core import runs
from swin_core.attribution.dispatch import attribute
from swin_core.attribution.methods import METHODS
from swin_core.data.dataset import DataSet
from swin_core.errors import DataError
from swin_core.evaluation.metrics import batch_size, evaluate
from swin_core.system.distributed import Ranks
from swin_core.training import TrainConfig, muon, train
from swin_core.training.augment import random_erasing
from swin_core.training.data import TrainingData
from swin_core.training.preflight import preflight
from swin_core.training.random_draws import Draws, split_batch
from tests.fixtures.device import GPU, PretendedGPU, is_on_gpu
from tests.fixtures.device import pretended_gpu as pretended_gpu
from tests.fixtures.shell import figures, write_pictures

pytestmark = pytest.mark.usefixtures("one_thread", "few_masks")

ON_GPU = Ranks(device=GPU)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes with eight images each, 16 pixels."""
    return write_pictures(tmp_path_factory.mktemp("made") / "pictures", (8, 8, 8))


def config(pictures: Path, **changes: Any) -> TrainConfig:
    """A run of two epochs of two steps with everything that draws, mixes and averages."""
    settings: dict[str, Any] = {"variant": "swin_nano", "image_size": 16, "crop_padding": 2, "cutout": 3}
    settings |= {"data": str(pictures), "epochs": 2, "batch_size": 12, "holdout": 0.25, "ema": 0.9}
    settings |= {"erasing": 0.5, "mixup": 0.8, "cutmix": 1.0, "drop_path": 0.1, "randaugment": 5, "colour_jitter": 0.2}
    return TrainConfig(**(settings | {"precision": "float32"} | changes))


def new_run(settings: TrainConfig, root: Path) -> Path:
    return runs.create(settings.to_dict(), root)


# The pretended GPU itself


def test_mixed_devices_are_refused_forward_and_backward(pretended_gpu: PretendedGPU) -> None:
    here, there = torch.ones(2, 3), torch.ones(2, 3, device=GPU)
    for mixed in (
        lambda: there + here,
        lambda: there[torch.tensor([0])],
        lambda: torch._foreach_lerp_([there], [here], 0.5),
        lambda: torch.nn.Linear(3, 1)(there),
        lambda: torch.nn.functional.cross_entropy(there, torch.tensor([0, 1])),
    ):
        with pytest.raises(RuntimeError, match="same device"):
            mixed()
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    assert pretended_gpu.uploads == []


def test_results_gradients_and_copies_are_where_their_tensors_are(pretended_gpu: PretendedGPU) -> None:
    layer = torch.nn.Linear(3, 1).to(GPU)
    output = layer(torch.ones(2, 3, device=GPU))
    output.sum().backward()
    assert layer.weight.grad is not None
    for tensor in (layer.weight, output, output[0].view(1), layer.weight.grad, torch.zeros(2).to(output)):
        assert is_on_gpu(tensor)
        assert tensor.device == GPU
    assert not is_on_gpu(output.detach().cpu())
    assert (output * torch.tensor(2.0)).device == GPU  # a scalar may be anywhere
    assert len(pretended_gpu.uploads) == 3
    assert pretended_gpu.downloads == [(2, 1)]


# What runs on it


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw", "crop_scale": 0.5, "ema": 0.0}])
def test_a_run_on_a_gpu_gives_the_losses_of_the_cpu(
    pictures: Path,
    tmp_path: Path,
    pretended_gpu: PretendedGPU,
    changes: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(muon, "has_bfloat16", lambda _device: False)  # the pretended GPU has none
    settings = config(pictures, **changes)
    one, other = new_run(settings, tmp_path / "gpu"), new_run(settings, tmp_path / "cpu")
    train(settings, one, ranks=ON_GPU)
    train(settings, other)
    for here, there in zip(figures(one), figures(other), strict=True):
        assert here == pytest.approx(there, abs=1e-5)


def test_a_run_resumed_on_a_gpu_equals_one_that_never_stopped(
    pictures: Path, tmp_path: Path, pretended_gpu: PretendedGPU
) -> None:
    settings = config(pictures)
    whole, stopped = new_run(settings, tmp_path), new_run(settings, tmp_path)
    train(settings, whole, ranks=ON_GPU)
    asked = iter([False, False, True])
    assert train(settings, stopped, ranks=ON_GPU, stopping=lambda: next(asked)) == "stopped"
    assert train(settings, stopped, ranks=ON_GPU) == "finished"
    assert figures(stopped) == figures(whole)
    one, other = ((run / "model.safetensors").read_bytes() for run in (stopped, whole))
    assert one == other


def test_a_step_on_a_gpu_copies_no_geometry(pretended_gpu: PretendedGPU) -> None:
    """The index of the position bias and the mask of the shift are there after the first step."""
    model = swin_core.build("swin_nano", num_classes=3, image_size=32, patch_size=2, window_size=4).to(GPU)
    batch = torch.rand(2, 3, 32, 32, device=GPU)
    model(batch).sum().backward()
    pretended_gpu.uploads.clear()
    model(batch).sum().backward()
    with torch.inference_mode():
        model(batch)
    assert pretended_gpu.uploads == []


def test_noise_is_drawn_on_the_device_for_the_erased_images_alone(
    pretended_gpu: PretendedGPU, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, ...]] = []
    noise = Draws.noise

    def noted(draws: Draws, chosen: Tensor, *shape: int) -> Tensor:
        drawn.append((len(chosen), *shape))
        return noise(draws, chosen, *shape)

    monkeypatch.setattr(Draws, "noise", noted)
    batch = torch.rand(64, 3, 8, 8, device=GPU)
    whole = random_erasing(batch, 0.25, Draws((3, 1), 64, device=GPU))
    changed = (whole != batch).flatten(1).any(1)
    assert drawn == [(int(changed.sum()), 3, 8, 8)]
    assert 5 < drawn[0][0] < 30
    assert max(torch.Size(shape).numel() for shape in pretended_gpu.uploads) <= 64  # no noise among them
    parts = [random_erasing(batch[rows], 0.25, Draws((3, 1), 64, rows, GPU)) for rows in split_batch(64, 2)]
    assert torch.equal(torch.cat(parts), whole)


def test_a_gpu_validates_in_large_batches() -> None:
    assert batch_size(GPU, 32) > batch_size(torch.device("cpu"), 32)


def test_evaluation_on_a_gpu(pretended_gpu: PretendedGPU) -> None:
    model = swin_core.build("swin_nano", num_classes=3, image_size=16)
    batch, labels = torch.rand(5, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1])
    expected = evaluate(model, [(batch, labels)])
    found = evaluate(model.to(GPU), [(batch.to(GPU), labels.to(GPU))], ON_GPU)
    assert found.loss == pytest.approx(expected.loss, abs=1e-6)
    np.testing.assert_array_equal(found.confusion, expected.confusion)
    with pytest.raises(RuntimeError, match="same device"):
        evaluate(model, [(batch, labels)], ON_GPU)


def test_the_memory_check_counts_what_is_reserved(
    pictures: Path, pretended_gpu: PretendedGPU, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    found = preflight(config(pictures), "cuda:0", 1)
    assert found.fits
    assert found.memory_bytes == torch.cuda.max_memory_reserved() + 24 * 16 * 16 * 3
    assert len(waits) == 4  # each step is timed when the GPU has finished it
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 8 * 2**30)
    assert not preflight(config(pictures), "cuda:0", 1).fits


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: not enough memory")]
)
def test_a_run_that_runs_out_of_memory_does_not_fit(
    pictures: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr("swin_core.training.trainer.Trainer.train_step", run_out)
    found = preflight(config(pictures), "cpu", 1)
    assert (found.fits, found.ran_out, found.seconds) == (False, True, 0)
    monkeypatch.setattr(torch, "OutOfMemoryError", ZeroDivisionError)
    error.args = ("mat1 and mat2 shapes cannot be multiplied",)
    with pytest.raises(RuntimeError, match="shapes"):
        preflight(config(pictures), "cpu", 1)


def test_a_run_records_the_gpu_that_trains_it(pictures: Path, tmp_path: Path, pretended_gpu: PretendedGPU) -> None:
    run = new_run(config(pictures, epochs=1), tmp_path)
    train(config(pictures, epochs=1), run, ranks=ON_GPU)
    assert ", 1 x Pretended GPU, PyTorch" in runs.read_status(run)["machine"]


@pytest.fixture
def classifier() -> swin_core.Classifier:
    torch.manual_seed(0)
    model = swin_core.build("swin_nano", num_classes=3, image_size=32, patch_size=2, window_size=4)
    return swin_core.Classifier(model, ["a", "b", "c"], (0.5,) * 3, (0.5,) * 3, 32, name="small")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_a_gpu_gives_the_maps_of_the_cpu(
    method: str, classifier: swin_core.Classifier, pretended_gpu: PretendedGPU
) -> None:
    image = swin_core.read_image(Path(__file__).parent.parent / "assets" / "samples" / "cat.jpg")
    expected = swin_core.explain(classifier, image, targets=[0, 2], method=method)
    classifier.model.to(GPU)
    found = swin_core.explain(classifier, image, targets=[0, 2], method=method)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-4, atol=5e-6)


def test_a_batch_of_maps_is_on_the_gpu(classifier: swin_core.Classifier, pretended_gpu: PretendedGPU) -> None:
    classifier.model.to(GPU)
    maps: Tensor = attribute(classifier, torch.rand(2, 3, 32, 32, device=GPU), torch.tensor([0, 1], device=GPU))
    assert maps.device == GPU


def test_images_that_stay_on_the_disk_are_decoded_by_other_programs(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    monkeypatch.setattr("swin_core.training.data.kept_bytes", lambda *_: 0)
    data = TrainingData.load(config(pictures), None, torch.device("cpu"))
    monkeypatch.setattr("swin_core.data.dataset.DataSet.rows", _with_program_number)
    order = torch.randperm(18).split(5)
    for chosen, (images, labels) in zip(order, data.train.batches(order), strict=True):
        assert torch.equal(labels, data.train.labels[chosen])
        decoded.append(int(images[0]))
    assert os.getpid() not in decoded
    monkeypatch.setattr("swin_core.data.dataset.DataSet.rows", _broken)
    with pytest.raises(DataError, match=r"^broken$"):
        list(data.train.batches(order))


def _with_program_number(dataset: DataSet, size: int) -> list[np.ndarray]:
    return [np.full(1, os.getpid())] * len(dataset)


def _broken(dataset: DataSet, size: int) -> list[np.ndarray]:
    raise DataError("broken")
