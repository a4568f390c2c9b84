"""The code in the documentation runs: the blocks of docs/library.md in order, and the notebook docs/tour.ipynb."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def code_blocks(page: Path) -> list[tuple[int, str]]:
    """The Python blocks of a Markdown page, each with the line before its first."""
    text = page.read_text()
    blocks = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start(1)), block.group(1)) for block in blocks]


def test_the_library_page_runs(samples: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(samples["rose"], tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    blocks = code_blocks(DOCS / "library.md")
    assert len(blocks) > 8
    namespace: dict[str, object] = {}
    for line, block in blocks:
        # Padded, so that an error names the line of the page.
        exec(compile("\n" * line + block, str(DOCS / "library.md"), "exec"), namespace)
    assert {"map.png", "map.npz", "grid.png"} <= {path.name for path in tmp_path.iterdir()}


def test_the_notebook_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(DOCS / "tour.ipynb", as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")], "clear the outputs before committing"
    nbclient.NotebookClient(notebook, timeout=250, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = [kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    assert kinds.count("text/html") >= 5  # the explanations drew themselves
