"""Fonts for drawings of matplotlib: the installed ones that together have all characters of a text."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from matplotlib import font_manager

BASE = "DejaVu Sans"
"""Comes with matplotlib."""
PREFERRED = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC")
"""Of fonts that have equally many of the characters, these are taken first."""
_INVISIBLE = ("Cc", "Cf", "Mn")  # controls, joiners, variation selectors; without a glyph they are left out


@dataclass(frozen=True)
class Fonts:
    """Fonts for a text."""

    families: tuple[str, ...]
    """Names of the fonts; matplotlib takes each character from the first one that has it."""
    missing: str
    """Characters that no installed font has."""

    def drawable(self, text: str) -> str:
        """Return the text with "?" for characters that no font has, and without invisible ones among them."""
        marks = {ord(c): None if unicodedata.category(c) in _INVISIBLE else "?" for c in self.missing}
        return unicodedata.normalize("NFC", text).translate(marks)

    @property
    def fault(self) -> str:
        """One line about characters that no font has; empty if there are none."""
        visible = [c for c in self.missing if unicodedata.category(c) not in _INVISIBLE]
        if not visible:
            return ""
        # The first word of a character's name is its script: "CJK", "DEVANAGARI".
        scripts = sorted({unicodedata.name(c, "other").split()[0].split("-")[0] for c in visible})
        codes = ", ".join(f"U+{ord(c):04X}" for c in visible[:5]) + (" ..." if len(visible) > 5 else "")
        return (
            f"? stands for characters that no installed font has ({', '.join(scripts)}: {codes}); "
            "install a font with them, such as Noto Sans."
        )


def fonts_for(texts: Iterable[str]) -> Fonts:
    """Return fonts that have the characters of texts; matplotlib's own font alone if it has all."""
    characters = frozenset(unicodedata.normalize("NFC", "".join(texts)))
    return _choose(characters)


@lru_cache(maxsize=32)
def _choose(characters: frozenset[str]) -> Fonts:
    """Return the base font and those that add the most of the characters that it lacks."""
    missing = characters - _covered(BASE, characters)
    families, missing = [BASE], frozenset(c for c in missing if not c.isspace())
    if missing:
        # These have a box for every character.
        known = [name for name in font_manager.get_font_names() if "lastresort" not in name.lower().replace(" ", "")]
        order = [name for name in PREFERRED if name in known] + sorted(set(known) - {BASE, *PREFERRED})
        covered = {name: _covered(name, missing) for name in order}
        while best := max(order, key=lambda name: len(covered[name] & missing), default=""):
            if not covered[best] & missing:
                break
            families.append(best)
            missing -= covered[best]
    return Fonts(tuple(families), "".join(sorted(missing)))


def _covered(family: str, characters: frozenset[str]) -> frozenset[str]:
    """Return the characters that a font has, in its normal and in its bold weight."""
    entries = [entry for entry in font_manager.fontManager.ttflist if entry.name == family and entry.style == "normal"]
    for entry in [entry for entry in entries if entry.weight in (400, 700)] or entries:
        try:
            # Files hold several fonts; matplotlib tells them apart since 3.11.
            index = getattr(entry, "face_index", 0)
            path = font_manager.FontPath(entry.fname, index) if index else entry.fname
            glyphs = font_manager.get_font(path).get_charmap()
        except (OSError, RuntimeError, ValueError):  # a damaged font, or one of bitmaps
            return frozenset()
        characters = frozenset(c for c in characters if ord(c) in glyphs)
    return characters if entries else frozenset()
