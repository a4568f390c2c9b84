"""Cat, dog, rose and tulip: the rows of the reproduced report's figure 11, as a folder for the recipe `custom`."""

import os
import shutil
from pathlib import Path

from swin_core.data.dataset import data_root
from swin_core.data.downloads import downloadable
from swin_core.errors import DataError
from swin_core.images.read import IMAGE_SUFFIXES

__all__ = ["CLASSES", "FOLDER", "compose"]

CLASSES = {
    "cat": ("cats_dogs", "cat"),
    "dog": ("cats_dogs", "dog"),
    "rose": ("flower_photos", "roses"),
    "tulip": ("flower_photos", "tulips"),
}
"""Each class, with the data set and the folder in it from which its images come."""

FOLDER = "four_classes"
"""Name of the folder in the data root."""


def compose(
    root: str | os.PathLike[str] | None = None, out: str | os.PathLike[str] | None = None
) -> tuple[Path, dict[str, int]]:
    """Bring the four classes into one folder of class folders, unless they are there.

    All images of each class are taken: the classes are nearly of one size as they are. The files are hard links where
    the file system can, else copies, so that the folder needs little room.

    Args:
        root: the data root, which holds `cats_dogs` and `flower_photos`.
        out: the folder to make; by default `four_classes` in the data root.

    Returns:
        The folder, and the number of images of each class.

    Raises:
        DataError: a part is missing, something else is in the way, or the folder cannot be written.
    """
    place = data_root(root)
    target = place / FOLDER if out is None else Path(out)
    sources = {kind: _source(*origin, place) for kind, origin in CLASSES.items()}
    counts = {kind: len(_pictures(folder)) for kind, folder in sources.items()}
    if empty := [kind for kind, count in counts.items() if not count]:
        raise DataError(f"{sources[empty[0]]} holds no images; download it again with swinlens data")
    if target.exists():
        there = {kind: len(_pictures(target / kind)) for kind in CLASSES}
        if there != counts:
            raise DataError(f"{target} is there but is not the whole data set; move it away and run this again")
        return target, counts
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        for kind, folder in sources.items():
            (unfinished / kind).mkdir(parents=True)
            for picture in _pictures(folder):
                _link(picture, unfinished / kind / picture.name)
        unfinished.rename(target)
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error.strerror}); name another folder by --out") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target, counts


def _source(data: str, kind: str, place: Path) -> Path:
    folder = downloadable()[data].folder(place)
    if folder is None:
        raise DataError(f"{data} is not in {place}; run swinlens data {data}, or set SWIN_DATA_ROOT")
    return folder / kind


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, one without links, or files of somebody else
        shutil.copyfile(source, target)
