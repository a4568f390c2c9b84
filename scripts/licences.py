#!/usr/bin/env python
"""Write the licences of the installed packages into docs/licences.md: `python scripts/licences.py`."""

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

PAGE = Path(__file__).resolve().parents[1] / "docs" / "licences.md"
EXTRAS = ("dashboard", "demo", "train")
INTRODUCTION = f"""# Licences

What `pip install 'swinlens[{",".join(EXTRAS)}]'` installs, as the packages themselves declare it;
`scripts/licences.py` writes this page. NVIDIA's packages come with PyTorch for GPUs only.

| package | version | licence |
|---|---|---|
"""
_LONGEST = 60
"""Characters of a licence's name; longer ones are the text of a licence."""


def installed(name: str, extras: frozenset[str], seen: set[tuple[str, str]]) -> Iterator[metadata.Distribution]:
    """Yield the packages that a package with some extras requires, each once, and what they require."""
    for line in metadata.distribution(name).requires or ():
        needed = Requirement(line)
        if needed.marker and not any(needed.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            continue
        key = canonical(needed.name), ",".join(sorted(needed.extras))
        if key in seen:
            continue
        seen.add(key)
        yield metadata.distribution(needed.name)
        yield from installed(needed.name, frozenset(needed.extras) | {""}, seen)


def canonical(name: str) -> str:
    """Return a package's name as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(package: metadata.PackageMetadata) -> str:
    """Return the licence that a package declares: the expression, the classifiers, or a short text."""
    for expression in package.get_all("License-Expression", []):
        return expression
    classifiers = [line for line in package.get_all("Classifier", []) if line.startswith("License")]
    text = "".join(package.get_all("License", [])).strip()
    if text and len(text) <= _LONGEST and "\n" not in text:
        return text
    return ", ".join(line.rsplit(" :: ", 1)[-1] for line in classifiers) or "not declared"


def page() -> str:
    """Return the page for the packages that are installed now."""
    found = {
        canonical(one.metadata["Name"]): one
        for one in installed("swinlens", frozenset({"", *EXTRAS}), set())
        if canonical(one.metadata["Name"]) != "swinlens"
    }
    rows = [f"| {name} | {one.version} | {licence(one.metadata)} |\n" for name, one in sorted(found.items())]
    return INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE} lists the licences of the installed packages.")
