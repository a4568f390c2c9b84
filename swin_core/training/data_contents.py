"""Which images a run is trained on, as its checkpoint remembers them, so that changed data are noticed at a resume."""

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from swin_core.data.dataset import DataSet
from swin_core.errors import RunError, first_names
from swin_core.runs.starting import ACCEPT_CHANGED_DATA

_WORDS = {"train": "training", "validation": "validation"}


class Files(NamedTuple):
    """The images of one class in one split."""

    size: int
    digest: str
    """SHA-256 of their names, in their order."""


@dataclass(frozen=True)
class DataContents:
    """The classes of a run and a digest of its lists of images."""

    classes: tuple[str, ...]
    files: Mapping[str, Mapping[str, Files]]
    """By split, "train" or "validation", and class."""

    @classmethod
    def of(cls, train: DataSet, validation: DataSet) -> "DataContents":
        """Return the contents of the two splits of a run, whose classes are the same."""
        return cls(train.classes, {"train": _by_class(train), "validation": _by_class(validation)})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DataContents":
        """Return the contents of which a checkpoint has `to_dict`."""
        files = {
            split: {name: Files(int(size), str(digest)) for name, (size, digest) in part.items()}
            for split, part in values["files"].items()
        }
        return cls(tuple(values["classes"]), files)

    def to_dict(self) -> dict[str, Any]:
        """Return lists, dictionaries, numbers and texts."""
        files = {split: {name: list(entry) for name, entry in part.items()} for split, part in self.files.items()}
        return {"classes": list(self.classes), "files": files}

    def __len__(self) -> int:
        return sum(entry.size for part in self.files.values() for entry in part.values())

    def changes_since(self, before: "DataContents") -> list[str]:
        """Return what is different from `before`, such as "2 more training images of roses"; empty if nothing is."""
        changes = []
        for words, names in (("new", _without(self, before)), ("gone", _without(before, self))):
            if names:
                changes.append(f"{'class' if len(names) == 1 else 'classes'} {first_names(names)} {words}")
        if not changes and self.classes != before.classes:
            changes.append("the order of the classes")
        for split, word in _WORDS.items():
            for name, entry in self.files[split].items():
                old = before.files.get(split, {}).get(name)
                if old is None or old == entry:
                    continue
                more = entry.size - old.size
                what = f"{abs(more)} {'more' if more > 0 else 'fewer'}" if more else "other"
                changes.append(f"{what} {word} {'image' if abs(more) == 1 else 'images'} of {name}")
        return changes


def _by_class(part: DataSet) -> dict[str, Files]:
    digests = [hashlib.sha256() for _ in part.classes]
    counts = [0] * len(part.classes)
    for name, label in zip(part.names, part.labels.tolist(), strict=True):
        digests[label].update(name.encode(errors="surrogateescape") + b"\0")
        counts[label] += 1
    entries = zip(part.classes, counts, digests, strict=True)
    return {name: Files(count, digest.hexdigest()) for name, count, digest in entries}


def _without(contents: DataContents, others: DataContents) -> list[str]:
    return [name for name in contents.classes if name not in others.classes]


def check_data(now: DataContents, state: Mapping[str, Any], folder: Path, accept: bool) -> dict[str, tuple[Any, Any]]:
    """Compare a run's data with those of its checkpoint.

    Args:
        now: the data as they are.
        state: the checkpoint's state; those of older versions do not tell their data.
        folder: the run's folder, for the message.
        accept: go on with changed files, as long as each class keeps its place among the model's outputs.

    Returns:
        What changed, for `runs.add_change`; empty if nothing did.

    Raises:
        RunError: the data have changed. The message says how.
    """
    if "data" not in state:
        return {}
    before = DataContents.from_dict(state["data"])
    changes = now.changes_since(before)
    if not changes:
        return {}
    text = "; ".join(changes[:5]) + (f"; and {len(changes) - 5} more" if len(changes) > 5 else "")
    places = {name: place for place, name in enumerate(now.classes)}
    moved = any(places.get(name, place) != place for place, name in enumerate(before.classes))
    if moved or len(now.classes) != len(before.classes):
        raise RunError(
            f"the data are not those that the run was trained on ({text}), so its classes would be mixed up; restore "
            "the data, or start a new run with --init to go on from its weights."
        )
    if not accept:
        raise RunError(
            f"the data are not those that the run was trained on ({text}); restore them, or go on all the same: "
            f"swinlens runs resume {shlex.quote(str(folder))} {ACCEPT_CHANGED_DATA}"
        )
    return {"images": (len(before), f"{len(now)} ({text})")}
