"""Texts of figures: wrapping, percentages and shortened names."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from swin_core.figures.files import encode
from swin_core.figures.grid import Cell, Grid, Row
from swin_core.figures.matplotlib_grid import matplotlib_figure
from swin_core.figures.text import percent, shorten, wrap


@pytest.mark.parametrize(
    "text",
    [
        "timm/swinv2_base_window12to24_192to384.ms_in22k_ft_in1k",
        "bald eagle, American eagle, Haliaeetus leucocephalus",
        "x" * 90,
        "天竺葵科天竺葵属植物的一种",
        "",
    ],
)
def test_wrapping_keeps_every_character_and_the_width(text: str) -> None:
    lines = wrap(text, 20)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(sum(2 if ord(letter) > 0x2E80 else 1 for letter in line) <= 20 for line in lines)


def test_a_percentage_is_not_broken() -> None:
    assert [percent(value) for value in (0.93, 0.997, 1, 0.042, 0.0001)] == [
        text.replace(" ", "\N{NO-BREAK SPACE}") for text in ("93 %", "99.7 %", "100 %", "4.2 %", "<0.1 %")
    ]
    assert wrap(f"abcdefgh {percent(0.93)}", 10) == ["abcdefgh", percent(0.93)]


def test_a_long_name_is_shortened_in_its_middle() -> None:
    name = "timm/" + "x" * 40 + ".in1k"
    assert len(shorten(name)) == 40
    assert re.fullmatch(r"timm/x+…x+\.in1k", shorten(name))
    assert shorten(name[:40]) == name[:40]
    drawn = Grid((Row("", np.zeros((4, 4, 3), np.uint8), [Cell(None, error="no")]),), (name,))
    assert name not in [text.get_text() for text in matplotlib_figure(drawn).texts]
    assert json.loads(encode(drawn, "json"))["columns"] == [name]
