"""Exported files in other runtimes: the model's own logits, its class names, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
import timm
import torch
from PIL import Image

from swin_core.commands import export as command
from swin_core.errors import ConfigError, ModelError
from swin_core.models.config import SwinConfig
from swin_core.models.swin import Swin
from swin_core.weights.files import save_weights
from swin_core.zoo import export as exporting
from swin_core.zoo.classifier import Classifier
from swin_core.zoo.export import export, metadata

LABELS = ["rose", "tulip", "cup"]


def tiny(**changes: Any) -> Classifier:
    """Return a model with shifted windows, padding and a map smaller than the window."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"embed_dim": 8, "depths": (2, 1), "num_heads": (2, 4), "window_size": 4, "num_classes": 3}
    model = Swin(SwinConfig(**shape | {"image_size": 28} | changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return Classifier(model, LABELS, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), 28, crop_fraction=0.9, name="tiny")


def image(side: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8))


def test_onnx(tmp_path: Path) -> None:
    classifier = tiny()
    result = export(classifier, tmp_path / "tiny.onnx")
    session = onnxruntime.InferenceSession(result.path, providers=["CPUExecutionProvider"])
    pixels = np.stack([classifier.view(image(side)) for side in (60, 31)])
    _, probabilities = session.run(["logits", "probabilities"], {"pixels": pixels})
    np.testing.assert_allclose(probabilities, classifier.predict([image(60), image(31)]), atol=1e-5)
    stated = json.loads(session.get_modelmeta().custom_metadata_map["swinlens"])
    assert stated == json.loads(json.dumps(metadata(classifier)))
    assert stated["labels"] == LABELS
    assert sorted(tmp_path.iterdir()) == [result.path]


def test_openvino(tmp_path: Path) -> None:
    classifier = tiny(version=2)
    result = export(classifier, tmp_path / "tiny.xml")
    core = openvino.Core()
    model = core.read_model(result.path)
    assert json.loads(model.get_rt_info(["swinlens"]).astype(str))["labels"] == LABELS
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    pixels = classifier.view(image())[None]
    np.testing.assert_allclose(compiled({"pixels": pixels})["probabilities"], classifier.predict([image()]), atol=1e-5)


def test_program(tmp_path: Path) -> None:
    model: Any = timm.create_model("resnet10t", num_classes=3)
    classifier = Classifier(model, LABELS, 0.5, 0.5, 32)
    extra = {"swinlens.json": ""}
    program = torch.export.load(export(classifier, tmp_path / "net.pt2").path, extra_files=extra)
    pixels = torch.tensor(classifier.view(image()))[None]
    expected = classifier.predict([image()])
    np.testing.assert_allclose(program.module()(pixels)[1].detach(), expected, atol=1e-5)
    assert json.loads(extra["swinlens.json"])["image_size"] == 32


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classifier, file = tiny(), tmp_path / "flowers.pt2"
    stated = {"labels": LABELS, "mean": [0.5] * 3, "std": [0.5] * 3, "image_size": 28}
    save_weights(classifier.model, tmp_path / "tiny.safetensors", stated)
    assert command.main([str(tmp_path / "tiny.safetensors"), "--out", str(file)]) == 0
    first, second, _, last = capsys.readouterr().out.splitlines()
    assert first == str(file)
    assert "(batch, 28, 28, 3) uint8" in second
    assert "from the model's own" in last


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = tiny()
    with pytest.raises(ConfigError, match=r"'net.pb' does not end in .onnx, .xml, .pt2"):
        export(classifier, tmp_path / "net.pb")
    with pytest.raises(ConfigError, match="cannot be written"):
        export(classifier, tmp_path / "no" / "net.pt2")
    with pytest.raises(ConfigError, match=r"float32 on the CPU, not torch.float16"):
        export(Classifier(tiny().model.half(), LABELS, 0.5, 0.5, 28), tmp_path / "net.pt2")
    with monkeypatch.context() as patch:
        patch.setattr(exporting, "find_spec", lambda name: None)
        with pytest.raises(ConfigError, match=r"needs onnxscript, openvino; pip install 'swinlens\[export\]'"):
            export(classifier, tmp_path / "net.xml")
    with monkeypatch.context() as patch:
        patch.setitem(exporting._RUNNERS, ".pt2", lambda path, pixels: [np.ones((len(pixels), 3), np.float32)] * 2)
        with pytest.raises(ModelError, match=r"differ by .* the file was not kept"):
            export(classifier, tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("activation", ["sigmoid", "none"])
def test_a_grey_model_with_other_outputs(tmp_path: Path, activation: str) -> None:
    """RGB becomes grey inside, and the outputs are activated as those of the classifier."""
    shape: dict[str, Any] = {"embed_dim": 8, "depths": (1,), "num_heads": (2,), "window_size": 4, "image_size": 16}
    model = torch.nn.Sequential(Swin(SwinConfig(**shape, in_chans=1, num_classes=3)), torch.nn.Linear(3, 2))
    classifier = Classifier(model, ["a", "b"], 0.4, 0.3, 16, activation=activation)
    program = torch.export.load(export(classifier, tmp_path / "grey.pt2").path)
    found = program.module()(torch.tensor(np.stack([classifier.view(image(side)) for side in (60, 31)])))[1]
    np.testing.assert_allclose(found.detach(), classifier.predict([image(60), image(31)]), atol=1e-5)


def test_the_weights_of_another_file_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"weights")
    with pytest.raises(ConfigError, match=r"'pytorch_model.bin' exists already"):
        export(tiny(), tmp_path / "pytorch_model.xml")
    assert (tmp_path / "pytorch_model.bin").read_bytes() == b"weights"


class Branches(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if x.mean() > 0 else x.amax((2, 3))


def test_a_model_that_torch_cannot_export(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be exported to torch.export"):
        export(Classifier(Branches(), LABELS, 0.5, 0.5, 28), tmp_path / "net.pt2")
