"""Files of other programs: what is recognised, where each fact comes from, and the same logits as the source's."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import swin_core
from swin_core.errors import ModelError, SwinError, WeightsError
from swin_core.models.swin import Swin
from swin_core.zoo.model_card import make_card, write_card
from swin_core.zoo.recognise import recognise
from tests.fixtures.reference import randomise, relative_error

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES: dict[str, Any] = {"img_size": 64, "window_size": 4, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 3)}
LABELS = ["cat", "dog", "owl"]


def tiny_swin(**changes: Any) -> nn.Module:
    return randomise(timm.create_model("swin_tiny_patch4_window7_224", **SIZES, num_classes=3, **changes)).eval()


def assert_same_logits(name: str | Path, source: nn.Module, size: int, channels: int = 3) -> swin_core.Classifier:
    classifier = swin_core.load(name)
    x = torch.randn(2, channels, size, size)
    with torch.inference_mode():
        assert relative_error(classifier.model(x), source(x)) < 1e-5
    return classifier


class Lit(lightning.LightningModule):
    """A classifier as people write it for Lightning."""

    def __init__(self, class_names: list[str], mean: Any, img_size: int = 64):
        super().__init__()
        self.save_hyperparameters()
        self.model = tiny_swin()
        self.criterion = nn.CrossEntropyLoss(weight=torch.ones(len(class_names)))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return self.criterion(self.model(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_of_lightning(tmp_path: Path) -> None:
    module = Lit(LABELS, np.array([0.1, 0.2, 0.3]))
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    data = TensorDataset(torch.randn(2, 3, 64, 64), torch.tensor([0, 2]))
    trainer.fit(module, DataLoader(data, batch_size=2))
    trainer.save_checkpoint(tmp_path / "lit.ckpt")
    recognition = recognise(tmp_path / "lit.ckpt")
    assert recognition.library == "swin"
    assert recognition.origins["labels"] == "hyper_parameters.class_names"
    assert recognition.facts.image_size == 64
    assert recognition.missing == ("std",)
    classifier = assert_same_logits(tmp_path / "lit.ckpt", module.model.eval(), 64)
    assert isinstance(classifier.model, Swin)
    assert classifier.labels == tuple(LABELS)
    assert classifier.mean == (0.1, 0.2, 0.3)
    image = torch.randn(3, 64, 64)
    bare = swin_core.Classifier(classifier.model, LABELS, classifier.mean, classifier.std, 64)
    maps = [
        swin_core.explain(model, image, targets=1, method="gradcam", layers=["norm"]).maps
        for model in (classifier, bare)
    ]
    np.testing.assert_array_equal(*maps)


def test_a_checkpoint_of_timms_training_script(tmp_path: Path) -> None:
    plain, average = (
        randomise(timm.create_model("test_resnet", num_classes=3, in_chans=1), seed).eval() for seed in (1, 2)
    )
    arguments = argparse.Namespace(model="test_resnet", img_size=96, mean=(0.5,), std=(0.25,), crop_pct=0.9, lr=0.1)
    content = {"arch": "test_resnet", "args": arguments, "state_dict": plain.state_dict(), "epoch": 4}
    torch.save(content | {"state_dict_ema": average.state_dict()}, tmp_path / "best.pth.tar")
    recognition = recognise(tmp_path / "best.pth.tar")
    assert (recognition.library, recognition.facts.architecture) == ("timm", "timm/test_resnet")
    assert recognition.origins["image_size"] == "args.img_size"
    assert recognition.classes == 3
    classifier = assert_same_logits(tmp_path / "best.pth.tar", average, 96, 1)
    assert "weights of 'state_dict_ema'; 'state_dict' can be named" in classifier.description
    assert (classifier.image_size, classifier.mean, classifier.crop_fraction) == (96, (0.5,), 0.9)
    assert_same_logits(f"{tmp_path / 'best.pth.tar'}#state_dict", plain, 96, 1)


def test_a_named_architecture_of_timm(tmp_path: Path) -> None:
    source = randomise(timm.create_model("test_vit", num_classes=4, img_size=96)).eval()
    torch.save({"model": {f"module.{key}": value for key, value in source.state_dict().items()}}, tmp_path / "vit.pth")
    classifier = assert_same_logits(f"timm/test_vit@{tmp_path / 'vit.pth'}", source, 96)
    assert (classifier.name, classifier.image_size, classifier.num_classes) == ("vit", 96, 4)
    with pytest.raises(WeightsError, match=r"it does not hold the weights of timm/test_resnet: it lacks 'bn1.bias'"):
        swin_core.load(f"timm/test_resnet@{tmp_path / 'vit.pth'}")
    with pytest.raises(ModelError, match="timm has no model 'test_vitt'; did you mean timm/test_vit"):
        swin_core.load(f"timm/test_vitt@{tmp_path / 'vit.pth'}")


def with_new_head(model: nn.Module, head: str) -> nn.Module:
    """A torchvision model with a head of its own: dropout and linear."""
    old = model.get_submodule(head)
    assert isinstance(old, nn.Linear)
    model.set_submodule(head, nn.Sequential(nn.Dropout(0.5), nn.Linear(old.in_features, 3)))
    return model


@pytest.mark.parametrize(
    ("name", "head"), [("resnet18", "fc"), ("swin_v2_t", "head"), ("mobilenet_v3_small", ""), ("squeezenet1_1", "")]
)
def test_a_named_architecture_of_torchvision(name: str, head: str, tmp_path: Path) -> None:
    source = torchvision.models.get_model(name, weights=None, num_classes=3)
    source = randomise(with_new_head(source, head) if head else source).eval()
    torch.save(source.state_dict(), tmp_path / "own.pth")
    classifier = assert_same_logits(f"torchvision/{name}@{tmp_path / 'own.pth'}", source, 64)
    transform = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    assert (classifier.image_size, classifier.mean) == (transform.crop_size[0], tuple(transform.mean))
    assert classifier.crop_fraction == transform.crop_size[0] / transform.resize_size[0]


def test_a_card_names_the_architecture_and_comes_before_the_file(tmp_path: Path) -> None:
    source = randomise(timm.create_model("test_resnet", num_classes=3)).eval()
    torch.save({"state_dict": source.state_dict(), "classes": ["a", "b", "c"]}, tmp_path / "own.pth")
    write_card(
        tmp_path / "own.pth", make_card({"architecture": "timm/test_resnet", "labels": LABELS, "image_size": 96})
    )
    recognition = recognise(tmp_path / "own.pth")
    assert recognition.origins == {"architecture": "the card", "labels": "the card", "image_size": "the card"}
    classifier = assert_same_logits(tmp_path / "own.pth", source, 96)
    assert (classifier.labels, classifier.image_size) == (tuple(LABELS), 96)
    write_card(tmp_path / "own.pth", make_card({"architecture": "timm/test_resnet", "labels": ["a"]}))
    with pytest.raises(SwinError, match=r"'own.pth' has 3 classes, and the card names 1; give one name"):
        swin_core.load(tmp_path / "own.pth")
    write_card(tmp_path / "own.pth", make_card({"architecture": "test_resnet"}))
    with pytest.raises(ModelError, match=r"'test_resnet' is no architecture; write timm/<model>"):
        recognise(tmp_path / "own.pth")


def test_a_guess_is_unique_or_names_the_candidates(tmp_path: Path) -> None:
    source = randomise(timm.create_model("test_resnet", num_classes=3)).eval()
    torch.save(source.state_dict(), tmp_path / "own.pth")
    recognition = recognise(tmp_path / "own.pth")
    assert (recognition.facts.architecture, recognition.origins["architecture"]) == (
        "timm/test_resnet",
        "keys and shapes",
    )
    assert_same_logits(tmp_path / "own.pth", source, 96)
    # These two differ in padding only, which no weight shows.
    torch.save(timm.create_model("tf_efficientnet_b0", num_classes=3).state_dict(), tmp_path / "net.pth")
    assert {"timm/efficientnet_b0", "timm/tf_efficientnet_b0"} <= set(recognise(tmp_path / "net.pth").candidates)
    assert recognise(tmp_path / "net.pth").missing[0] == "architecture"
    with pytest.raises(
        ModelError, match=r"its weights fit \d architectures: .*name one of them, as in timm/\w+@FILE\."
    ):
        swin_core.load(tmp_path / "net.pth")


def test_a_swin_with_windows_by_stage_is_timms(tmp_path: Path) -> None:
    """swin_s3_tiny_224 has windows 7, 7, 14, 7 and would give other logits with 14 everywhere."""
    source = randomise(timm.create_model("swin_s3_tiny_224", num_classes=3)).eval()
    torch.save(source.state_dict(), tmp_path / "s3.pth")
    assert recognise(tmp_path / "s3.pth").facts.architecture == "timm/swin_s3_tiny_224"
    assert_same_logits(tmp_path / "s3.pth", source, 224)


def test_the_checkpoint_of_a_run_opens_as_the_run(tmp_path: Path) -> None:
    model = swin_core.build("swin_nano", num_classes=3, image_size=48, shift=False)
    randomise(model)
    facts = {"labels": LABELS, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1], "image_size": 48}
    last = tmp_path / "20260101-120000-mine" / "checkpoints" / "last.pt"
    last.parent.mkdir(parents=True)
    state = {"place": {}, "model": model.state_dict(), "average": [], "optimizers": []}
    torch.save(state | {"metadata": facts | {"config": model.config.to_dict()}}, last)
    classifier = assert_same_logits(last, model.eval(), 48)
    assert classifier.name == "20260101-120000-mine"
    assert (classifier.labels, classifier.image_size, classifier.mean) == (tuple(LABELS), 48, (0.4, 0.5, 0.6))
    # A checkpoint of an earlier version takes the facts from the weights of its run; the average comes first.
    torch.save(state | {"average": [2 * value for value in model.parameters()]}, last)
    swin_core.save_weights(model, last.parent.parent / "model.safetensors", facts)
    again = swin_core.load(last)
    assert again.labels == tuple(LABELS)
    assert torch.equal(again.model.head.bias, 2 * model.head.bias)
    assert not again.model.config.shift


@pytest.mark.parametrize(
    ("content", "fact", "value"),
    [
        ({"hyper_parameters": {"class_to_idx": {"b": 1, "a": 0, "c": 2}}}, "labels", ["a", "b", "c"]),
        ({"id2label": {"0": "a", "2": "c", "1": "b"}}, "labels", ["a", "b", "c"]),
        ({"meta": {"dataset_meta": {"classes": ("a", "b", "c")}}}, "labels", ["a", "b", "c"]),
        ({"meta": {"CLASSES": ["a", "b", "c"]}}, "labels", ["a", "b", "c"]),
        ({"classes": ["a", "b"]}, "labels", None),
        ({"args": argparse.Namespace(classes=3, num_classes=3)}, "labels", None),
        ({"config": {"mean": [127.5] * 3, "std": torch.tensor([51.0] * 3)}}, "mean", [0.5] * 3),
        ({"config": {"mean": [0.5], "std": [0.5]}}, "mean", None),
        ({"args": argparse.Namespace(input_size=(3, 96, 96))}, "image_size", 96),
        ({"args": argparse.Namespace(val_crop_size=64, val_resize_size=80)}, "crop_fraction", 0.8),
    ],
)
def test_facts_that_programs_write(content: dict[str, Any], fact: str, value: Any, tmp_path: Path) -> None:
    torch.save(content | {"state_dict": tiny_swin().state_dict()}, tmp_path / "w.pth")
    assert getattr(recognise(tmp_path / "w.pth").facts, fact) == value


def test_a_head_of_several_layers_is_named(tmp_path: Path) -> None:
    source = tiny_swin()
    source.head.fc = nn.Sequential(nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 3))
    torch.save(source.state_dict(), tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match=r"'mine.pth' cannot be used: it holds 'head.*0.weight' and no head of one"):
        swin_core.load(tmp_path / "mine.pth")
