"""Loading bundled models, runs and weights files of every layout; refused files; locks, hashes and memory."""

from __future__ import annotations

import gc
import hashlib
import os
import pickle
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import timm
import torch
from PIL import Image
from timm.models.swin_transformer import SwinTransformer as TimmSwin
from torch import nn
from torchvision.models.swin_transformer import SwinTransformer as TorchvisionSwin

import swin_core
from swin_core.errors import ConfigError, ModelError, SwinError
from swin_core.models.windows import relative_position_index
from swin_core.zoo import classifier as classifier_module
from swin_core.zoo import load as zoo
from tests.fixtures.pages import save_model
from tests.fixtures.reference import randomise

pytestmark = pytest.mark.usefixtures("one_thread")
LABELS = ["ant", "bee", "cow"]
METADATA = {"labels": LABELS, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1], "image_size": 32, "description": "one"}


def tiny(**changes: Any) -> swin_core.Swin:
    model = swin_core.build("swin_nano", **{"num_classes": 3, "depths": (1, 1), "num_heads": (2, 4), **changes})
    randomise(model)
    return model.eval()


def saved(path: Path, **changes: Any) -> Path:
    swin_core.save_weights(tiny(), path, METADATA | changes)
    return path


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one bundled model, `swin_tiny_animals`."""
    folder = tmp_path / "assets"
    saved(folder / "swin_tiny_animals.safetensors")
    (folder / "swin_tiny_animals.json").write_text("{}")
    monkeypatch.setattr(zoo, "ASSETS", folder)
    return folder


@pytest.fixture
def image() -> Image.Image:
    draw = np.random.default_rng(0)
    return Image.fromarray(draw.integers(0, 256, (40, 50, 3), dtype=np.uint8))


def refused(name: str, words: str, **options: Any) -> str:
    """Check that loading fails with one short line that matches `words`; return the line."""
    with pytest.raises(SwinError, match=words) as caught:
        swin_core.load(name, **options)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < 500
    return line


# Bundled models, runs and files


def test_a_bundled_model_is_loaded_by_name(assets: Path, image: Image.Image) -> None:
    assert swin_core.available() == {"swin_tiny_animals": "one"}
    classifier = swin_core.load("swin_tiny_animals")
    assert classifier.name == "swin_tiny_animals"
    assert (classifier.labels, classifier.num_classes, classifier.image_size) == (tuple(LABELS), 3, 32)
    assert (classifier.mean, classifier.std) == ((0.4, 0.5, 0.6), (0.2, 0.3, 0.1))
    assert classifier.description == "one"
    file = assets / "swin_tiny_animals.safetensors"
    assert classifier.weights_hash == hashlib.sha256(file.read_bytes()).hexdigest()
    assert not classifier.model.training
    resized = image.resize((40, 32), Image.Resampling.BICUBIC).crop((4, 0, 36, 32))
    x = (np.asarray(resized) / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.3, 0.1]
    with torch.inference_mode():
        logits = tiny()(torch.tensor(x.transpose(2, 0, 1)[None], dtype=torch.float32))
    np.testing.assert_allclose(classifier.predict([image]), logits.softmax(-1).numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["swin_micro_cifar100", "swin_micro_flowers"])
def test_the_models_that_come_with_the_project(name: str, samples: dict[str, Path]) -> None:
    description = swin_core.available()[name]
    assert 20 < len(description) < 200
    assert description.isprintable()
    classifier = swin_core.load(name)
    assert classifier.description == description
    names = ("rose", "tulip")
    probabilities = classifier.predict([swin_core.read_image(samples[sample]) for sample in names])
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert [classifier.labels[row.argmax()].removesuffix("s") for row in probabilities] == list(names)


def test_labels_and_device_are_the_callers(assets: Path) -> None:
    classifier = swin_core.load("swin_tiny_animals", ["x", "y", "x"], "cpu")
    assert classifier.labels == ("x, class 0", "y", "x, class 2")
    assert classifier.device == torch.device("cpu")
    with pytest.raises(ConfigError, match="there is no device 'meta' here"):  # it has no numbers
        swin_core.load("swin_tiny_animals", device="meta")
    with pytest.raises(ConfigError, match="has 3 classes; 2 labels were given"):
        swin_core.load("swin_tiny_animals", ["x", "y"])


def test_a_run_is_loaded_by_folder_and_by_name(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "20250101-120000-first"
    saved(run / "model.safetensors")
    for name in (str(run), run.name):
        classifier = swin_core.load(name, runs_root=tmp_path / "runs")
        assert (classifier.name, classifier.labels) == (run.name, tuple(LABELS))
    (run / "config.json").write_text("{}")
    (run / "model.safetensors").unlink()
    refused(run.name, "has saved no weights yet; wait for its first epoch", runs_root=tmp_path / "runs")


def copy_into(other: nn.Module, ours: swin_core.Swin) -> nn.Module:
    theirs, _ = swin_core.weights.files.convert(other.state_dict())  # tensors that share memory with `other`
    for key, value in theirs.items():
        value.copy_(ours.state_dict()[key])
    return other.eval()


def others(layout: str, ours: swin_core.Swin) -> tuple[dict[str, Any], nn.Module]:
    """Return a file's content in another project's layout, and a model that computes the expected logits."""
    config = ours.config
    sizes = {"embed_dim": config.embed_dim, "num_heads": list(config.num_heads), "depths": list(config.depths)}
    if layout == "timm":
        model: nn.Module = TimmSwin(
            config.image_size,
            config.patch_size,
            window_size=config.window_size,
            num_classes=config.num_classes,
            **sizes,
        )
        return copy_into(model, ours).state_dict(), model
    if layout == "torchvision":
        patch, window = [config.patch_size] * 2, [config.window_size] * 2
        model = TorchvisionSwin(patch, window_size=window, num_classes=config.num_classes, **sizes)
        return copy_into(model, ours).state_dict(), model
    index = relative_position_index((config.window_size,) * 2, config.window_size)
    state = {**ours.state_dict(), "layers.0.blocks.0.attn.relative_position_index": index}
    return {"model": state, "epoch": 299}, ours


@pytest.mark.parametrize("layout", ["microsoft", "timm", "torchvision"])
def test_files_of_other_projects(layout: str, tmp_path: Path, image: Image.Image) -> None:
    sizes = {"patch_size": 4, "window_size": 7, "embed_dim": 16, "depths": (2, 1, 1, 1), "num_heads": (1, 2, 4, 8)}
    ours = tiny(num_classes=1000, image_size=224, **sizes)
    content, peer = others(layout, ours)
    torch.save(content, tmp_path / "theirs.pth")
    classifier = swin_core.load(str(tmp_path / "theirs.pth"))
    assert (classifier.name, classifier.image_size) == ("theirs", 224)
    assert (classifier.labels[0], classifier.labels[985]) == ("tench, Tinca tinca", "daisy")
    assert f"{layout} layout" in classifier.description
    config = {"input_size": (3, 224, 224), "interpolation": "bicubic", "crop_pct": 0.9}
    x = timm.data.create_transform(**config)(image)[None]  # with ImageNet's mean, as all three are trained
    with torch.inference_mode():
        expected = peer(x).softmax(-1).numpy()
    np.testing.assert_allclose(classifier.predict([image]), expected, rtol=1e-3, atol=1e-7)


def test_labels_are_those_of_the_head() -> None:
    known = {1000: ("tench, Tinca tinca", "toilet tissue, toilet paper, bathroom tissue"), 7: ("class 0", "class 6")}
    for count, (first, last) in known.items():
        classifier = swin_core.Classifier.from_timm(timm.create_model("test_vit", num_classes=count))
        assert (len(classifier.labels), classifier.labels[0], classifier.labels[-1]) == (count, first, last)


# What is refused


@pytest.mark.parametrize(
    "name",
    ["", " ", "nothing", "none.pth", "a\0b", "x" * 300, "x/" * 3000, "../nothing", "/nothing", "a\nb", "\udcff", "."],
)
def test_unknown_names(name: str, assets: Path, tmp_path: Path) -> None:
    line = refused(name, "there is no model .* bundled are swin_tiny_animals", runs_root=tmp_path / "runs")
    assert "does not start with 'timm/'" in line


def test_a_name_close_to_a_bundled_one(assets: Path) -> None:
    refused("swin_tiny_animal", "did you mean swin_tiny_animals")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello, this is text\n" * 100, "neither safetensors nor a PyTorch file"),
        (lambda path: path.read_bytes()[:-100], "cut short or damaged"),
        (lambda path: path.read_bytes()[:60], "cut short or damaged"),
    ],
)
def test_files_that_hold_no_weights(content: Any, words: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "weights.safetensors")
    path.write_bytes(content(path) if callable(content) else content)
    refused(str(path), words)


def test_a_file_of_another_architecture(tmp_path: Path) -> None:
    model = timm.create_model("test_resnet")
    model.layer1 = nn.Identity()
    torch.save(model.state_dict(), tmp_path / "changed.pth")
    line = refused(str(tmp_path / "changed.pth"), "'changed.pth' cannot be used: its keys are not those of a Swin ")
    assert "as in timm/<model>@FILE, or load the model by a Python file" in line
    swin_core.save_weights(tiny(num_classes=0), tmp_path / "headless.safetensors")
    refused(str(tmp_path / "headless.safetensors"), "has no classification head")
    swin_core.save_weights(tiny(in_chans=4), tmp_path / "four.safetensors")
    refused(
        str(tmp_path / "four.safetensors"),
        "takes 4 channels; state the mean and std of each in four.safetensors.card.toml",
    )


class Payload:
    """Create a file when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def test_a_file_that_runs_code_is_refused_and_nothing_ran(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    torch.save({"model": tiny().state_dict(), "extra": Payload(mark)}, tmp_path / "evil.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Payload(mark), 2))
    for name in ("evil.pth", "bare.pth"):
        refused(str(tmp_path / name), "refused, nothing in it ran")
    assert not mark.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["ant"]},
        {"labels": 3},
        {"labels": {"a": 1, "b": 2, "c": 3}},
        {"mean": "high"},
        {"mean": [1, 2]},
        {"mean": 0.5},
        {"std": [0.1, 0, 0.1]},
        {"std": [0.1, float("nan"), 0.1]},
        {"std": None},
        {"image_size": "large"},
        {"image_size": 10**12},
        {"image_size": float("inf")},
        {"image_size": [32]},
    ],
)
def test_metadata_that_cannot_be(changes: dict[str, Any], tmp_path: Path) -> None:
    refused(
        str(saved(tmp_path / "weights.safetensors", **changes)),
        "'weights.safetensors' (cannot be used: it has .*labels|has no list of labels|describes)",
    )


