"""How to read what the page shows, in a few sentences that change with what is chosen."""

from dashboard.theme import plain
from swin_core.explain import METHOD_FACTS
from swin_core.explain.render import Look

__all__ = ["how_to_read"]

_READ = {
    "for": "Bright areas raised the score of the class named under the picture.",
    "for and against": "Orange areas raised the score of the class named under the picture, blue areas lowered it.",
    "whatever": "Bright areas are what the model took in most, whatever the class.",
}
_SCALE = {
    "shared": "One scale for all cells: equal colour is equal magnitude, which compares within one model and layer, "
    "and between models only with care.",
    "cell": "Each cell has its own scale: compare places, not strengths.",
}
_BEST = "Each model is explained by the method whose maps were most to be believed when measured; the caption names it."


def how_to_read(method: str | None, look: Look) -> str:
    """What bright means, how far colours compare, and what the method does; as Markdown."""
    if method is None:
        return f"{_READ['for']} {_SCALE[look.scale]}  \n{_BEST}"
    facts = METHOD_FACTS[method]
    kind = "for and against" if facts.signed else "for" if facts.by_class else "whatever"
    slow = " It takes many runs of the model." if facts.cost == "many passes" else ""
    return f"{_READ[kind]} {_SCALE[look.scale]}  \n**{plain(facts.title)}:** {plain(facts.summary)}{slow}"
