"""The documents: links lead somewhere, and the commands that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("assets/*.md"))
)


def anchors(text: str) -> set[str]:
    """The anchors of a Markdown text's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing(document: str) -> list[str]:
    """Relative links and images of a document that lead nowhere, and scripts and folders that do not exist."""
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    faults = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = path.parent / target if target else path
        if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            faults.append(link)
    named = re.findall(r"\b(?:scripts|dashboard|swin_core|tests)/[\w/]+\.(?:py|md)", text)
    return faults + [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name != "CHANGELOG.md"])
def test_links_and_named_files_exist(document: str) -> None:
    assert missing(document) == []


def test_a_broken_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "a.md").write_text(
        "# Two words\n[a](b.md) [c](#two-words) [d](#gone) `scripts/gone.py` [e](https://x.org)"
    )
    assert missing("a.md") == ["b.md", "#gone", "scripts/gone.py"]
