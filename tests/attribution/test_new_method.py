"""Adding an attribution method takes one file: the library, the page and the command lines offer what it declares.

The tests of every method hold for it, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

BRIGHTNESS = '''
"""Brightness: a map that looks at the image alone."""

import torch

from swin_core.attribution.method import Method
from swin_core.attribution.targets import Attribution
from swin_core.models.modes import evaluation_mode


def brightness(model, x, select):
    with evaluation_mode(model), torch.no_grad():
        logits = model(x)
    targets = select(logits)
    return Attribution(logits, targets, [[x.mean(1) - x.amin((1, 2, 3))[:, None, None]] for _ in targets])


BRIGHTNESS = Method(
    "brightness", "Brightness", brightness, "pixels", "one pass", "The mean over channels.", by_class=False
)
'''

USE = """
import sys

import swin_core.attribution

folder, image, out = sys.argv[1:]
swin_core.attribution.__path__.append(folder)  # as if the file were in swin_core/attribution

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import swin_core
from swin_core.commands import explain as command, trust

classifier = swin_core.load("swin_micro_cifar100")
explanation = swin_core.explain(classifier, image, method="brightness")
x = classifier.tensor(explanation.view)[0].mean(0).numpy()
assert explanation.maps.shape == (1, 1, *x.shape)
assert np.allclose(explanation.maps[0, 0] - x, (explanation.maps[0, 0] - x)[0, 0], atol=1e-6)

page = AppTest.from_string("from dashboard.compare.controls import choose_method; choose_method()").run()
assert "Brightness" in page.selectbox[0].options

assert "brightness: The mean over channels." in command.parser().format_help()
assert "brightness (one pass)" in trust.parser().format_help()
tests = ["tests/attribution/test_methods.py", "-k", "brightness or facts"]
assert not pytest.main(["-q", "-p", "no:cacheprovider", *tests])
sys.exit(command.main([image, "--models", "swin_micro_cifar100", "--method", "brightness", "--out", out]))
"""


def test_one_file_adds_a_method_everywhere(tmp_path: Path) -> None:
    folder = tmp_path / "added"
    folder.mkdir()
    (folder / "brightness.py").write_text(BRIGHTNESS)
    Image.effect_mandelbrot((48, 40), (-2, -1, 1, 1), 30).convert("RGB").save(tmp_path / "image.png")
    arguments = [folder, tmp_path / "image.png", tmp_path / "report.json"]
    command = [sys.executable, "-c", USE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert '"brightness"' in json.dumps(json.loads((tmp_path / "report.json").read_text()))
