"""Data sets by name: which splits each has, and how training and evaluation open them."""

import os
from dataclasses import replace
from pathlib import Path

from swin_core.data.dataset import DataSet, array_folder, cifar100, data_root, flower_photos, holdout, image_folder
from swin_core.errors import ConfigError, DataError, listed

HOLDOUT = 0.02
"""Default share of the training images that is held out for validation."""

_HELD = ("val", "valid", "validation", "test")
"""Names of the folder of images that validate, where a data set brings one."""

_DEFAULT_SPLIT = {"cifar100": "test", "flowers": "val"}


def splits(
    data: str, part: float = HOLDOUT, seed: int = 0, root: str | os.PathLike[str] | None = None
) -> tuple[DataSet, DataSet]:
    """The images that a config trains on, and those that validate it.

    A folder with `train` and `val` in it (or `valid`, `validation`, `test`) brings its own split.
    """
    if data == "cifar100":
        return holdout(cifar100(data_root(root), "train"), part, seed)
    if data == "flowers":
        place = data_root(root)
        return flower_photos(place, "train"), flower_photos(place, "val")
    if not data:
        raise ConfigError("there is no data set to train on; name cifar100, flowers or a folder with --data.")
    folder = Path(data)
    if has_own_split(folder):
        name = next(name for name in _HELD if (folder / name).is_dir())
        train, held = open_folder(folder / "train"), open_folder(folder / name)
        if train.classes != held.classes:
            different = sorted(set(train.classes) ^ set(held.classes))
            raise DataError(f"train and {name} of {folder} have different classes: {listed(different)}.")
        return replace(train, name=folder.name, split="train"), replace(held, name=folder.name, split="val")
    return holdout(open_folder(folder), part, seed)


def has_own_split(folder: Path) -> bool:
    """Whether a folder holds one folder for training and one for validation, each with the classes in it."""
    return (folder / "train").is_dir() and any((folder / name).is_dir() for name in _HELD)


def open_folder(folder: Path) -> DataSet:
    """A folder of class folders, with images or else with arrays."""
    try:
        return image_folder(folder)
    except DataError:
        if not folder.is_dir():
            raise
        try:
            return array_folder(folder)
        except DataError as error:
            raise DataError(f"{folder} has no class folders with images or arrays in them.") from error


def open_split(
    data: str,
    split: str | None = None,
    part: float = HOLDOUT,
    seed: int = 0,
    root: str | os.PathLike[str] | None = None,
) -> DataSet:
    """A split of a data set, for evaluation.

    Args:
        data: cifar100, flowers, or a folder of class folders.
        split: "train" or "val", as training splits them; "test" of cifar100; "all" of a folder. By
            default "test" of cifar100, "val" of flowers and of a folder that brings its own split, else "all".
        part: share of the training images that is held out for validation.
        seed: of the draw of those images.
        root: data root, as for `swin_core.data.dataset.data_root`.

    Raises:
        ConfigError: no such split.
        DataError: the images are missing.
    """
    split = split or _DEFAULT_SPLIT.get(data) or ("val" if has_own_split(Path(data)) else "all")
    known = ["train", "val", *({"cifar100": ["test"], "flowers": []}.get(data, ["all"]))]
    if split not in known:
        raise ConfigError(f"{data[:80]!r} has no split {split[:80]!r}; choose from {', '.join(known)}.")
    if split == "test":
        return cifar100(root, "test")
    if split == "all":
        return open_folder(Path(data))
    if data == "flowers":  # both its splits are fixed
        return flower_photos(root, split)
    return splits(data, part, seed, root)[split == "val"]
