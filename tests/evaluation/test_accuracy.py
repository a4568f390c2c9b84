"""Evaluation against a slow loop, on the images and classes that a model and a data set share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import swin_core
from swin_core import runs
from swin_core.commands import evaluate as command
from swin_core.data.folders import image_folder
from swin_core.errors import DataError, TargetError
from swin_core.evaluation.accuracy import evaluate_classifier, evaluate_named
from swin_core.training import TrainConfig, train
from tests.evaluation.test_metrics import Linear

pytestmark = pytest.mark.usefixtures("one_thread")
ANIMALS = ("ant", "bee", "cow")


# Models and data sets that share some classes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of 8, 6 and 5 images, each of its own size."""
    root, draw = tmp_path / "animals", np.random.default_rng(0)
    for name, count in zip(ANIMALS, (8, 6, 5), strict=True):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = draw.integers(0, 256, (10 + index, 14, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def classifier(labels: tuple[str, ...], **options: object) -> swin_core.Classifier:
    torch.manual_seed(5)
    model = Linear(len(labels), 8)
    return swin_core.Classifier(model, labels, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), 8, name="linear", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{}, {"crop_fraction": 0.8}, {"interpolation": "bilinear"}, {"squash": True}], ids=str
)
def test_a_classifier_sees_its_own_view_of_each_image(options: dict[str, object], folder: Path) -> None:
    peer, dataset = classifier(("zebra", "Cow", "ants", "bee"), **options), image_folder(folder)
    done: list[tuple[int, int]] = []
    found = evaluate_classifier(peer, dataset, lambda *counts: done.append(counts))
    confusion, loss = np.zeros((4, 4), dtype=int), 0.0
    for index, label in enumerate(dataset.labels):
        place = (2, 3, 1)[label]
        probabilities = peer.predict([dataset.image(index)])[0]
        confusion[place, probabilities.argmax()] += 1
        loss -= np.log(probabilities[place])
    np.testing.assert_array_equal(found.metrics.confusion, confusion)
    assert found.metrics.loss == pytest.approx(loss / 19, rel=1e-5)
    assert found.metrics.top5 is None
    assert (found.model, found.data, found.split, found.left_out) == ("linear", "animals", "all", ())
    assert done == [(19, 19)]


def test_logits_of_mirror_images_are_averaged_beside_the_plain_metrics(folder: Path) -> None:
    peer, dataset = classifier(("zebra", "Cow", "ants", "bee")), image_folder(folder)
    done: list[tuple[int, int]] = []
    found = evaluate_classifier(peer, dataset, lambda *counts: done.append(counts), mirror=True)
    assert found.metrics.to_dict() == evaluate_classifier(peer, dataset).metrics.to_dict()
    loss, right = 0.0, 0
    peer.model.eval()
    for index, label in enumerate(dataset.labels):
        view = peer.view(dataset.image(index))
        both = peer.logits_model(peer.tensor(np.stack([view, view[:, ::-1]]))).double().detach().mean(0)
        loss -= float(both.log_softmax(0)[(2, 3, 1)[label]])
        right += int(both.argmax() == (2, 3, 1)[label])
    assert found.mirrored is not None
    assert found.mirrored.loss == pytest.approx(loss / 19, rel=1e-5)
    assert found.mirrored.top1 == pytest.approx(right / 19)
    assert found.mirrored.loss != found.metrics.loss
    assert found.to_dict()["mirrored"]["top1"] == found.mirrored.top1
    assert done == [(19, 38), (38, 38)]
    assert "mirror image: loss" in command.lines(found)
    assert "mirror" not in command.lines(replace(found, mirrored=None))


def test_images_of_unknown_classes_are_left_out(folder: Path) -> None:
    found = evaluate_classifier(classifier(("cow", "dog", "ant")), image_folder(folder))
    assert found.left_out == ("bee",)
    assert found.metrics.count == 13
    assert found.metrics.confusion.sum(1).tolist() == [5, 0, 8]
    assert json.loads(json.dumps(found.to_dict()))["left_out"] == ["bee"]


