"""Match a class name to a model's labels.

The first rule that matches any label decides:

1. the label equals the name;
2. the label equals the name up to case, `_`, `-`, extra spaces and a plural;
3. the same for one synonym of the label; synonyms are separated by commas, as in ImageNet ("tench, Tinca tinca").

A name that matches several labels is ambiguous, which is an error.
"""

from collections import Counter
from collections.abc import Sequence

from swin_core.errors import TargetError


def find_class(labels: Sequence[str], name: str) -> int | None:
    """Return the index of the label that matches a class name, or None.

    Raises:
        TargetError: several labels match.
    """
    return match_classes([name], labels)[0]


def candidates(labels: Sequence[str], name: str) -> list[int]:
    """Return the indices of all labels that match a class name."""
    return _LabelIndex(labels).matches(name)


def match_classes(classes: Sequence[str], labels: Sequence[str]) -> list[int | None]:
    """Return for each class name of a data set the index of the matching label, or None.

    Raises:
        TargetError: several labels match a name.
    """
    if tuple(classes) == tuple(labels):
        return list(range(len(labels)))
    index = _LabelIndex(labels)
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
    """Indices of labels by exact name (rule 1), normalised name (rule 2) and synonym (rule 3)."""

    def __init__(self, labels: Sequence[str]):
        self.exact: dict[str, list[int]] = {}
        self.normalised: dict[str, list[int]] = {}
        self.synonyms: dict[str, list[int]] = {}
        for index, label in enumerate(labels):
            self.exact.setdefault(label, []).append(index)
            self.normalised.setdefault(_normalise(label), []).append(index)
            for synonym in {_normalise(part) for part in label.split(",")}:
                self.synonyms.setdefault(synonym, []).append(index)

    def matches(self, name: str) -> list[int]:
        forms = _singular_and_plural(_normalise(name))
        for known, names in ((self.exact, {name}), (self.normalised, forms), (self.synonyms, forms)):
            if indices := {index for form in names for index in known.get(form, [])}:
                return sorted(indices)
        return []


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
