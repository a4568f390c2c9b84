"""Texts of figures: percentages, shortened names, and lines that fit a column."""

import re
import unicodedata

NO_BREAK = "\N{NO-BREAK SPACE}"


def percent(probability: float) -> str:
    """Return a probability as a short percentage: "93 %", "99.7 %", "4.2 %", "<0.1 %"."""
    value = 100 * probability
    if value < 0.05:
        return f"<0.1{NO_BREAK}%"
    digits = 1 if value < 9.95 or 99.5 <= value < 99.95 else 0
    return f"{value:.{digits}f}{NO_BREAK}%"


def value_text(value: float, activation: str) -> str:
    """Return a value of `Explanation.probabilities`: a percentage, or for the activation "none" the number itself."""
    return f"{value:.4g}" if activation == "none" else percent(value)


def shorten(text: str, length: int = 40) -> str:
    """Return a name of at most `length` characters; an ellipsis replaces the middle of a longer one."""
    if len(text) <= length:
        return text
    front = length // 2
    return f"{text[:front]}…{text[front + 1 - length :]}"


def wrap(text: str, width: int) -> list[str]:
    """Return the whole text in lines of at most `width` columns; a wide (East Asian) character takes two columns, an
    accent that combines with the character before it none.

    Lines break at spaces and after `_ - . / ,`, and inside a word only if it is longer than a line.
    """
    text = re.sub(r"[\t\r\n]+", " ", text)
    # A part ends in spaces or in one of the marks; no-break spaces and decimal points do not end a part.
    parts = re.findall(r"(?:[^ _\-./,]|(?<=\d)[.,](?=\d))*(?:[_\-./,]+ *| +|$)", text)
    lines = [""]
    for part in parts:
        if _columns((lines[-1] + part).rstrip()) > width and lines[-1].strip():
            lines.append("")
        for character in part:
            if _columns(lines[-1] + character.rstrip()) > width:
                lines.append("")
            lines[-1] += character
    return [line.strip(" ") for line in lines if line.strip()]


def _columns(text: str) -> int:
    text = "".join(character for character in text if unicodedata.category(character) not in ("Mn", "Me", "Cf"))
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
