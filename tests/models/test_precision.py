"""Precision of forward passes of many images: what is in bfloat16, where, and how far the results move."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import swin_core
from swin_core.attribution.explain import explain
from swin_core.audit.bench import Bench
from swin_core.commands import evaluate as command
from swin_core.data.dataset import DataSet
from swin_core.data.folders import image_folder
from swin_core.errors import ConfigError
from swin_core.evaluation.accuracy import evaluate_classifier
from swin_core.evaluation.features import cached_features
from swin_core.evaluation.predictions import cache_file, predict
from swin_core.trust.assess import assess
from swin_core.zoo.classifier import Classifier

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES = ("ant", "bee", "cow")


@pytest.fixture
def images(tmp_path: Path) -> DataSet:
    draw = np.random.default_rng(0)
    for name in CLASSES:
        (tmp_path / "animals" / name).mkdir(parents=True)
        for index in range(4):
            pixels = draw.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "animals" / name / f"{index}.png")
    return image_folder(tmp_path / "animals")


def classifier(precision: str = "", dtype: torch.dtype = torch.float32) -> Classifier:
    torch.manual_seed(0)
    model = swin_core.build("swin_nano", num_classes=3).to(dtype)
    return Classifier(model, CLASSES, (0.5,) * 3, (0.25,) * 3, 32, precision=precision)


@pytest.fixture(params=[True, False], ids=["with bfloat16", "without bfloat16"])
def able(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A processor with bfloat16, and one without."""
    monkeypatch.delenv("SWIN_PRECISION")
    monkeypatch.setattr("swin_core.models.precision.has_bfloat16", lambda _: request.param)
    return bool(request.param)


def test_auto_is_bfloat16_where_the_device_has_it_and_weights_are_float32(able: bool) -> None:
    assert classifier().uses_bfloat16 == classifier("auto").uses_bfloat16 == able
    assert not classifier("float32").uses_bfloat16
    assert classifier("bfloat16").uses_bfloat16
    assert not classifier(dtype=torch.float64).uses_bfloat16


def test_the_environment_decides_where_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIN_PRECISION", "bfloat16")
    assert classifier().uses_bfloat16
    assert not classifier("float32").uses_bfloat16
    assert swin_core.load("swin_nano_cifar100").uses_bfloat16
    assert not swin_core.load("swin_nano_cifar100", precision="float32").uses_bfloat16
    with pytest.raises(ConfigError, match=r"^precision must be one of auto, float32, bfloat16, not 'float16'"):
        swin_core.load("swin_nano_cifar100", precision="float16")
    monkeypatch.setenv("SWIN_PRECISION", "half")
    with pytest.raises(ConfigError, match=r"^SWIN_PRECISION must be one of auto, float32, bfloat16, not 'half'"):
        classifier()


def kinds_of(model: Any, call: Callable[[], object]) -> set[torch.dtype]:
    """Return the types of the output of a linear layer during a call."""
    kinds: set[torch.dtype] = set()
    with model.layers[0].blocks[0].mlp.fc2.register_forward_hook(lambda *got: kinds.add(got[2].dtype)):
        call()
    return kinds


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_only_reads_outputs_is_in_the_precision_and_explanations_are_not(
    precision: str, images: DataSet, tmp_path: Path
) -> None:
    peer, image = classifier(precision), images.image(0)
    view = peer.view(image)
    calls: dict[str, Callable[[], object]] = {
        "predict": lambda: peer.predict([image]),
        "predictions": lambda: predict(peer, images),
        "evaluation": lambda: evaluate_classifier(peer, images),
        "features": lambda: cached_features(peer, images, tmp_path),
        "audit": lambda: Bench(peer, images).probabilities(view[None]),
        "trust": lambda: assess(peer, view, np.eye(8), 0, steps=2),
    }
    for name, call in calls.items():
        assert kinds_of(peer.model, call) == {getattr(torch, precision)}, name
    assert kinds_of(peer.model, lambda: explain(peer, image, method="gradcam")) == {torch.float32}
    assert peer.dtype == torch.float32


def test_outputs_in_bfloat16_are_near_and_kept_apart(images: DataSet) -> None:
    exact, fast = classifier("float32"), classifier("bfloat16")
    photos = [images.image(row) for row in range(len(images))]
    one, other = exact.predict(photos), fast.predict(photos)
    assert other.dtype == np.float32
    assert 0 < abs(one - other).max() < 0.02
    assert cache_file(exact, images) != cache_file(fast, images)
    assert [evaluate_classifier(peer, images).to_dict()["products"] for peer in (exact, fast)] == [
        "float32",
        "bfloat16",
    ]
    assert classifier(dtype=torch.float64).products == "float64"


def test_the_command_takes_a_precision(images: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier().model
    with torch.no_grad():
        model.head.weight.mul_(30)  # so that the losses differ in the digits that are printed
    swin_core.save_weights(model, tmp_path / "model.safetensors", {"labels": list(CLASSES)})
    printed = set()
    for precision in ("float32", "bfloat16"):
        given = [str(tmp_path / "model.safetensors"), "--data", str(tmp_path / "animals"), "--precision", precision]
        assert command.main(given) == 0
        printed.add(capsys.readouterr().out)
    assert len(printed) == 2
