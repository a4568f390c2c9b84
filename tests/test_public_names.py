"""The public names of `swin_core`, which are imported lazily."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

import swin_core

ROOT = Path(__file__).resolve().parent.parent


def heavy_after(code: str) -> str:
    """Run code in a fresh interpreter; return the heavy packages that it has loaded."""
    names = "print(*sorted({'torch', 'timm', 'numpy', 'PIL', 'matplotlib', 'streamlit'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{names}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "import swin_core",
        "from swin_core import runs; runs.list_runs('there is none')",
        "from swin_core.runs import devices; devices.list_devices()",
        "from swin_core import SwinError",
        "import swin_core.commands.runs",
    ],
)
def test_what_needs_no_torch_does_not_load_it(code: str) -> None:
    assert heavy_after(code) == ""


def test_explain_is_the_function_whatever_was_imported_before() -> None:
    """Each in a copy of an interpreter that has loaded torch, not swin_core."""
    code = """
import os
import torch
for first in ("import swin_core.attribution.gradcam", "import swin_core.attribution.explain", "pass"):
    if not (child := os.fork()):
        exec(first)
        import swin_core
        from swin_core import explain
        os._exit(0 if callable(explain) and swin_core.explain is explain else 1)
    assert os.waitpid(child, 0)[1] == 0, first
assert not [name for name in sys.modules if name.startswith("swin_core")]
"""
    assert "torch" in heavy_after(code)


def test_a_bundled_model_is_explained_without_other_libraries_of_models() -> None:
    """They took a second or more of each start and 190 MB, only to name classes that the model names itself."""
    code = (
        "import swin_core\n"
        "swin_core.explain(swin_core.load('swin_micro_flowers'), 'assets/samples/rose.jpg')\n"
        "assert not {'timm', 'torchvision', 'transformers', 'torch._dynamo'} & set(sys.modules)"
    )
    assert "torch" in heavy_after(code)


def test_every_public_name_is_there_and_listed() -> None:
    assert set(swin_core.__all__) <= set(dir(swin_core))
    for name in swin_core.__all__:
        assert getattr(swin_core, name) is not None
    assert isinstance(swin_core.explain, FunctionType)
    with pytest.raises(AttributeError, match="no attribute 'explane'"):
        _ = swin_core.explane
