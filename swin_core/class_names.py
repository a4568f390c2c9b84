"""Match a class name to a model's labels.

The first rule that matches any label decides. Synonyms are the parts of a label between commas, as in ImageNet ("tench,
Tinca tinca").

1. The label, or else one of its synonyms, equals the name.
2. The same up to case, `_`, `-` and extra spaces.
3. The same up to a plural as well.

A name that matches several labels is ambiguous, which is an error.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from swin_core.errors import TargetError


def find_class(labels: Sequence[str], name: str) -> int | None:
    """Return the index of the label that matches a class name, or None.

    Raises:
        TargetError: several labels match.
    """
    return match_classes([name], labels)[0]


def candidates(labels: Sequence[str], name: str) -> list[int]:
    """Return the indices of all labels that match a class name."""
    return _index_of(tuple(labels)).matches(name)


def match_classes(classes: Sequence[str], labels: Sequence[str]) -> list[int | None]:
    """Return for each class name of a data set the index of the matching label, or None.

    Raises:
        TargetError: several labels match a name.
    """
    if tuple(classes) == tuple(labels):
        return list(range(len(labels)))
    index = _index_of(tuple(labels))
    indices: list[int | None] = []
    for name in classes:
        matches = index.matches(name)
        if len(matches) > 1:
            known = ", ".join(f"{label} {labels[label]!r}" for label in matches)
            raise TargetError(f"the class name {name[:80]!r} fits several classes: {known}; use one of these names.")
        indices.append(matches[0] if matches else None)
    return indices


def unique_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the labels; a repeated one gets its index as a synonym ("crane, class 134")."""
    labels = [str(label) for label in labels]
    counts = Counter(labels)
    return tuple(f"{label}, class {index}" if counts[label] > 1 else label for index, label in enumerate(labels))


class _LabelIndex:
    """Indices of labels by name and by synonym, as they are written and normalised."""

    def __init__(self, labels: Sequence[str]):
        self._written: tuple[dict[str, list[int]], ...] = {}, {}
        self._normalised: tuple[dict[str, list[int]], ...] = {}, {}
        for index, label in enumerate(labels):
            for known, names in enumerate(([label], label.split(","))):
                for name in {name.strip() for name in names}:
                    self._written[known].setdefault(name, []).append(index)
                for name in {_normalise(name) for name in names}:
                    self._normalised[known].setdefault(name, []).append(index)

    def matches(self, name: str) -> list[int]:
        """Return the indices of the labels that fit a name by the first rule that fits any."""
        normal = _normalise(name)
        rules = (self._written, {name}), (self._normalised, {normal}), (self._normalised, _singular_and_plural(normal))
        for known, forms in rules:
            for indices_of in known:
                if indices := {index for form in forms for index in indices_of.get(form, [])}:
                    return sorted(indices)
        return []


@lru_cache(maxsize=16)
def _index_of(labels: tuple[str, ...]) -> _LabelIndex:
    return _LabelIndex(labels)


def _normalise(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _singular_and_plural(name: str) -> set[str]:
    """Return a name with its possible plurals and singulars."""
    if not name:
        return set()
    forms = {name, f"{name}s", f"{name}es"}
    if name.endswith("y"):
        forms.add(f"{name[:-1]}ies")
    if name.endswith("s") and not name.endswith("ss"):
        forms |= {name[:-1], name.removesuffix("es")}
    if name.endswith("ies"):
        forms.add(f"{name[:-3]}y")
    return forms