def test_metadata_that_is_odd_but_harmless(tmp_path: Path, image: Image.Image) -> None:
    name = "<img src=x onerror=alert(1)>"
    path = saved(tmp_path / "weights.safetensors", labels=[name, 2, None], description=[1])
    classifier = swin_core.load(str(path))
    assert classifier.labels == (name, "2", "None")
    assert classifier.predict([image]).shape == (1, 3)


# Locks, hashes, modes, memory


def test_classifiers_of_one_model_share_its_lock(image: Image.Image) -> None:
    model = tiny()
    one, two, other = (
        swin_core.Classifier(shared, LABELS, (0.5,) * 3, (0.5,) * 3, 32) for shared in (model, model, tiny())
    )
    assert one.lock is two.lock
    assert one.lock is not other.lock
    waiting = threading.Thread(target=two.predict, args=([image],))
    with one.lock:
        waiting.start()
        assert other.predict([image]).shape == (1, 3)  # its own lock is free
        waiting.join(0.3)
        assert waiting.is_alive()
    waiting.join(20)
    assert not waiting.is_alive()


def test_predictions_leave_the_model_as_it_was(image: Image.Image) -> None:
    model = tiny(drop_path=0.5).train()
    model.head.eval()
    modes = [module.training for module in model.modules()]
    classifier = swin_core.Classifier(model, LABELS, (0.5,) * 3, (0.5,) * 3, 32)
    one, two = (classifier.predict([image] * 8) for _ in range(2))
    np.testing.assert_array_equal(one, two)  # no drop path
    assert [module.training for module in model.modules()] == modes
    assert classifier.predict([]).shape == (0, 3)


