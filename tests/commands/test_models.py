"""`swinlens models`: list the models, and write the card of one."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision import transforms

import swin_core
from swin_core.commands.models import main

NAMES = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]
ARCHITECTURE = "test_resnet"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of timm's weights that says nothing about them, in the working folder."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(timm.create_model(ARCHITECTURE, num_classes=5).state_dict(), tmp_path / "flowers.pth")
    return tmp_path / "flowers.pth"


def add(*words: str | Path) -> int:
    return main(["add", *map(str, words)])


def test_a_card_gives_a_file_of_another_library_names_and_preprocessing(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = ["--mean", "0.4", "0.5", "0.6", "--std", "0.2", "0.3", "0.4", "--image-size", "64", "--crop", "0.8"]
    numbers += ["--interpolation", "bicubic"]
    status = add("flowers.pth", "--architecture", f"timm/{ARCHITECTURE}", "--labels", ",".join(NAMES), *numbers)
    out = capsys.readouterr().out
    assert status == 0, out
    assert "the card" in out
    assert out.splitlines()[-1] == "flowers.pth.card.toml"
    assert tomllib.loads((weights.parent / "flowers.pth.card.toml").read_text())["labels"] == NAMES

    classifier = swin_core.load(weights)
    assert list(classifier.labels) == NAMES
    bare = timm.create_model(ARCHITECTURE, num_classes=5).eval()
    bare.load_state_dict(torch.load(weights, weights_only=True))
    image = Image.effect_mandelbrot((120, 90), (-2, -1, 1, 1), 30).convert("RGB")
    steps = [
        transforms.Resize(80, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(64),
        transforms.ToTensor(),
        transforms.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)),
    ]
    with torch.inference_mode():
        expected = bare(transforms.Compose(steps)(image)[None]).softmax(-1).numpy()
    np.testing.assert_allclose(classifier.predict([image]), expected, atol=1e-5)


def test_a_second_call_adds_to_the_card(weights: Path) -> None:
    assert add("flowers.pth", "--architecture", f"timm/{ARCHITECTURE}", "--labels", ",".join(NAMES)) == 0
    assert add("flowers.pth", "--activation", "sigmoid") == 0
    assert add("flowers.pth", "--squash") == 0
    card = tomllib.loads((weights.parent / "flowers.pth.card.toml").read_text())
    assert card == {"architecture": f"timm/{ARCHITECTURE}", "labels": NAMES, "squash": True, "activation": "sigmoid"}
    assert swin_core.load(weights).activation == "sigmoid"


def test_the_architecture_may_stand_before_the_file(weights: Path) -> None:
    (weights.parent / "names.txt").write_text("\n".join(NAMES))
    assert add(f"timm/{ARCHITECTURE}@flowers.pth", "--labels", "names.txt") == 0
    assert list(swin_core.load(weights).labels) == NAMES


def test_labels_from_class_folders(weights: Path) -> None:
    for name in reversed(NAMES):
        (weights.parent / "photos" / name).mkdir(parents=True)
    assert add("flowers.pth", "--architecture", f"timm/{ARCHITECTURE}", "--labels-from", "photos") == 0
    assert list(swin_core.load(weights).labels) == NAMES


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.pth"], "there is no file 'nowhere.pth'"),
        (["flowers.pth", "--labels", "a,b"], "has 5 classes, and the card names 2"),
        (["flowers.pth", "--labels", "nowhere.txt"], "'nowhere.txt' cannot be read"),
        (["flowers.pth", "--labels-from", "nowhere"], "there is no folder 'nowhere'"),
        (["flowers.pth", "--mean", "0.5", "0.5"], "mean"),
        (["flowers.pth", "--std", "0"], "std.0: input should be greater than 0"),
        (["flowers.pth", "--image-size", "0"], "image_size: input should be greater than or equal to 1"),
        (["flowers.pth", "--architecture", "timm/resnet18"], "timm/resnet18"),
        (["flowers.pth", "--architecture", "timm/nonsense"], "nonsense"),
    ],
)
def test_refusals_are_one_line_and_write_no_card(
    weights: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    if "--architecture" not in words:
        words = [*words, "--architecture", f"timm/{ARCHITECTURE}"]
    assert add(*words) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert not (weights.parent / "flowers.pth.card.toml").exists()


def test_the_list_names_bundled_and_kept_models(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (weights.parent / "models").mkdir()
    weights.rename(weights.parent / "models" / "flowers.pth")
    assert add("models/flowers.pth", "--architecture", f"timm/{ARCHITECTURE}", "--labels", ",".join(NAMES)) == 0
    capsys.readouterr()
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("swin_milli_cifar100 ")
    (line,) = [line for line in lines if line.startswith("models/flowers.pth ")]
    assert line.endswith(f"weights file flowers.pth, timm/{ARCHITECTURE}, 5 classes")
