"""The public data sets by name, and how training and evaluation open the splits of one or of a folder."""

import os
from dataclasses import replace
from pathlib import Path

from swin_core.data import cats_dogs, cifar100, flowers
from swin_core.data.dataset import DataSet, data_root, holdout
from swin_core.data.folders import open_folder
from swin_core.data.layout import class_folders, has_own_split, link_root, own_splits
from swin_core.data.public import PublicDataSet
from swin_core.errors import ConfigError, DataError, first_names

DATA_SETS: dict[str, PublicDataSet] = {
    "cifar100": cifar100.DATA_SET,
    "flowers": flowers.DATA_SET,
    "cats_dogs": cats_dogs.DATA_SET,
}


def public_data_set(data: str) -> PublicDataSet | None:
    """Return the data set of a name, or of the name of its folder, such as flower_photos; a folder here wins."""
    for public in DATA_SETS.values():
        if data == public.name or (public.archive and data == public.archive.name and not Path(data).is_dir()):
            return public
    return None


HOLDOUT = 0.02
"""Default share of the training images that is held out for validation."""


def trainable() -> list[str]:
    """Return the names of the data sets that have a training split."""
    return [name for name, public in DATA_SETS.items() if "train" in public.splits]


def splits(
    data: str, share: float = HOLDOUT, seed: int = 0, root: str | os.PathLike[str] | None = None
) -> tuple[DataSet, DataSet]:
    """Open the training and the validation images of a data set or folder.

    A folder with `train` and `val` in it (or `valid`, `validation`) has its own split. Where there is no validation
    split, the share `share` of each class is held out, but at least one image of a class with two or more; so it is in
    a folder with `train` and `test`, since the validation chooses the best epoch.

    Raises:
        ConfigError: no data set is named, or it has no training split.
        DataError: images are missing, there is a single class, or the two splits have different classes.
    """
    if not data:
        raise ConfigError(f"there is no data set to train on; name {', '.join(trainable())} or a folder with --data.")
    if public := public_data_set(data):
        if "train" not in public.splits:
            raise ConfigError(f"{data} has no training split; name its folder to train on a part of its images.")
        train = public.open(data_root(root), "train")
        return (train, public.open(data_root(root), "val")) if "val" in public.splits else holdout(train, share, seed)
    folder = Path(data)
    root_of_links = link_root(folder)
    if not has_own_split(folder):
        dataset = open_folder(folder, root_of_links)
        _check_classes(dataset, folder)
        return holdout(dataset, share, seed)
    own = own_splits(folder)
    train = _named_after(folder, open_folder(own["train"], root_of_links), own["train"])
    _check_classes(train, own["train"])
    if "val" not in own:
        return holdout(train, share, seed)
    validation = _named_after(folder, open_folder(own["val"], root_of_links), own["val"])
    if train.classes != validation.classes:
        different = sorted(set(train.classes) ^ set(validation.classes))
        raise DataError(f"train and {own['val'].name} of {folder} have different classes: {first_names(different)}.")
    skipped = (*train.skipped, *validation.skipped)
    return replace(train, split="train", skipped=skipped), replace(validation, split="val", skipped=skipped)


def _named_after(folder: Path, part: DataSet, path: Path) -> DataSet:
    """Return the split of a folder that lies at `path`, under the folder's name."""
    skipped = tuple(replace(file, name=f"{path.name}/{file.name}") for file in part.skipped)
    return replace(part, name=folder.name, skipped=skipped)


def _check_classes(dataset: DataSet, folder: Path) -> None:
    """Refuse to train on images without labels, or of a single class.

    Raises:
        DataError: the message names the folders below that look like classes.
    """
    if len(dataset.classes) > 1:
        return
    if not dataset.classes:
        raise DataError(f"{folder} holds images but no class folders; move the images of each class into a folder.")
    nested = folder / dataset.classes[0]
    names = first_names([path.name for path in class_folders(nested, link_root(folder))])
    hint = f"; did you mean {nested}, with the folders {names}?" if names else "; add the images of another one."
    raise DataError(f"{folder} has a single class, {dataset.classes[0]}, and a classifier needs two or more{hint}")


def split_names(data: str) -> list[str]:
    """Return the splits that `open_split` knows of a data set or folder; "all" has the images of the others."""
    on_disk = _on_disk(data)
    known = ["train", "val"] if "train" in on_disk else []
    return known + [name for name in on_disk if name not in known]


def _on_disk(data: str) -> tuple[str, ...]:
    """Return the splits that need no hold-out, the default first."""
    if public := public_data_set(data):
        return public.splits
    own = own_splits(Path(data)) if has_own_split(Path(data)) else {}
    return (*(name for name in ("test", "val") if name in own), "train", "all") if own else ("all", "train")


def open_split(
    data: str,
    split: str | None = None,
    share: float = HOLDOUT,
    seed: int = 0,
    root: str | os.PathLike[str] | None = None,
) -> DataSet:
    """Open a split for evaluation.

    Args:
        data: a name in `DATA_SETS`, or a folder of class folders.
        split: "train" or "val", as training splits them; another split of the data set; "all" or "test" of a folder.
            By default its first split; of a folder "test" if it has one, else "val" if it has that, else "all".
        share: share of the training images that is held out for validation, where there is no validation split.
        seed: seed of the hold-out.
        root: data root, as for `swin_core.data.dataset.data_root`.

    Raises:
        ConfigError: no such split.
        DataError: the images are missing.
    """
    public = public_data_set(data)
    own = own_splits(Path(data)) if has_own_split(Path(data)) else {}
    on_disk = _on_disk(data)
    split = split or on_disk[0]
    known = split_names(data)
    if split not in known:
        raise ConfigError(f"{data[:80]!r} has no split {split[:80]!r}; choose from {', '.join(known)}.")
    if split in ("train", "val") and "train" in on_disk:
        return splits(data, share, seed, root)[split == "val"]
    if public:
        return public.open(data_root(root), split)
    part = own["test"] if split == "test" else Path(data)
    found = open_folder(part, link_root(Path(data)))
    return replace(_named_after(Path(data), found, part), split="test") if split == "test" else found
