"""Names in any script are drawn with fonts that have their characters."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pypdf
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from swin_core.figures import fonts
from swin_core.figures.files import encode
from swin_core.figures.fonts import fonts_for
from swin_core.figures.grid import Cell
from swin_core.figures.text import wrap
from tests.fixtures.grids import Make, one_row

HAN = "\N{CJK UNIFIED IDEOGRAPH-9F96}\N{CJK UNIFIED IDEOGRAPH-9F97}"
"""Rare characters, for which the test makes a font."""


def make_font(path: Path, characters: str) -> None:
    """Write a font in which each of the characters is a filled square."""
    pen = TTGlyphPen(None)
    for step, point in enumerate(((100, 0), (100, 800), (900, 800), (900, 0))):
        (pen.lineTo if step else pen.moveTo)(point)
    pen.closePath()
    square = pen.glyph()
    names = [f"g{ord(character):X}" for character in characters]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap(dict(zip(map(ord, characters), names, strict=True)))
    builder.setupGlyf(dict.fromkeys([".notdef", *names], square))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names], (1000, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Made Up Han", "styleName": "Regular", "psName": "MadeUpHan"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.fixture(autouse=True)
def made_up_font(tmp_path: Path) -> Iterator[None]:
    """A font with the characters of `HAN` is installed, and no other that has them."""
    make_font(tmp_path / "han.ttf", HAN)
    manager = font_manager.fontManager
    before = list(manager.ttflist)
    manager.ttflist = [entry for entry in before if "CJK" not in entry.name]
    manager.addfont(tmp_path / "han.ttf")
    fonts._choose.cache_clear()
    yield
    manager.ttflist = before
    fonts._choose.cache_clear()


@pytest.mark.parametrize("text", ["plain", "Löwenzahn", "e\N{COMBINING ACUTE ACCENT}clair", "Тигр", "قطة", "✓ ✗ …"])
def test_the_base_font_is_enough_for_many_scripts(text: str) -> None:
    assert fonts_for([text]).families == (fonts.BASE,)
    assert not fonts_for([text]).fault


def test_a_font_is_chosen_by_its_characters() -> None:
    chosen = fonts_for([f"a{HAN}"])
    assert chosen.families == (fonts.BASE, "Made Up Han")
    assert chosen.drawable(f"a{HAN}") == f"a{HAN}"
    assert not chosen.fault


def test_characters_without_a_font_are_named_in_one_line() -> None:
    nobody = "\N{CUNEIFORM SIGN A}"
    chosen = fonts_for([f"a{HAN}", nobody])
    assert chosen.drawable(f"a {nobody}") == "a ?"
    assert "? stands for characters that no installed font has (CUNEIFORM: U+12000); install a font" in chosen.fault
    assert fonts_for([nobody]) is fonts_for([nobody])


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_exports_draw_them(make: Make, kind: str) -> None:
    names = (f"{HAN} Löwe", "قطة", "c")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of each glyph that is missing
        drawn = encode(one_row(Cell(make(labels=names)), title=f"{HAN}.jpg"), kind)
    if kind == "pdf":
        (page,) = pypdf.PdfReader(io.BytesIO(drawn)).pages
        used = {str(font.get_object()["/BaseFont"]) for font in page["/Resources"]["/Font"].values()}
        assert any("MadeUpHan" in name for name in used), used
    else:
        assert np.asarray(Image.open(io.BytesIO(drawn)).convert("L")).std() > 1


def test_without_a_font_the_drawing_says_so_and_has_no_boxes(make: Make) -> None:
    grid = one_row(Cell(make(labels=("\N{CUNEIFORM SIGN A}", "b"))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = encode(grid, "pdf")
    (page,) = pypdf.PdfReader(io.BytesIO(drawn)).pages
    assert "no installed font has" in " ".join(page.extract_text().split())


def test_combining_accents_take_no_column() -> None:
    assert wrap("e\N{COMBINING ACUTE ACCENT}" * 6, 6) == ["e\N{COMBINING ACUTE ACCENT}" * 6]
