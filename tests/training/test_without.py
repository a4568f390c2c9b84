"""Training without findings: what was found tells nothing about the class any more; against slow loops."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from swin_core import runs
from swin_core.errors import ConfigError
from swin_core.images.data_uri import image_uri
from swin_core.images.statistics import shifted
from swin_core.training import TrainConfig
from swin_core.training import train as train_in
from swin_core.training.data import TrainingData
from swin_core.training.random_draws import Draws, split_batch
from swin_core.training.trainer import Trainer, new_model
from swin_core.training.without import PASTED, Without, _Region
from tests.fixtures.shell import write_pictures

SIDE, COUNT = 32, 40
CLASSES = ("ant", "bee")
PLACE = {"class": "bee", "kind": "place", "region": [0.5, 0.75, 1.0, 1.0], "frame": False}
FRAME = {"class": "bee", "kind": "place", "region": [0.0, 0.0, 1.0, 1.0], "frame": True}
SHIFT = {"class": "bee", "kind": "global", "region": None, "statistic": "brightness", "by": [0.2]}
PATCH = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
CONTENT = {"class": "bee", "kind": "content", "region": None, "patches": [image_uri(PATCH, "PNG")], "patch_size": 0.25}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    folder = tmp_path_factory.mktemp("data")
    for name in CLASSES:
        (folder / name).mkdir()
        for number in range(4):
            Image.new("RGB", (SIDE, SIDE), "grey").save(folder / name / f"{number}.png")
    config = TrainConfig(data=str(folder), image_size=SIDE, holdout=0.25)
    return TrainingData.load(config, None, torch.device("cpu"))


def read(tmp_path: Path, data: TrainingData, *findings: dict[str, Any]) -> Without:
    file = tmp_path / "findings.json"
    file.write_text(json.dumps({"findings": findings}))
    return Without.read(str(file), data)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (COUNT, SIDE, SIDE, 3), dtype=torch.uint8, generator=generator)
    return images, torch.arange(COUNT) // 2 % 2


@pytest.mark.parametrize("finding", [PLACE, FRAME])
def test_a_region_holds_the_neighbours_content_or_none(
    finding: dict[str, Any], tmp_path: Path, data: TrainingData
) -> None:
    images, labels = batch()
    result = read(tmp_path, data, finding).apply(images, labels, Draws((0,), COUNT))
    exchanged = 0
    for number in range(COUNT):
        own, neighbour = images[number] / 255, images[number ^ 1] / 255
        inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        for row in range(SIDE):
            for column in range(SIDE):
                x, y = (column + 0.5) / SIDE, (row + 0.5) / SIDE
                inside[row, column] = (
                    min(x, y) < 1 / 16 or max(x, y) > 15 / 16 if finding["frame"] else x >= 0.5 and y >= 0.75
                )
        assert torch.equal(result[number][~inside], own[~inside])
        if torch.equal(result[number][inside], neighbour[inside]):
            exchanged += 1
        else:
            assert torch.allclose(result[number][inside], own.mean((0, 1)), atol=1e-6)
    assert 0.25 * COUNT < exchanged < 0.75 * COUNT


def test_content_is_pasted_into_most_images_of_the_other_classes(tmp_path: Path, data: TrainingData) -> None:
    images, labels = batch()
    result = read(tmp_path, data, CONTENT).apply(images, labels, Draws((0,), COUNT))
    places = set()
    pasted = 0
    for number in range(COUNT):
        changed = (result[number] != images[number] / 255).any(2)
        assert not (changed.any() and labels[number] == 1)
        if changed.any():
            pasted += 1
            rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
            top, left = int(rows[0]), int(columns[0])
            places.add((top, left))
            found = result[number][top : top + 8, left : left + 8]
            assert torch.allclose(found, torch.from_numpy(PATCH) / 255, atol=1e-6)
    assert PASTED - 0.3 < pasted / (COUNT / 2) <= 1
    assert len(places) > 5


def test_a_statistic_is_shifted_back_in_the_class_and_towards_it_in_the_others(
    tmp_path: Path, data: TrainingData
) -> None:
    images, labels = batch()
    result = read(tmp_path, data, SHIFT).apply(images, labels, Draws((0,), COUNT))
    changed = 0
    for number in range(COUNT):
        before = images[number : number + 1].permute(0, 3, 1, 2) / 255
        by = torch.tensor([[-0.2 if labels[number] else 0.2]])
        expected = shifted(before, "brightness", by).permute(0, 2, 3, 1)[0]
        if not torch.equal(result[number], images[number] / 255):
            assert torch.allclose(result[number], expected, atol=1e-6)
            changed += 1
    assert 0.25 * COUNT < changed < 0.75 * COUNT


def test_parts_of_a_batch_are_changed_as_the_whole(tmp_path: Path, data: TrainingData) -> None:
    images, labels = batch()
    without = read(tmp_path, data, PLACE, CONTENT, SHIFT)
    whole = without.apply(images, labels, Draws((0,), COUNT))
    parts = [without.apply(images[rows], labels[rows], Draws((0,), COUNT, rows)) for rows in split_batch(COUNT, 3)]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-6)


def test_a_run_takes_its_findings_out_before_the_augmentation(tmp_path: Path, data: TrainingData) -> None:
    without = read(tmp_path, data, PLACE)
    settings: dict[str, Any] = {"data": "photos", "variant": "swin_nano", "image_size": SIDE, "precision": "float32"}
    plain, repaired = (
        Trainer(config, data, new_model(config, data))._objective
        for config in (TrainConfig(**settings), TrainConfig(**settings, without=str(tmp_path / "findings.json")))
    )
    images, labels, draws = *(part[:8] for part in batch()), Draws((0,), 8)
    expected = plain.loss(without.apply(images, labels, draws), labels, draws)
    assert torch.equal(repaired.loss(images, labels, Draws((0,), 8)), expected)
    assert not torch.equal(plain.loss(images, labels, Draws((0,), 8)), expected)


def test_what_cannot_be_read_is_refused(tmp_path: Path, data: TrainingData) -> None:
    with pytest.raises(ConfigError, match=r"there is no findings file 'nothing\.json'; swinlens audit MODEL"):
        Without.read("nothing.json", data)
    file = tmp_path / "findings.json"
    for text in ("no JSON", "[]", '{"findings": 3}', json.dumps({"findings": [{"kind": "place"}]})):
        file.write_text(text)
        with pytest.raises(ConfigError, match="is no findings file of an audit"):
            Without.read(str(file), data)
    with pytest.raises(ConfigError, match="contents and statistics can be trained away in RGB images only"):
        read(tmp_path, data, CONTENT | {"patches": []})
    with pytest.raises(ConfigError, match="has no findings, so there is nothing to train without; leave it out"):
        read(tmp_path, data)
    with pytest.raises(ConfigError, match="a finding is of the class 'rose', which the data lack"):
        read(tmp_path, data, SHIFT | {"class": "rose"})
    with pytest.raises(ConfigError, match="is no findings file of an audit"):
        read(tmp_path, data, SHIFT | {"statistic": "smell"})


@pytest.mark.parametrize(
    "finding",
    [
        PLACE | {"kind": "smell"},
        PLACE | {"region": [0.5, 0.75, 0.25, 1.0]},
        PLACE | {"region": [0.5, float("nan"), 1.0, 1.0]},
        CONTENT | {"patches": [1]},
        CONTENT | {"patches": [image_uri(PATCH, "PNG"), image_uri(PATCH[:4], "PNG")]},
        CONTENT | {"patches": ["data:image/png;base64,AAAA"]},
        CONTENT | {"patch_size": 5.0},
        SHIFT | {"by": [0.1, 0.2]},
        SHIFT | {"by": [float("nan")]},
    ],
)
def test_a_malformed_finding_is_refused(finding: dict[str, Any], tmp_path: Path, data: TrainingData) -> None:
    with pytest.raises(ConfigError, match="is no findings file of an audit"):
        read(tmp_path, data, finding)


def test_a_class_that_the_model_knows_by_more_names_is_found(tmp_path: Path, data: TrainingData) -> None:
    (finding,) = read(tmp_path, data, SHIFT | {"class": "bee, Apis mellifera"}).findings
    assert not isinstance(finding, _Region)
    assert finding.label == CLASSES.index("bee")
    with pytest.raises(ConfigError, match="a finding is of the class 'ant, bee', which fits 'ant', 'bee'; give"):
        read(tmp_path, data, SHIFT | {"class": "ant, bee"})


def test_a_class_that_the_data_know_by_more_names_is_found(tmp_path: Path, data: TrainingData) -> None:
    more = replace(data, classes=("ant, Formica", "bee, Apis mellifera"))
    (finding,) = read(tmp_path, more, SHIFT | {"class": "bee"}).findings
    assert not isinstance(finding, _Region)
    assert finding.label == 1


def test_a_resumed_run_trains_without_the_same_findings(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "pictures", (12, 12, 12), colour=95)
    file = tmp_path / "findings.json"
    file.write_text(json.dumps({"findings": [PLACE]}))
    settings: dict[str, Any] = {
        "variant": "swin_nano",
        "image_size": 16,
        "epochs": 2,
        "batch_size": 10,
        "holdout": 0.25,
    }
    config = TrainConfig(**settings, data=str(data), without=str(file), optimizer="adamw", lr=1e-3, crop_padding=2)
    run = runs.create(config.to_dict(), tmp_path / "runs")

    def stop(metrics: dict[str, Any]) -> None:
        if metrics.get("step") == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_in(config, run, on_metrics=stop)
    file.write_text(json.dumps({"findings": []}))  # as a new audit of the repaired model does
    assert train_in(TrainConfig.of_run(run), run) == "finished"
    assert json.loads((run / "findings.json").read_text()) == {"findings": [PLACE]}
