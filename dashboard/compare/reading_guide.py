"""How to read what the page shows, in a few sentences that change with what is chosen."""

from dashboard.shared.theme import escape_markdown
from swin_core.attribution.methods import METHOD_FACTS
from swin_core.attribution.overlay import Look
from swin_core.figures.reading_guide import BEST, describe_brightness, describe_scale

__all__ = ["how_to_read"]


def how_to_read(method: str | None, look: Look) -> str:
    """What bright means, how far colours compare, and what the method does; as Markdown."""
    guide = f"{describe_brightness(method)} {describe_scale(look)}  \n"
    if method is None:
        return guide + BEST
    facts = METHOD_FACTS[method]
    slow = " It takes many runs of the model." if facts.cost == "many passes" else ""
    return f"{guide}**{escape_markdown(facts.title)}:** {escape_markdown(facts.summary)}{slow}"
