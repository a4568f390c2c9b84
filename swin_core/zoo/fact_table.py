"""What was recognised of a model, as rows of text for a shell or a page."""

from typing import NamedTuple

from swin_core.zoo.recognise import Recognition

TITLES = {
    "architecture": "Architecture",
    "labels": "Class names",
    "image_size": "Image size",
    "channels": "Channels",
    "mean": "Mean",
    "std": "Standard deviation",
    "crop_fraction": "Crop",
    "interpolation": "Interpolation",
    "squash": "Squeeze",
    "activation": "Activation",
}
"""Titles of the fields of a model card."""
NOT_STATED = "not stated"


class FactRow(NamedTuple):
    """One fact about a model."""

    title: str
    value: str
    """The value, or `NOT_STATED`."""
    origin: str
    """Where it stands, such as "the card" or "shapes"."""


def fact_rows(recognition: Recognition) -> list[FactRow]:
    """Return the facts that are known, and those that are missing."""
    classes = "unknown" if recognition.classes is None else str(recognition.classes)
    rows = [FactRow("Classes", classes, "shapes" if recognition.classes is not None else "")]
    for name, title in TITLES.items():
        value = getattr(recognition.facts, name)
        if value is not None:
            rows.append(FactRow(title, fact_text(value), recognition.origins.get(name, "")))
        elif name in recognition.missing:
            rows.append(FactRow(title, NOT_STATED, ""))
    return rows


def fact_text(value: object) -> str:
    """Return a fact as text: a few of many class names, numbers without needless digits."""
    if isinstance(value, list):
        shown = [fact_text(part) for part in value]
        return ", ".join([*shown[:5], f"... {shown[-1]}"] if len(shown) > 6 else shown)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
