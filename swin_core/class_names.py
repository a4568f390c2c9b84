"""Match the name of a class with a model's labels.

The first of these rules that fits any label decides:

1. the label is equal to the name;
2. the label is the name but for case, `_`, `-`, extra spaces and a plural;
3. the same of one of the label's synonyms, which commas separate as in ImageNet ("tench, Tinca tinca").

If it fits several labels, the name is ambiguous, which is an error.
"""

from collections.abc import Sequence

from swin_core.errors import TargetError

__all__ = ["candidates", "find_class", "match_classes", "unique_labels"]


def find_class(labels: Sequence[str], name: str) -> int | None:
    """The index of the label that fits a class name; None if none does.

    Raises:
        TargetError: several labels fit.
    """
    return match_classes([name], labels)[0]


def candidates(labels: Sequence[str], name: str) -> list[int]:
    """The indices of all labels that fit a class name."""
    return _Index(labels).fits(name)


def match_classes(classes: Sequence[str], labels: Sequence[str]) -> list[int | None]:
    """For each class name of a data set the index of the label that fits it, or None.

    Raises:
        TargetError: several labels fit a name.
    """
    if tuple(classes) == tuple(labels):
        return list(range(len(labels)))
    index = _Index(labels)
    matches: list[int | None] = []
    for name in classes:
        fits = index.fits(name)
        if len(fits) > 1:
            known = ", ".join(f"{label} {labels[label]!r}" for label in fits)
            raise TargetError(f"the class name {name[:80]!r} fits several classes: {known}; use one of these names.")
        matches.append(fits[0] if fits else None)
    return matches


def unique_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels; those that occur several times with their index as a synonym ("crane, class 134")."""
    labels = [str(label) for label in labels]
    seen, repeated = set[str](), set[str]()
    for label in labels:
        (repeated if label in seen else seen).add(label)
    return tuple(f"{label}, class {index}" if label in repeated else label for index, label in enumerate(labels))


class _Index:
    """Labels by the names that rules 1, 2 and 3 know them by."""

    def __init__(self, labels: Sequence[str]):
        self.equal: dict[str, list[int]] = {}
        self.similar: dict[str, list[int]] = {}
        self.synonyms: dict[str, list[int]] = {}
        for index, label in enumerate(labels):
            self.equal.setdefault(label, []).append(index)
            self.similar.setdefault(_plain(label), []).append(index)
            for synonym in {_plain(part) for part in label.split(",")}:
                self.synonyms.setdefault(synonym, []).append(index)

    def fits(self, name: str) -> list[int]:
        forms = _singular_and_plural(_plain(name))
        for known, names in ((self.equal, {name}), (self.similar, forms), (self.synonyms, forms)):
            found = {index for form in names for index in known.get(form, [])}
            if found:
                return sorted(found)
        return []


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _singular_and_plural(name: str) -> set[str]:
    """A name, and what may be its plural and its singular."""
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
