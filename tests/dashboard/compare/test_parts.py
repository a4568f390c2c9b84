"""The parts of the dashboard that need no page: what it holds, which names it takes, its text and its colours."""

from __future__ import annotations

import gc
import threading
import tomllib
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import swin_core
from dashboard.shared import cache, theme
from dashboard.shared import model_names as choices
from swin_core.errors import ModelError
from swin_core.system.cache import LRUCache

ROOT = Path(__file__).resolve().parents[3]


def test_a_hundred_changes_of_model_keep_six(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[swin_core.Classifier] = weakref.WeakSet()

    def load(name: str) -> swin_core.Classifier:
        model = torch.nn.Linear(1, 2)
        alive.add(made := swin_core.Classifier(model, ("a", "b"), (0.5,) * 3, (0.5,) * 3, 32, name=name))
        return made

    monkeypatch.setattr(swin_core, "load", load)
    monkeypatch.setattr(cache, "_classifiers", LRUCache(6))
    for number in range(100):
        cache.classifier(f"timm/model{number}")
    gc.collect()
    assert len(alive) == 6


def test_one_thread_explains_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    by: list[int] = []

    def explain(*_given: object, **_named: object) -> str:
        by.append(threading.get_ident())
        return "explained"

    model = swin_core.Classifier(torch.nn.Linear(1, 2), ("a", "b"), (0.5,) * 3, (0.5,) * 3, 32, name="any")
    monkeypatch.setattr(swin_core, "load", lambda _name: model)
    monkeypatch.setattr(swin_core, "explain", explain)
    monkeypatch.setattr(cache, "_classifiers", LRUCache(6))
    monkeypatch.setattr(cache, "_explanations", LRUCache(6))
    image = Image.new("RGB", (32, 32))

    def ask(number: int) -> None:
        picture = cache.InputImage(number, "", image, np.asarray(image))
        assert cache.explanation(cache.Request("timm/any", picture, (0,), "gradcam", None)) == "explained"

    with ThreadPoolExecutor(4) as pool:
        asking = set(pool.map(lambda number: (ask(number), threading.get_ident())[1], range(16)))
    assert len(by) == 16
    assert len(set(by)) == 1
    assert not asking & set(by)


@pytest.mark.parametrize(
    "name",
    ["../secret.pth", "/etc/passwd", "runs/../../x.pth", "a\0b", "~/x.pth", "--x; touch p", "a" * 500, "", "timm/../x"],
)
def test_names_that_lead_elsewhere_are_refused_before_anything_is_opened(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[Path] = []

    def exists(path: Path) -> bool:
        looked_at.append(path)
        return True

    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", exists)
        with pytest.raises(ModelError) as error:
            choices.model_source(name)
    assert not looked_at
    assert "\n" not in str(error.value)


def test_a_link_out_of_the_project_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside.pth"
    root.mkdir()
    outside.write_bytes(b"x")
    (root / "link.pth").symlink_to(outside)
    (root / "inside.pth").write_bytes(b"x")
    monkeypatch.setattr(choices, "ROOT", root)
    assert choices.model_source("inside.pth") == str(root / "inside.pth")
    with pytest.raises(ModelError):
        choices.model_source("link.pth")


@pytest.mark.parametrize(
    "text",
    ["<img src=x onerror=alert(1)>", "![x](https://example.org/x.png)", ":material/bug_report:", "$x^2$", "a*b*_c_"],
)
def test_text_from_outside_is_no_markdown(text: str) -> None:
    escaped = theme.escape_markdown(text)
    assert escaped.replace("\\", "") == text
    for mark in "<>[]()*_$:!":
        assert escaped.count(mark) == escaped.count("\\" + mark)


def test_configuration_keeps_the_server_local_and_the_palette_one() -> None:
    settings = tomllib.loads((ROOT / "dashboard" / ".streamlit" / "config.toml").read_text("utf-8"))
    assert settings["server"]["address"] == "127.0.0.1"
    assert settings["server"]["maxUploadSize"] == 50
    assert settings["browser"]["gatherUsageStats"] is False
    assert settings["client"]["showErrorDetails"] == "type"
    assert tuple(settings["theme"]["chartCategoricalColors"]) == theme.SERIES


def contrast(one: str, other: str) -> float:
    """Contrast of two colours by WCAG 2.2."""

    def luminance(color: str) -> float:
        channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_both_themes_can_be_read(mode: str) -> None:
    colors = tomllib.loads((ROOT / "dashboard" / ".streamlit" / "config.toml").read_text("utf-8"))["theme"][mode]
    for ground in ("backgroundColor", "secondaryBackgroundColor"):
        assert contrast(colors["textColor"], colors[ground]) > 7
    assert contrast(colors["linkColor"], colors["backgroundColor"]) > 4.5
    assert all(contrast(theme.INK, color) > 4.5 for _, color in theme.DIVERGING)
