"""Photos of cats and dogs from a public repository, one half of the four-class data set."""

from dataclasses import replace
from pathlib import Path

from swin_core.data.dataset import DataSet
from swin_core.data.folders import image_folder
from swin_core.data.public import Archive, PublicDataSet

CLASSES = ("cat", "dog")


def cats_dogs(root: Path, split: str = "all") -> DataSet:
    """Open all images in the data root's `cats_dogs`; there is one split, "all".

    Raises:
        ConfigError: another split.
        DataError: a class folder is missing, or has no images.
    """
    return replace(image_folder(DATA_SET.locate(root, split)[0]), split=split)


def _find(root: Path, split: str) -> list[Path]:
    folders = [root / "cats_dogs" / name for name in CLASSES]
    return [root / "cats_dogs", *folders] if all(folder.is_dir() for folder in folders) else []


DATA_SET = PublicDataSet(
    name="cats_dogs",
    title="cats_dogs",
    subject="animals",
    splits=("all",),
    open=cats_dogs,
    find=_find,
    archive=Archive(
        name="cats_dogs",
        url="https://github.com/ardamavi/Dog-Cat-Classifier/archive/refs/heads/master.tar.gz",
        size=400_000_000,
        sha256="",
        folder="cats_dogs",
        unpacked=100_000_000,
        inside="Data/Train_Data",
        counts={"cat": 600, "dog": 600},
    ),
)
