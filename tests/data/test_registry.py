"""Data sets by name: the splits of public ones and of folders, and a toy data set that one entry adds everywhere."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dashboard.compare.class_mean_section import mean_splits
from dashboard.shared.datasets import data_image, data_sets
from dashboard.train.form import validated
from swin_core.commands import data as data_command
from swin_core.commands import evaluate as evaluate_command
from swin_core.commands import train as train_command
from swin_core.data.cifar100 import cifar100
from swin_core.data.dataset import DataSet
from swin_core.data.flowers import CLASSES, flower_photos
from swin_core.data.public import PublicDataSet
from swin_core.data.registry import DATA_SETS, open_split, public_data_set, splits, trainable
from swin_core.errors import ConfigError
from swin_core.training import TrainConfig

TOYS = ("ball", "cube")


def toys(root: Path, split: str) -> DataSet:
    """Open a toy data set: dark balls and bright cubes, 8 pixels wide, made from the number in a file."""
    count = int((root / f"toys-{split}.txt").read_text())
    labels = np.arange(count) % 2
    pixels = np.random.default_rng(count).integers(0, 100, (count, 8, 8, 3)) + 150 * labels[:, None, None, None]
    names = tuple(f"{TOYS[label]}/{number}.png" for number, label in enumerate(labels))
    return DataSet(
        "toys", split, TOYS, labels, names, pixels.astype(np.uint8), lambda source, _: Image.fromarray(source)
    )


def find_toys(root: Path, split: str) -> list[Path]:
    return [file for file in [root / f"toys-{split}.txt"] if file.is_file()]


DATA_SET = PublicDataSet("toys", "Toys", ("test", "train"), toys, find_toys)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with the toy data set, which is registered by one line."""
    monkeypatch.setitem(DATA_SETS, "toys", DATA_SET)
    (tmp_path / "toys-train.txt").write_text("200")
    (tmp_path / "toys-test.txt").write_text("30")
    monkeypatch.setenv("SWIN_DATA_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_registered_data_set_trains_and_evaluates_by_name(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, validation = splits("toys", 0.1)
    assert (len(train), len(validation), train.classes) == (180, 20, TOYS)
    small = "--variant swin_nano --image-size 8 --patch-size 2 --window-size 2 --epochs 2 --batch-size 20"
    small += " --optimizer adamw --cutout 0 --crop-padding 1 --ema 0"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train", "fast-cifar100", "--data", "toys", *small.split()])
        assert train_command.main() == 0, capsys.readouterr().err
    run = Path(capsys.readouterr().out.splitlines()[-1])
    assert TrainConfig.of_run(run).data == "toys"
    assert evaluate_command.main([str(run), "--data", "toys", "--json", "found.json"]) == 0
    found = json.loads((root / "found.json").read_text())
    assert (found["data"], found["split"], found["count"]) == ("toys", "test", 30)
    assert found["labels"] == list(TOYS)
    assert found["top1"] > 0.9


def test_a_registered_data_set_is_offered_by_the_pages(root: Path) -> None:
    assert [(one.name, one.title, one.splits) for one in data_sets()] == [("toys", "Toys", ("test", "train"))]
    image = data_image("toys/test/1")
    assert (image.title, image.truth) == ("1.png", "cube")
    assert image.pil.getpixel((0, 0)) == tuple(toys(root, "test").sources[1][0, 0])
    # A changed file is another state of the data set.
    (root / "toys-test.txt").write_text("40")
    os.utime(root / "toys-test.txt", (1, 1))
    assert data_image("toys/test/39").truth == "cube"
    assert "toys" in trainable()
    assert validated({"data": "toys"}).data == "toys"
    assert mean_splits() == {"Toys, test": ("toys", "test"), "Toys, training": ("toys", "train")}


def test_the_commands_name_every_data_set(root: Path) -> None:
    for text in (evaluate_command.parser().format_help(),):
        assert "cifar100, flowers, cats_dogs, toys" in " ".join(text.split())
    with pytest.raises(SystemExit, match="2"):
        data_command.main(["toys"])  # it has no archive


def test_a_data_set_without_a_training_split_is_not_trained_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATA_SETS, "toys", PublicDataSet("toys", "Toys", ("test",), toys, find_toys))
    assert "toys" not in trainable()
    with pytest.raises(ConfigError, match="toys has no training split"):
        splits("toys")
    with pytest.raises(ConfigError, match="has no split 'val'; choose from test"):
        open_split("toys", "val")
    assert len(open_split("toys")) == 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three classes of 8, 6 and 5 images."""
    for name, count in (("ant", 8), ("bee", 6), ("cow", 5)):
        (tmp_path / "animals" / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (10, 10)).save(tmp_path / "animals" / name / f"{index}.png")
    return tmp_path / "animals"


def same_images(one: DataSet, other: DataSet) -> bool:
    return one.names == other.names and one.split == other.split


def test_splits_of_a_folder_are_those_of_the_training(folder: Path) -> None:
    assert len(open_split(str(folder))) == len(open_split(str(folder), "all")) == 19
    config = TrainConfig(data=str(folder), holdout=0.4, seed=3)
    for place, name in enumerate(("train", "val")):
        split = open_split(str(folder), name, config.holdout, config.seed)
        assert same_images(split, splits(config.data, config.holdout, config.seed)[place])
    with pytest.raises(ConfigError, match="has no split 'test'; choose from train, val, all"):
        open_split(str(folder), "test")


def test_splits_of_the_public_sets(data_root: Path) -> None:
    assert same_images(open_split("flowers", root=data_root), flower_photos(data_root, "val"))
    assert same_images(open_split("flowers", "train", root=data_root), flower_photos(data_root, "train"))
    assert same_images(open_split("cifar100", root=data_root), cifar100(data_root, "test"))
    held = open_split("cifar100", "val", 0.1, root=data_root)
    assert (len(held), held.split) == (5000, "val")
    for data, split, known in (("cifar100", "all", "train, val, test"), ("flowers", "test", "train, val")):
        with pytest.raises(ConfigError, match=f"has no split '{split}'; choose from {known}\\."):
            open_split(data, split, root=data_root)


def test_a_data_set_is_known_by_the_name_of_its_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert public_data_set("flower_photos") is public_data_set("flowers") is DATA_SETS["flowers"]
    for label in CLASSES:
        (tmp_path / "flower_photos" / label).mkdir(parents=True)
    assert public_data_set("flower_photos") is None  # a folder that is there is meant
    for name in ("flowers", "flower_photos"):
        assert data_command.main([name, "--data-root", str(tmp_path)]) == 0
        assert capsys.readouterr().out == f"{name} is there already: {tmp_path / 'flower_photos'}\n"
