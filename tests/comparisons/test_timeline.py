"""Timelines: the checkpoints of a run, and their maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image

import swin_core
from swin_core.attribution.overlay import Look, overlay
from swin_core.comparisons.timeline import CHECKPOINTS_AT_MOST, checkpoints_of, timeline
from swin_core.errors import ConfigError, ModelError, RunError

FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")

pytestmark = pytest.mark.usefixtures("one_thread")


def save(file: Path, seed: int, labels: tuple[str, ...] = FLOWERS, epochs: int | None = None) -> Path:
    torch.manual_seed(seed)
    model = swin_core.build("swin_micro", num_classes=len(labels), image_size=32)
    described = {"labels": labels, "image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    file.parent.mkdir(parents=True, exist_ok=True)
    swin_core.save_weights(model, file, described | ({} if epochs is None else {"training": {"epochs_done": epochs}}))
    return file


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 10 epochs that kept the weights of epochs 2, 4 and 10, and the best ones of epoch 5."""
    folder = tmp_path_factory.mktemp("20260101-120000-mine")
    for epoch in (2, 4, 10):
        save(folder / "checkpoints" / f"epoch-{epoch:04}.safetensors", epoch, epochs=epoch)
    save(folder / "checkpoints" / "best.safetensors", 5, epochs=5)
    save(folder / "model.safetensors", 10, epochs=10)
    (folder / "checkpoints" / "epoch-last.safetensors").write_bytes(b"no number")
    (folder / "checkpoints" / "last.pt").write_bytes(b"")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def tulip(samples: dict[str, Path]) -> Image.Image:
    return swin_core.read_image(samples["tulip"])


def test_every_kept_epoch_is_listed_once_in_order(run: Path) -> None:
    found = checkpoints_of(run)
    assert [checkpoint.epoch for checkpoint in found] == [2, 4, 5, 10]
    names = ["epoch-0002", "epoch-0004", "best", "epoch-0010"]
    assert [checkpoint.file.stem for checkpoint in found] == names


def test_a_run_that_kept_nothing_has_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert checkpoints_of(tmp_path) == []
    with pytest.raises(ModelError, match="keep_every"):
        timeline(checkpoints_of(tmp_path), Image.new("RGB", (8, 8)))


def test_each_moment_is_what_its_checkpoint_says_alone(run: Path, tulip: Image.Image) -> None:
    ticks: list[tuple[int, int]] = []
    found = timeline(checkpoints_of(run), tulip, "roses", progress=lambda *done: ticks.append(done))
    assert (found.epochs, found.label) == ((2, 4, 5, 10), "roses")
    assert ticks == [(1, 4), (2, 4), (3, 4), (4, 4)]
    alone = [swin_core.explain(swin_core.load(one.file), tulip, "roses") for one in checkpoints_of(run)]
    for one, other in zip(found.explanations, alone, strict=True):
        np.testing.assert_array_equal(one.maps, other.maps)
        np.testing.assert_array_equal(one.view, other.view)
    np.testing.assert_allclose(found.probabilities, [one.probabilities[2] for one in alone])
    expected = [scipy.stats.spearmanr(one.maps.ravel(), alone[-1].maps.ravel()).statistic for one in alone]
    np.testing.assert_allclose(found.similarity, expected, atol=1e-6)
    assert found.similarity[-1] == pytest.approx(1)


def test_without_a_class_the_last_checkpoint_chooses_for_all(run: Path, tulip: Image.Image) -> None:
    last = swin_core.explain(swin_core.load(run), tulip)
    found = timeline(checkpoints_of(run), tulip)
    assert {one.targets for one in found.explanations} == {last.targets}
    assert found.label == last.label(0)


def test_the_image_is_held_once(run: Path, tulip: Image.Image) -> None:
    found = timeline(checkpoints_of(run), tulip)
    assert len({id(one.image) for one in found.explanations}) == 1


def test_a_method_on_the_pixels_takes_no_layer(run: Path, tulip: Image.Image) -> None:
    found = timeline(checkpoints_of(run)[:2], tulip, method="gradient")
    assert found.explanations[0].maps.shape == (1, 1, 32, 32)


def test_a_layer_can_be_named(run: Path, tulip: Image.Image) -> None:
    found = timeline(checkpoints_of(run)[:2], tulip, layer="norm")
    assert {one.layers for one in found.explanations} == {("norm",)}
    found = timeline(checkpoints_of(run)[:2], tulip, method="relevance", layer="layers.0")
    assert {one.layers for one in found.explanations} == {("layers.0",)}


def test_a_long_run_is_thinned_out_evenly_and_keeps_its_ends(run: Path, tulip: Image.Image) -> None:
    first = checkpoints_of(run)[0]
    found = timeline([replace(first, epoch=epoch) for epoch in range(1, 70)], tulip)
    assert len(found.epochs) == CHECKPOINTS_AT_MOST
    assert (found.epochs[0], found.epochs[-1]) == (1, 69)
    assert np.ptp(np.diff(found.epochs)) <= 1
    assert found.similarity == pytest.approx(1)


def test_faults_are_one_line(run: Path, tulip: Image.Image, tmp_path: Path) -> None:
    first = checkpoints_of(run)[0]
    other = replace(first, file=save(tmp_path / "other.safetensors", 1, ("cat", "dog")))
    with pytest.raises(ConfigError, match="other classes"):
        timeline([other, first], tulip, 0)
    with pytest.raises(ModelError, match="there is no model"):
        timeline([replace(first, file=tmp_path / "gone.safetensors"), first], tulip)
    with pytest.raises(RunError, match="there is no run"):
        checkpoints_of(tmp_path)


def test_the_strip_is_drawn_as_a_cell_of_the_grid_is(run: Path, tulip: Image.Image) -> None:
    found = timeline(checkpoints_of(run), tulip)
    picture = np.asarray(Image.fromarray(found.explanations[0].image).resize((40, 40)))
    # The maps have 16 places a side, so one place in a hundred does not count for the scale.
    tops = {"cell": [np.percentile(one.maps, 99) for one in found.explanations]}
    tops["shared"] = [max(tops["cell"])] * len(found.epochs)
    for scale, expected in tops.items():
        look = Look(opacity=0.5, scale=scale)
        for drawn, one, top in zip(found.draw(look, 40), found.explanations, expected, strict=True):
            np.testing.assert_array_equal(drawn, overlay(picture, one.maps[0, 0], float(top), look))
