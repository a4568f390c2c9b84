"""The data set of the reproduced report's figure 11: cats, dogs, roses and tulips, for the recipe `custom`."""

import os
import shutil
from pathlib import Path

from swin_core.data.dataset import data_root
from swin_core.data.downloads import downloadable
from swin_core.errors import DataError
from swin_core.images.read import IMAGE_SUFFIXES

CLASSES = {
    "cat": ("cats_dogs", "cat"),
    "dog": ("cats_dogs", "dog"),
    "rose": ("flower_photos", "roses"),
    "tulip": ("flower_photos", "tulips"),
}
"""The data set and the class folder that the images of each class come from."""

FOLDER = "four_classes"
"""Name of the folder in the data root."""


def compose(
    root: str | os.PathLike[str] | None = None, out: str | os.PathLike[str] | None = None
) -> tuple[Path, dict[str, int]]:
    """Make a folder with the four classes, unless it is there.

    All images of each class are used, as the classes have about the same size. The files are hard links where the file
    system supports them, else copies.

    Args:
        root: the data root, with `cats_dogs` and `flower_photos`.
        out: the folder to make; by default `four_classes` in the data root.

    Returns:
        The folder, and the number of images of each class.

    Raises:
        DataError: a part is missing, the folder exists with other content, or it cannot be written.
    """
    parent = data_root(root)
    target = parent / FOLDER if out is None else Path(out)
    sources = {}
    for kind, (data, name) in CLASSES.items():
        folder = downloadable()[data].folder(parent)
        if folder is None:
            raise DataError(f"{data} is not in {parent}; run swinlens data {data}, or set SWIN_DATA_ROOT.")
        sources[kind] = folder / name
    counts = {kind: len(_images(folder)) for kind, folder in sources.items()}
    if empty := [kind for kind, count in counts.items() if not count]:
        raise DataError(f"{sources[empty[0]]} holds no images; download it again with swinlens data.")
    if target.exists():
        if {kind: len(_images(target / kind)) for kind in CLASSES} != counts:
            raise DataError(f"{target} is there but is not the whole data set; move it away and run this again.")
        return target, counts
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        for kind, folder in sources.items():
            (unfinished / kind).mkdir(parents=True)
            for image in _images(folder):
                _link(image, unfinished / kind / image.name)
        unfinished.rename(target)
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error.strerror}); name another folder by --out.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target, counts


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, one without links, or another user's files
        shutil.copyfile(source, target)
