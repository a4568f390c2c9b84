"""Sentences that explain how to read heat maps, depending on what is shown."""

from swin_core.attribution.methods import METHODS
from swin_core.attribution.overlay import Look

BEST = "Each model uses the method that tested best for it, named under its map."
CROP = "The model sees a square crop of the image; the map covers the crop only."
TRUST = (
    "SRG, the symmetric relevance gain, says how much faster the class's probability falls when the pixels that the "
    "map marks most are removed first than when the least marked ones are: 0 for a random map, higher is better. A "
    "map beats the baselines if its SRG is above that of random maps and of a blob in the middle of the image."
)


def describe_brightness(method: str | None) -> str:
    """Return what a bright area means for a method; None for the best one of each model."""
    facts = METHODS[method] if method else None
    if facts is not None and facts.signed:
        return "Orange areas raised the score of the class named under the image, blue areas lowered it."
    if facts is not None and not facts.by_class:
        return "Bright areas contributed most to the model's output, whatever the class."
    return "Bright areas raised the score of the class named under the image."


def describe_scale(look: Look) -> str:
    """Return how colours compare between cells."""
    if look.scale == "shared":
        return (
            "One scale for all cells: equal colour is equal magnitude. Magnitudes compare within one model and layer; "
            "between models only with care."
        )
    return "Each cell has its own scale: compare positions, not strengths."