def test_the_hash_tells_weights_apart() -> None:
    model = tiny()
    hashes = []
    for change in (0.0, 0.0, 1e-3):
        with torch.no_grad():
            model.head.bias[1] += change
        hashes.append(swin_core.Classifier(model, LABELS, (0.5,) * 3, (0.5,) * 3, 32).weights_hash)
    assert hashes[0] == hashes[1] != hashes[2]
    assert len(hashes[0]) == 64


def test_changes_of_model_do_not_climb(tmp_path: Path, image: Image.Image) -> None:
    """Each model has a megabyte of weights and is explained, so that caches of explanations are covered too."""
    for number in range(3):
        model = swin_core.build("swin_nano", num_classes=3, depths=(1, 1, 1))
        swin_core.save_weights(model, tmp_path / f"{number}.safetensors", METADATA)
    gc.collect()
    gc.freeze()  # what there is already is not looked at again
    locks = len(classifier_module._locks)
    models: list[weakref.ref[nn.Module]] = []
    sizes = []
    for number in range(40):
        classifier = swin_core.load(str(tmp_path / f"{number % 3}.safetensors"))
        swin_core.explain(classifier, image, targets=[0, 1])
        models.append(weakref.ref(classifier.model))
        if number % 4 == 3:
            gc.collect()
            sizes.append(psutil.Process().memory_info().rss)
    del classifier
    gc.collect()
    gc.unfreeze()
    assert not [model for model in models if model() is not None]
    assert sizes[-1] - sizes[0] < 18 * 2**20
    assert len(classifier_module._locks) <= locks


