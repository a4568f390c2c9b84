"""TensorFlow's flower_photos: 3,670 photos of five kinds of flower."""

import os
from dataclasses import replace
from pathlib import Path

from swin_core.data.dataset import DataSet
from swin_core.data.folders import image_folder
from swin_core.data.public import Archive, PublicDataSet
from swin_core.errors import DataError

CLASSES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


def flower_photos(root: str | os.PathLike[str] | None = None, split: str = "train") -> DataSet:
    """Open a split of flower_photos.

    Args:
        root: the data root; the class folders lie in it or in its `flower_photos`.
        split: "train" (3,306 images) or "val" (364: one tenth of each class, rounded down, by a fixed seed).

    Raises:
        ConfigError: another split.
        DataError: a class folder is missing.
    """
    folder = DATA_SET.locate(root, split)[0]
    dataset = image_folder(folder, split, seed=0)
    if dataset.classes != CLASSES:
        raise DataError(f"{folder} has other class folders than flower_photos; read it by image_folder.")
    return replace(dataset, name="flower_photos")


def _find(root: Path, split: str) -> list[Path]:
    for folder in (root / "flower_photos", root):
        if all((folder / name).is_dir() for name in CLASSES):
            return [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    return []


# The checksum is the one that TensorFlow Datasets has for this file.
DATA_SET = PublicDataSet(
    name="flowers",
    title="flower_photos",
    subject="flowers",
    splits=("val", "train"),
    open=flower_photos,
    find=_find,
    archive=Archive(
        name="flower_photos",
        url="https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
        size=228_813_984,
        sha256="4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
        folder="flower_photos",
        unpacked=240_000_000,
    ),
)
