"""How to read what the page shows, in a few sentences that change with what is chosen."""

from dashboard.shared.theme import escape_markdown
from swin_core.attribution.methods import METHOD_FACTS
from swin_core.attribution.overlay import Look
from swin_core.figures.reading_guide import BEST, bright, colours

__all__ = ["how_to_read"]


def how_to_read(method: str | None, look: Look) -> str:
    """What bright means, how far colours compare, and what the method does; as Markdown."""
    if method is None:
        return f"{bright(method)} {colours(look)}  \n{BEST}"
    facts = METHOD_FACTS[method]
    slow = " It takes many runs of the model." if facts.cost == "many passes" else ""
    title, summary = escape_markdown(facts.title), escape_markdown(facts.summary)
    return f"{bright(method)} {colours(look)}  \n**{title}:** {summary}{slow}"