def test_a_model_of_other_classes_is_refused(folder: Path) -> None:
    words = "no image of animals is of a class that linear knows: it knows class 0, class 1, class 2"
    with pytest.raises(DataError, match=words):
        evaluate_classifier(classifier(("class 0", "class 1", "class 2")), image_folder(folder))


def test_an_ambiguous_class_stops_the_evaluation(folder: Path) -> None:
    with pytest.raises(TargetError, match="fits several classes"):
        evaluate_classifier(classifier(("ant, insect", "Bee", "BEE")), image_folder(folder))


def test_a_run_is_evaluated_as_its_training_validated_it(folder: Path, tmp_path: Path) -> None:
    own = {"optimizer": "adamw", "lr": 1e-3, "batch_size": 8, "holdout": 0.4, "seed": 2, "cutout": 2}
    config = TrainConfig(data=str(folder), variant="swin_nano", image_size=8, epochs=2, **own)
    run = runs.create(config.to_dict(), tmp_path / "runs")
    train(config, run)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    for name in (run.name, str(run), str(run / "model.safetensors")):
        found = evaluate_named(name, str(folder), "val", runs_root=tmp_path / "runs")
        assert (found.metrics.loss, found.metrics.top1) == (last["loss"], last["top1"])
    assert found.labels == ANIMALS


def test_a_bundled_model_does_what_its_card_says(data_root: Path) -> None:
    """On the 364 images that it was validated on while it was trained."""
    card = json.loads((swin_core.zoo.load.ASSETS / "swin_micro_flowers.json").read_text())
    found = evaluate_named("swin_micro_flowers", "flowers", root=data_root)
    assert found.metrics.count == 364
    assert found.metrics.loss == pytest.approx(card["evaluation"]["loss"], rel=1e-4)
    assert found.metrics.top1 == pytest.approx(card["evaluation"]["top1"], abs=1.5 / 364)


@pytest.fixture
def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`swinlens evaluate` with arguments: exit status, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
        status = command.main()
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    model = swin_core.build("swin_nano", num_classes=7, image_size=8)
    labels = ["cow", "dog", "ant", *(f"class {index}" for index in range(4))]
    swin_core.save_weights(model, tmp_path / "w.safetensors", {"labels": labels, "image_size": 8})
    return tmp_path / "w.safetensors"


def test_the_command_prints_and_writes_the_metrics(
    run_command: Callable[..., tuple[int, str, str]], weights: Path, folder: Path, tmp_path: Path
) -> None:
    status, output, errors = run_command(weights, "--data", folder, "--json", tmp_path / "figures.json")
    assert status == 0, errors
    found = evaluate_named(str(weights), str(folder))
    assert json.loads((tmp_path / "figures.json").read_text()) == json.loads(json.dumps(found.to_dict()))
    *classes, left_out, summary = output.splitlines()
    assert [line.split()[-1] for line in classes] == ["cow", "ant"]
    assert left_out == "left out, since w does not know them: bee"
    figures = found.metrics
    assert f"13 images of animals, split all: loss {figures.loss:.4f}  top-1 {figures.top1:.2%}  top-5" in summary
    assert "13/13" in errors  # the progress bar


def test_the_command_answers_mistakes_in_one_line(
    run_command: Callable[..., tuple[int, str, str]], weights: Path, folder: Path, tmp_path: Path
) -> None:
    for arguments, words in (
        (["nothing", "--data", folder], "there is no model 'nothing'"),
        ([weights, "--data", "none"], "there is no folder 'none'"),
        ([weights, "--data", folder, "--split", "test"], "has no split 'test'"),
        ([weights, "--data", "flowers", "--data-root", tmp_path], "flower_photos is not in"),
        ([weights, "--data", folder, "--json", tmp_path / "none" / "f.json"], "cannot be written: No such file"),
    ):
        status, _, errors = run_command(*arguments)
        assert status == 1
        *_, line = errors.splitlines()
        assert line.startswith("evaluate.py: ")
        assert words in line
        assert "Traceback" not in errors
