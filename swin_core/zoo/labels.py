"""Class names as people and tools write them: lists, mappings, text and JSON files, class folders."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from swin_core.data.registry import own_splits
from swin_core.errors import ConfigError

_BYTES_AT_MOST = 16 * 2**20


def labels_of(value: object) -> list[str] | None:
    """Return the labels in the order of the logits from what tools store, or None if it is something else.

    Args:
        value: a list of names; a mapping from index to name, as Hugging Face's `id2label`, whose indices may be text;
            or from name to index, as torchvision's `class_to_idx`. The indices must be 0 to n - 1. A name may be a
            list, as `["n01440764", "tench"]` of ImageNet's index; its last entry counts.
    """
    if isinstance(value, Mapping):
        for by_index in (
            {_index(key): name for key, name in value.items()},
            {_index(index): name for name, index in value.items()},
        ):
            if set(by_index) == set(range(len(value))):
                labels = labels_of([by_index[index] for index in range(len(value))])
                if labels is not None:
                    return labels
        return None
    if not isinstance(value, list | tuple) or not value:
        return None
    names = [name[-1] if isinstance(name, list | tuple) and name else name for name in value]
    return [name.strip() for name in names] if all(isinstance(name, str) and name.strip() for name in names) else None


def _index(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse_labels(text: str) -> list[str]:
    """Return the labels in a text: JSON as in `labels_of`, one name a line, or names between commas on one line.

    Raises:
        ConfigError: no name, or JSON of another kind.
    """
    text = text.removeprefix("\ufeff").strip()
    if text.startswith(("[", "{")):
        try:
            labels = labels_of(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"the class names start like JSON, but are not: {str(error)[:120]}.") from error
        if labels is None:
            raise ConfigError(
                "JSON with class names is a list of names, or an object of index and name with the indices 0, 1, 2, ..."
            )
        return labels
    lines = text.split(",") if "\n" not in text else text.splitlines()
    labels = [line.strip() for line in lines if line.strip()]
    if not labels:
        raise ConfigError("there are no class names; write one a line, or names between commas.")
    return labels


def read_labels(content: bytes, name: str) -> list[str]:
    """Return the labels in the content of a text or JSON file, see `parse_labels`.

    Raises:
        ConfigError: the file is too large, no text, or has no names.
    """
    if len(content) > _BYTES_AT_MOST:
        raise ConfigError(f"{name!r} is larger than {_BYTES_AT_MOST // 2**20} MiB, so it is no list of class names.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name!r} is no text in UTF-8; save the class names as text, one a line.") from error
    if "\0" in text:
        raise ConfigError(f"{name!r} is no text; save the class names as text, one a line.")
    try:
        return parse_labels(text)
    except ConfigError as error:
        raise ConfigError(f"{name!r}: {error}") from error


def folder_labels(folder: str | os.PathLike[str]) -> list[str]:
    """Return the names of the class folders in a folder, or in its `train`, sorted as torchvision's ImageFolder sorts.

    Raises:
        ConfigError: no such folder, or no folders in it.
    """
    folder = Path(folder)
    try:
        root = own_splits(folder).get("train", folder)
        labels = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    except (OSError, ValueError) as error:
        raise ConfigError(f"there is no folder {str(folder)[:200]!r} that can be read.") from error
    if not labels:
        raise ConfigError(f"{str(folder)!r} has no class folders; name a folder that holds one folder for each class.")
    return labels
