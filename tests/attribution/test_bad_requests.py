"""Requests as people write them: scalars of NumPy and PyTorch are classes; what cannot be explained gets one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import swin_core


@pytest.fixture
def network() -> nn.Module:
    """A bare module without preprocessing."""
    return nn.Sequential(nn.Conv2d(3, 12, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)).eval()


@pytest.mark.parametrize("three", [3, np.int64(3), torch.tensor(3), np.array(3), [np.int32(3)], np.array([3])])
def test_integers_of_numpy_and_torch_are_classes(
    three: Any, small_classifier: swin_core.Classifier, samples: dict[str, Path]
) -> None:
    explanation = swin_core.explain(small_classifier, samples["rose"], three, "gradcam", against=np.int64(1))
    assert (explanation.targets, explanation.against) == ((3,), (1,))


@pytest.mark.parametrize("target", [1.5, b"roses", [None], [[1]], [1.5], object()])
def test_what_names_no_class_is_refused(
    target: Any, small_classifier: swin_core.Classifier, samples: dict[str, Path]
) -> None:
    with pytest.raises(swin_core.SwinError, match="by its index or its name"):
        swin_core.explain(small_classifier, samples["rose"], target)


@pytest.mark.parametrize("device", ["gpu", "", "cuda:9", 9])
def test_an_unknown_device_is_named(
    device: Any, small_classifier: swin_core.Classifier, samples: dict[str, Path]
) -> None:
    if torch.cuda.device_count() > 9:
        pytest.skip("this machine has ten GPUs")
    for call in (
        lambda: swin_core.load("swin_nano_cifar100", device=device),
        lambda: swin_core.explain(small_classifier, samples["rose"], device=device),
        lambda: swin_core.explain_batch(small_classifier, [samples["rose"]], device=device),
    ):
        with pytest.raises(swin_core.SwinError, match=r"there is no device .* available: cpu"):
            call()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_tensor_with_nan_or_infinity_is_refused(bad: float, small_classifier: swin_core.Classifier) -> None:
    x = torch.randn(3, 64, 64)
    x[0, 0, 0] = bad
    with pytest.raises(swin_core.SwinError, match="NaN or infinity"):
        swin_core.explain(small_classifier, x)


def test_a_batch_does_not_guess_how_to_normalise(network: nn.Module, samples: dict[str, Path]) -> None:
    """The first tensor's range must not become the preprocessing of an image."""
    x = torch.randn(1, 3, 32, 32)
    assert len(swin_core.explain_batch(network, [x, x + 1], 0, "gradcam", network[0])) == 2
    for images in ([x, samples["rose"]], [samples["rose"], x]):
        with pytest.raises(swin_core.SwinError, match="no preprocessing"):
            swin_core.explain_batch(network, images, 0, "gradcam", network[0])


@pytest.mark.parametrize("shape", [(), (5,), (32, 32), (0, 3, 32, 32)])
def test_a_tensor_that_is_no_image_is_refused(shape: tuple[int, ...], network: nn.Module) -> None:
    with pytest.raises(swin_core.SwinError, match="is no image"):
        swin_core.explain(network, torch.ones(shape), 0, "gradcam", network[0])


def test_a_single_image_is_no_batch(small_classifier: swin_core.Classifier, samples: dict[str, Path]) -> None:
    for images in (samples["rose"], str(samples["rose"]), b"", Image.new("RGB", (9, 9)), None):
        with pytest.raises(swin_core.SwinError, match="a list of images"):
            swin_core.explain_batch(small_classifier, images)  # type: ignore[arg-type]
    with pytest.raises(swin_core.SwinError, match="batch_size must be at least 1"):
        swin_core.explain_batch(small_classifier, [samples["rose"]], batch_size=0)
    generated = swin_core.explain_batch(small_classifier, (samples[name] for name in ("rose", "tulip")))  # type: ignore[arg-type]
    assert len(generated) == 2
    for bad in (Image.new("RGB", (9, 9)), [str(samples["rose"])], "rose.jpg"):
        with pytest.raises(swin_core.SwinError, match="a list of PIL images"):
            small_classifier.predict(bad)  # type: ignore[arg-type]


def test_labels_are_a_list() -> None:
    with pytest.raises(swin_core.SwinError, match="a list of class names"):
        swin_core.load("swin_micro_flowers", labels="abcde")


def test_a_classifier_prints_as_one_line(small_classifier: swin_core.Classifier) -> None:
    assert repr(small_classifier) == "<Classifier: small, 5 classes, 64 pixels, on cpu>"


def test_runs_are_found_where_the_environment_says(
    small_classifier: swin_core.Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "runs" / "20260101-000000-mine"
    run.mkdir(parents=True)
    swin_core.save_weights(small_classifier.model, run / "model.safetensors")
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(run.parent))
    weights = swin_core.build("swin_micro", num_classes=5, image_size=64, pretrained=run.name).state_dict()
    assert all(torch.equal(weights[key], value) for key, value in small_classifier.model.state_dict().items())
