"""Sample images, grouped by the models that know their class, and what pages show at first."""

from collections.abc import Sequence
from functools import lru_cache, partial

from dashboard.shared.cache import InputImage, read_input_image
from dashboard.shared.model_names import sample_images, sample_label
from swin_core.class_names import candidates
from swin_core.images.read import read_image
from swin_core.zoo.load import available, bundled_metadata
from swin_core.zoo.titles import bundled_title

FIRST_CLASSES = ("cat", "dog", "rose", "tulip")
"""The rows of the reproduced report's figure 11."""
UNKNOWN = "Other"
"""Title of the samples that no bundled model knows."""


def sample_image(name: str) -> InputImage:
    """Return a sample. Its title is the file's name and its truth is its class.

    Raises:
        ImageError: it cannot be read.
    """
    file = sample_images()[name]
    return read_input_image((file, file.name), file.name, sample_label(name), partial(read_image, file))


def first_models() -> list[str]:
    """Return the bundled models that know all of `FIRST_CLASSES`; without any, the first two bundled models."""
    bundled = list(available())
    knowing = [name for name in bundled if _known(_labels(name), FIRST_CLASSES) == set(FIRST_CLASSES)]
    return knowing or bundled[:2]


def first_samples() -> list[str]:
    """Return the samples that are shown at first, so that no page is empty."""
    return [name for name in next(iter(sample_groups().values()), []) if sample_label(name) in FIRST_CLASSES]


def first_sample(models: Sequence[str]) -> str:
    """Return the first sample that all of some models know; without any, the first sample."""
    names = [name for group in sample_groups().values() for name in group]
    labels = {name: sample_label(name) for name in names}
    bundled = available()
    known = [_known(_labels(model) if model in bundled else (), tuple(labels.values())) for model in models]
    return next((name for name in names if all(labels[name] in each for each in known)), names[0])


def sample_groups() -> dict[str, list[str]]:
    """Return the samples by what the models that know them know; the group with the fewest classes comes first."""
    vocabularies = {_labels(name): bundled_title(name).knows or name for name in available()}
    groups: dict[str, list[str]] = {}
    left = {name: sample_label(name) for name in sample_images()}
    for labels in sorted(vocabularies, key=len):
        known = _known(labels, tuple(left.values()))
        if names := [name for name, label in left.items() if label in known]:
            groups.setdefault(vocabularies[labels], []).extend(names)
        left = {name: label for name, label in left.items() if label not in known}
    return groups | ({UNKNOWN: list(left)} if left else {})


@lru_cache(maxsize=256)
def _known(labels: tuple[str, ...], names: tuple[str, ...]) -> frozenset[str]:
    """Return the class names that match a label."""
    return frozenset(name for name in names if candidates(labels, name))


def _labels(name: str) -> tuple[str, ...]:
    return tuple(bundled_metadata(name).get("labels", ()))
