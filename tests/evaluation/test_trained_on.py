"""Which images of a data set a model was trained on, by its weights file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from swin_core.data.dataset import DataSet
from swin_core.data.folders import open_folder
from swin_core.data.registry import splits
from swin_core.evaluation.trained_on import recorded_trainings, trained_on
from swin_core.weights.files import save_weights
from swin_core.zoo.build import build
from tests.fixtures.images import encoded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(6):
            pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            (tmp_path / "images" / name / f"{index}.png").write_bytes(encoded(pixels, "PNG"))
    return tmp_path / "images"


def saved(file: Path, **training: object) -> str:
    model = build("swin_nano", image_size=8, patch_size=2, window_size=2, num_classes=2)
    save_weights(model, file, {"labels": ["ant", "bee"], "training": training})
    return str(file)


def names(dataset: DataSet, chosen: np.ndarray) -> set[str]:
    return {name for name, one in zip(dataset.names, chosen, strict=True) if one}


def test_the_training_part_of_the_hold_out_is_found(folder: Path, tmp_path: Path) -> None:
    model = saved(tmp_path / "a.safetensors", data=str(folder), holdout=0.34, seed=3)
    whole = open_folder(folder)
    train, held_out = splits(str(folder), 0.34, 3)
    assert names(whole, trained_on(model, whole)) == set(train.names)
    assert not trained_on(model, held_out).any()
    assert trained_on(model, train).all()


def test_links_and_other_names_of_a_file_are_the_same_image(folder: Path, tmp_path: Path) -> None:
    model = saved(tmp_path / "a.safetensors", data=str(folder), holdout=0.34, seed=3)
    train, held_out = splits(str(folder), 0.34, 3)
    (tmp_path / "other" / "x").mkdir(parents=True)
    os.link(train.sources[0], tmp_path / "other" / "x" / "seen.png")
    os.link(held_out.sources[0], tmp_path / "other" / "x" / "new.png")
    (tmp_path / "other" / "x" / "linked.png").symlink_to(train.sources[1])
    other = open_folder(tmp_path / "other", tmp_path)
    assert names(other, trained_on(model, other)) == {"x/seen.png", "x/linked.png"}


def test_weights_that_the_training_started_from_count_too(folder: Path, tmp_path: Path) -> None:
    first = saved(tmp_path / "first.safetensors", data=str(folder), holdout=0.34, seed=3)
    second = saved(tmp_path / "second.safetensors", data=str(tmp_path / "gone"), holdout=0.1, seed=0, init=first)
    whole = open_folder(folder)
    assert [training["data"] for training in recorded_trainings(second)] == [str(tmp_path / "gone"), str(folder)]
    assert names(whole, trained_on(second, whole)) == set(splits(str(folder), 0.34, 3)[0].names)
    around = saved(tmp_path / "around.safetensors", data="", init=str(tmp_path / "around.safetensors"))
    assert not trained_on(around, whole).any()
    assert not trained_on("timm/resnet18", whole).any()


def test_images_in_memory_are_compared_by_content(data_root: Path) -> None:
    """The hold-out of CIFAR-100 comes from its training file; the test images do not."""
    from swin_core.data.cifar100 import cifar100

    train, test = cifar100(data_root, "train"), cifar100(data_root, "test")
    part = train.subset(range(2000), "train")
    expected = set(splits("cifar100", 0.02, 0, data_root)[0].names)
    found = trained_on("swin_milli_cifar100", part, data_root)
    assert names(part, found) == {name for name in part.names if name in expected}
    assert 0 < found.sum() < 2000
    assert not trained_on("swin_milli_cifar100", test, data_root).any()


def test_a_limited_run_was_trained_on_a_part(folder: Path, tmp_path: Path) -> None:
    model = saved(tmp_path / "a.safetensors", data=str(folder), holdout=0.34, seed=3, limit=5)
    whole, train = open_folder(folder), splits(str(folder), 0.34, 3)[0]
    chosen = np.random.default_rng(3).permutation(len(train))[:5]
    assert names(whole, trained_on(model, whole)) == {train.names[index] for index in chosen}
