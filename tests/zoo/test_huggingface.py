"""Folders of transformers and timm, and repositories of the hub, without a network."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from timm.models import save_for_hf
from torch import nn

import swin_core
from swin_core.errors import ModelError, SwinError
from swin_core.models.swin import Swin
from swin_core.zoo import huggingface
from swin_core.zoo.huggingface import preprocessing
from swin_core.zoo.recognise import recognise
from tests.fixtures.reference import randomise, relative_error

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]
LABELS = {0: "cat", 1: "dog", 2: "owl"}
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 64}


def saved(kind: str, folder: Path) -> nn.Module:
    """Save a tiny classifier with its image processor; return it."""
    if kind == "swin":
        config: Any = transformers.SwinConfig(
            image_size=64, embed_dim=12, depths=[2, 2], num_heads=[2, 3], window_size=4, id2label=LABELS
        )
        model: Any = transformers.SwinForImageClassification(config)
    elif kind == "vit":
        model = transformers.ViTForImageClassification(transformers.ViTConfig(**TINY, id2label=LABELS))
    else:
        config = transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], id2label=LABELS)
        model = transformers.ConvNextForImageClassification(config)
    randomise(model).eval().save_pretrained(folder)
    processor = transformers.ViTImageProcessor(size={"height": 64, "width": 64}, image_mean=[0.4, 0.5, 0.6])
    if kind == "convnext":
        processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 64})
    processor.save_pretrained(folder)
    return model


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["swin", "vit", "convnext"])
def test_a_folder_of_save_pretrained(kind: str, tmp_path: Path) -> None:
    source = saved(kind, tmp_path / "mine")
    classifier = swin_core.load(tmp_path / "mine")
    assert (classifier.name, classifier.labels, classifier.image_size) == ("mine", ("cat", "dog", "owl"), 64)
    assert isinstance(classifier.model, Swin) == (kind == "swin")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "mine")
    x = processor(photo(), return_tensors="pt")["pixel_values"]
    ours = classifier.tensor(classifier.view(photo()))
    assert ours.shape == x.shape
    assert (ours - x).abs().mean() < 0.02  # Pillow's resize and torchvision's differ by rounding
    with torch.inference_mode():
        expected = source(x).logits.softmax(-1).numpy()
        logits = source(ours).logits
        theirs = classifier.model(ours)
    assert relative_error(theirs if isinstance(theirs, torch.Tensor) else theirs.logits, logits) < 1e-5
    np.testing.assert_allclose(classifier.predict([photo()])[0], expected[0], atol=0.03)


def test_facts_of_a_folder(tmp_path: Path) -> None:
    saved("swin", tmp_path / "mine")
    recognition = recognise(tmp_path / "mine")
    assert recognition.library == "swin"
    assert recognition.origins["labels"] == "config.json, id2label"
    assert recognition.origins["mean"] == "preprocessor_config.json"
    assert recognition.missing == ()


def test_a_folder_of_timm(tmp_path: Path) -> None:
    source = randomise(timm.create_model("test_resnet", num_classes=3)).eval()
    save_for_hf(source, tmp_path / "mine", model_config={"label_names": list(LABELS.values())}, safe_serialization=True)
    classifier = swin_core.load(tmp_path / "mine")
    assert classifier.labels == ("cat", "dog", "owl")
    x = torch.randn(1, 3, 160, 160)
    with torch.inference_mode():
        assert relative_error(classifier.model(x), source(x)) < 1e-5


def test_a_repository_in_the_cache_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "hub"
    for constants in (huggingface_hub.constants, huggingface_hub.file_download):
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache), raising=False)
    monkeypatch.setattr(huggingface, "reachable", lambda host: False)
    with pytest.raises(ModelError, match="hf/me/mine is not on this machine and there is no network"):
        swin_core.load("hf/me/mine")
    repo = cache / "models--me--mine"
    saved("swin", repo / "snapshots" / "abc123")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc123")
    classifier = swin_core.load("hf/me/mine")
    assert (classifier.name, classifier.labels) == ("hf/me/mine", ("cat", "dog", "owl"))


@pytest.mark.parametrize("name", ["hf/", "hf/../secret", "hf/a/b/c", "hf/a b"])
def test_names_that_are_no_repository(name: str) -> None:
    with pytest.raises(ModelError, match=r"is no name of a repository; write hf/<owner>/<model>"):
        swin_core.load(name)


def test_without_transformers_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved("vit", tmp_path / "mine")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        ModelError, match=r"'mine' holds a model of Hugging Face transformers.*pip install 'swinlens\[hf\]'"
    ):
        swin_core.load(tmp_path / "mine")


def test_folders_that_cannot_be_loaded(tmp_path: Path) -> None:
    saved("vit", tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "empty")
    (tmp_path / "empty" / "model.safetensors").unlink()
    with pytest.raises(SwinError, match=r"the folder .empty. has a config.json and no weights; add model"):
        swin_core.load(tmp_path / "empty")
    model = transformers.ViTModel(transformers.ViTConfig(**TINY))
    model.save_pretrained(tmp_path / "features")
    with pytest.raises(ModelError, match="has no classification head"):
        swin_core.load(tmp_path / "features")


def test_a_size_as_height_and_width(tmp_path: Path) -> None:
    config = transformers.HieraConfig(image_size=[64, 64], embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 4])
    randomise(transformers.HieraForImageClassification(config)).save_pretrained(tmp_path / "hiera")
    assert swin_core.load(tmp_path / "hiera").image_size == 64


def test_a_model_of_blue_green_red_sees_the_colours_of_its_processor(tmp_path: Path) -> None:
    config = transformers.MobileViTConfig(
        image_size=64,
        hidden_sizes=[8, 12, 16],
        neck_hidden_sizes=[4, 4, 8, 8, 8, 8, 16],
        num_attention_heads=1,
        id2label=LABELS,
    )
    source = randomise(transformers.MobileViTForImageClassification(config)).eval()
    source.save_pretrained(tmp_path / "mine")
    processor = transformers.MobileViTImageProcessor(size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64})
    processor.save_pretrained(tmp_path / "mine")
    classifier = swin_core.load(tmp_path / "mine")
    x = processor(photo(), return_tensors="pt")["pixel_values"]
    ours = classifier.tensor(classifier.view(photo()))
    assert (ours.flip(1) - x).abs().mean() < 0.02
    with torch.inference_mode():
        assert relative_error(classifier.logits_model(ours), source(ours.flip(1)).logits) < 1e-5


def applied(settings: dict[str, Any], image: Image.Image) -> torch.Tensor:
    """Pixels that the described preprocessing gives a model, by our own classifier."""
    facts = preprocessing(settings)
    classifier = swin_core.Classifier(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), ["a", "b"], **facts)
    return classifier.tensor(classifier.view(image))


@pytest.mark.parametrize(
    "processor",
    [
        transformers.ViTImageProcessor(size={"height": 48, "width": 48}, resample=2),
        transformers.ViTImageProcessor(size={"height": 48, "width": 48}, do_normalize=False),
        transformers.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.8),
        transformers.ConvNextImageProcessor(size={"shortest_edge": 384}),
        transformers.CLIPImageProcessor(size={"shortest_edge": 60}, crop_size={"height": 48, "width": 48}),
        transformers.EfficientNetImageProcessor(size={"height": 48, "width": 48}),
        transformers.BeitImageProcessor(size={"height": 64, "width": 64}, do_center_crop=True, crop_size=48),
    ],
)
def test_preprocessing_equals_the_processors(processor: Any) -> None:
    image = photo()
    expected = processor(image, return_tensors="pt")["pixel_values"]
    settings = json.loads(json.dumps(processor.to_dict(), default=str))
    ours = applied(settings, image)
    assert ours.shape == expected.shape
    assert float((ours - expected).abs().mean() / expected.std()) < 0.03


@pytest.mark.parametrize("library", ["transformers", "timm"])
def test_a_grey_model_without_stated_preprocessing_gets_grey(library: str, tmp_path: Path) -> None:
    if library == "timm":
        source: nn.Module = timm.create_model("test_vit", in_chans=1, num_classes=3).eval()
        torch.save({"state_dict": source.state_dict(), "arch": "test_vit"}, tmp_path / "grey.pth")
        classifier = swin_core.load(tmp_path / "grey.pth")
    else:
        config = transformers.ViTConfig(**TINY, num_channels=1, id2label=LABELS)
        source = transformers.ViTForImageClassification(config).eval()
        source.save_pretrained(tmp_path / "grey")
        classifier = swin_core.load(tmp_path / "grey")
    view = classifier.view(photo())
    assert (view == view[..., :1]).all()
    with torch.no_grad():
        output = source(classifier.tensor(view))
    logits = output if isinstance(output, torch.Tensor) else output.logits
    np.testing.assert_allclose(classifier.predict([photo()]), logits.softmax(-1), atol=1e-6)
