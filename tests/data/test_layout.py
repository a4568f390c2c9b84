"""Which folders look like data sets, and where their links may lead."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from swin_core.data.layout import class_folders, link_root, nested_data_sets, offered_folders, own_splits
from swin_core.data.registry import splits
from swin_core.errors import DataError
from tests.fixtures.images import encoded, one_line

PNG = encoded(np.zeros((4, 4, 3), np.uint8), "PNG")


def write(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(PNG)
    return root


def test_nested_data_sets_are_found(tmp_path: Path) -> None:
    root = write(
        tmp_path / "root",
        *("pets/images/cat/1.JPG", "pets/images/dog/2"),
        *("split/train/a/1.png", "split/train/b/1.png", "split/valid/a/1.png"),
        *("plants/rose/red/1.png", "plants/rose/white/1.png", "plants/tulip/1.png"),
        *("loose/1.png", "loose/2.png", ".hidden/a/1.png"),
    )
    (root / "texts" / "a").mkdir(parents=True)
    (root / "texts" / "a" / "notes.txt").write_text("x")
    (root / "pets" / "around").symlink_to(root)
    (root / "elsewhere").symlink_to(write(tmp_path / "outside", "a/1.png"))
    found = [str(path.relative_to(root)) for path in nested_data_sets(root, root)]
    # The folder `loose` makes `root` a data set of one class.
    assert [name for name in found if not name.startswith("pets/around")] == [
        *(".", "pets/images", "plants", "plants/rose", "split"),
    ]
    assert not [name for name in found if "elsewhere" in name or ".hidden" in name]
    assert [path.name for path in class_folders(root / "plants" / "rose", root)] == ["red", "white"]
    assert {key: path.name for key, path in own_splits(root / "split").items()} == {"val": "valid", "train": "train"}


def test_links_may_lead_anywhere_in_an_offered_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = write(tmp_path / "offered", "pool/1.png", "pool/2.png", "set/dog/1.png")
    (offered / "set" / "cat").symlink_to(offered / "pool")
    with pytest.raises(DataError, match="no image left of cat: cat is a link that leaves") as error:
        splits(str(offered / "set"), 0.5)
    one_line(error)
    monkeypatch.setenv("SWINLENS_DATA", os.pathsep.join([str(tmp_path / "other"), str(offered), ""]))
    assert offered_folders() == [tmp_path / "other", offered]
    assert link_root(offered / "set") == offered
    train, held_out = splits(str(offered / "set"), 0.5)
    assert sorted(train.names + held_out.names) == ["cat/1.png", "cat/2.png", "dog/1.png"]


def test_a_single_class_is_refused_and_what_lies_below_is_offered(tmp_path: Path) -> None:
    write(tmp_path / "zip", "images/cat/1.png", "images/dog/1.png", "images/dog/2.png")
    with pytest.raises(
        DataError, match=r"single class, images, .*did you mean .*images, with the folders cat, dog\?"
    ) as error:
        splits(str(tmp_path / "zip"), 0.5)
    one_line(error)
    write(tmp_path / "one", "cat/1.png", "cat/2.png")
    with pytest.raises(DataError, match="single class, cat, and a classifier needs two or more; add the images"):
        splits(str(tmp_path / "one"), 0.5)
    write(tmp_path / "flat", "1.png", "2.png")
    with pytest.raises(DataError, match="holds images but no class folders; move the images"):
        splits(str(tmp_path / "flat"), 0.5)


def test_every_class_with_two_images_holds_one_out(tmp_path: Path) -> None:
    counts = {"a": 200, "b": 9, "c": 30, "d": 1}
    for name, count in counts.items():
        write(tmp_path, *(f"{name}/{index}.png" for index in range(count)))
    train, held_out = splits(str(tmp_path), 0.1)
    assert np.bincount(held_out.labels, minlength=4).tolist() == [20, 1, 3, 0]
    assert np.bincount(train.labels).tolist() == [180, 8, 27, 1]
