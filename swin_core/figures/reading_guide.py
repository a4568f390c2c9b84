"""How to read heat maps, in a few sentences that change with what is shown."""

from swin_core.attribution.methods import METHOD_FACTS
from swin_core.attribution.overlay import Look

__all__ = ["BEST", "CROP", "TRUST", "bright", "colours"]

_READ = {
    "for": "Bright areas raised the score of the class named under the image.",
    "for and against": "Orange areas raised the score of the class named under the image, blue areas lowered it.",
    "whatever": "Bright areas are what the model took in most, whatever the class.",
}
_SCALE = {
    "shared": "One scale for all cells: equal colour is equal magnitude, which compares within one model and layer, "
    "and between models only with care.",
    "cell": "Each cell has its own scale: compare places, not strengths.",
}
BEST = (
    "Each model is explained by the method whose maps were most to be believed where its architecture was measured, "
    "else by Grad-CAM; the caption names it."
)
CROP = "The model sees a square crop of the image; what lies outside is not in the map."
TRUST = (
    "SRG, the symmetric relevance gain, says how much faster the class's probability falls when the pixels that the "
    "map marks most go first than when those that it marks least do: 0 for a map that knows nothing, higher is better. "
    "Believe stands where it is above that of random maps and of a blob in the middle of the image."
)


def bright(method: str | None) -> str:
    """What a bright area means for a method; None for the best one of each model."""
    facts = METHOD_FACTS[method] if method else None
    kind = "for" if facts is None else "for and against" if facts.signed else "for" if facts.by_class else "whatever"
    return _READ[kind]


def colours(look: Look) -> str:
    """How far colours compare between cells."""
    return _SCALE[look.scale]
