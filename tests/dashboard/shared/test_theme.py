"""Escaping of Markdown, and the colours and configuration of the dashboard."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from dashboard.shared import theme

ROOT = Path(__file__).resolve().parents[3]


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
    assert all(contrast(theme.INK, color) > 4.5 for _, color in theme.DIVERGING_SCALE)
