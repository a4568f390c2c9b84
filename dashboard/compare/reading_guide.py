"""How to read the heat maps, given the chosen method."""

from dashboard.shared.theme import escape_markdown
from swin_core.attribution.methods import METHODS
from swin_core.figures.reading_guide import BEST, describe_brightness


def how_to_read(method: str | None) -> str:
    """Return what bright areas mean and what the method does, as Markdown."""
    guide = f"{describe_brightness(method)}  \n"
    if method is None:
        return guide + BEST
    facts = METHODS[method]
    slow = " It takes many forward passes." if facts.cost == "many passes" else ""
    title, summary = escape_markdown(facts.title), escape_markdown(facts.summary)
    return f"{guide}**{title}:** {summary}{slow}"
