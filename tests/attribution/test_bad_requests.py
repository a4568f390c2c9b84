"""Requests as people write them: scalars of NumPy and PyTorch are classes; what cannot be explained gets one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
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


@pytest.mark.parametrize("target", [1.5, b"roses", [None], [[1]], [1.5], object(), True, [False], torch.tensor(True)])
def test_what_names_no_class_is_refused(
    target: Any, small_classifier: swin_core.Classifier, samples: dict[str, Path]
) -> None:
    with pytest.raises(swin_core.SwinError, match="by its index or its name"):
        swin_core.explain(small_classifier, samples["rose"], target)


@pytest.mark.parametrize("device", ["gpu", "", "cuda:9", 9, "meta"])
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": 5}, "unknown method 5; known are"),
        ({"method": ["gradcam"]}, "unknown method"),
        ({"layers": 5}, "name a layer by a text such as 'layers.1', or by its module, not by 5"),
        ({"layers": ["norm", None]}, "not by None"),
        ({"method": "gradcam", "layers": "norm", "reshape_transform": lambda output: None}, "gives NoneType for layer"),
        ({"targets": "11"}, "class 11 is outside the model's 5 classes"),
    ],
)
def test_odd_arguments_get_one_line(
    options: dict[str, Any], words: str, small_classifier: swin_core.Classifier, samples: dict[str, Path]
) -> None:
    with pytest.raises(swin_core.SwinError) as caught:
        swin_core.explain(small_classifier, samples["rose"], **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_shell_names_a_class_by_its_number(small_classifier: swin_core.Classifier, samples: dict[str, Path]) -> None:
    found = swin_core.explain(small_classifier, samples["rose"], "3", "gradcam", against="1")
    assert (found.targets, found.against) == ((3,), (1,))
    digits = swin_core.Classifier(small_classifier.model, list("43210"), (0.5,) * 3, (0.5,) * 3, 64)
    assert swin_core.explain(digits, samples["rose"], "3", "gradcam").targets == (1,)  # a class of that name wins


def test_a_tensor_of_another_size_is_refused_by_a_vit() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=3, depth=1).eval()
    classifier = swin_core.Classifier(vit, "abc", (0.5,) * 3, (0.5,) * 3, 32, name="small ViT")
    with pytest.raises(swin_core.SwinError, match="cannot take 48 x 48 pixels: Input height") as caught:
        swin_core.explain(classifier, torch.randn(3, 48, 48), 0, "gradcam", "blocks.0.norm1")
    assert "\n" not in str(caught.value)
    with pytest.raises(swin_core.SwinError, match=r"must have one size, not \(32, 32\) and \(48, 48\)"):
        swin_core.explain_batch(classifier, [torch.randn(3, 32, 32), torch.randn(3, 48, 48)], 0)


def test_an_error_of_the_model_itself_stays() -> None:
    class Broken(nn.Module):
        broken = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.broken:
                raise RuntimeError("a mistake in the model")
            return x[:, :, 0, 0]

    model = nn.Sequential(nn.Conv2d(3, 3, 1), Broken())
    classifier = swin_core.Classifier(model, "abc", (0.5,) * 3, (0.5,) * 3, 32)
    model[1].broken = True
    with pytest.raises(RuntimeError, match="a mistake in the model"):
        swin_core.explain(classifier, torch.randn(3, 32, 32), 0, "gradcam", "0")


@pytest.mark.parametrize(
    ("variant", "pretrained", "words"),
    [(None, None, "unknown variant None; known are"), ("swin_nano", True, "pretrained=True names no weights")],
)
def test_build_names_what_it_takes(variant: Any, pretrained: Any, words: str) -> None:
    with pytest.raises(swin_core.SwinError, match=words):
        swin_core.build(variant, pretrained)


def test_weights_are_those_of_a_swin(small_classifier: Any, tmp_path: Path) -> None:
    for call in (swin_core.load_weights, swin_core.save_weights):
        with pytest.raises(swin_core.SwinError, match="takes a Swin, not a Classifier; pass the `model`"):
            call(small_classifier, tmp_path / "w.safetensors")
    swin_core.save_weights(small_classifier.model, tmp_path / "made" / "w.safetensors")
    assert swin_core.load_weights(small_classifier.model, tmp_path / "made" / "w.safetensors").random == ()


def test_nothing_is_no_image() -> None:
    with pytest.raises(swin_core.SwinError, match=r"^the file is NoneType; give a path, bytes or a binary file\.$"):
        swin_core.read_image(None)  # type: ignore[arg-type]