def test_available_models_are_described_in_a_line(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(assets / "another.safetensors", description="two")
    assert swin_core.available() == {"another": "two", "swin_tiny_animals": "one"}
    swin_core.save_weights(tiny(embed_dim=96), assets / "wider.safetensors", METADATA | {"description": "three"})
    assert list(swin_core.available()) == ["wider", "another", "swin_tiny_animals"]
    monkeypatch.setattr(zoo, "ASSETS", assets / "none")
    assert swin_core.available() == {}
    refused("another", "bundled are none")


def test_the_hash_follows_the_weights() -> None:
    """Training a model changes its hash, so that an export does not name the old weights."""
    model = swin_core.build("swin_nano", num_classes=2)
    classifier = swin_core.Classifier(model, "ab", (0.5,) * 3, (0.5,) * 3, 32, weights_hash="of the file")
    assert classifier.weights_hash == "of the file"
    with torch.no_grad():
        model.head.weight.add_(1)
    changed = classifier.weights_hash
    assert changed != "of the file"
    assert classifier.weights_hash == changed
    with torch.no_grad():
        model.head.weight.add_(1)
    assert classifier.weights_hash != changed


def test_predictions_that_are_not_finite_are_refused() -> None:
    """Such as those of weights with flipped bits."""
    model = swin_core.build("swin_nano", num_classes=2)
    classifier = swin_core.Classifier(model, "ab", (0.5,) * 3, (0.5,) * 3, 32, name="broken")
    image = Image.linear_gradient("L").convert("RGB")
    classifier.predict([image])
    with torch.no_grad():
        model.head.bias[1] = float("nan")
    refused = r"broken gives numbers that are not finite: its weights are damaged, or mean"
    with pytest.raises(ModelError, match=refused):
        classifier.predict([image])
    for method in ("gradcam", "patchrelevance", "occlusion"):
        with pytest.raises(ModelError, match=refused):
            swin_core.explain(classifier, image, method=method)


def test_a_model_that_is_added_to_or_removed_from_the_bundled_ones_is_listed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "ASSETS", tmp_path)
    assert list(swin_core.available()) == []
    save_model(tmp_path, "first", ("a", "b"), 1)
    assert list(swin_core.available()) == ["first"]
    swin_core.available().clear()  # a caller's own
    assert swin_core.available() == {"first": "random"}
    (tmp_path / "first.safetensors").unlink()
    assert list(swin_core.available()) == []
