"""The result of an audit: findings, and what was tested without one."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from swin_core.attribution.regions import Region
from swin_core.audit.bench import Estimate
from swin_core.audit.duplicates import DuplicateImage, Duplicates

LEAST_EFFECT = 0.15
"""A finding flips this much more of the other images than its control, at the lower end of its corrected interval."""

LEAST_WITHOUT_PLACE = 0.3
"""The same for content at changing places and for statistics: a patch of the object, or its colour, turns some images
too."""

STRENGTHS = (0.25, 0.5, 0.75)
"""Strengths of an intervention, as shares of the full change, at which the curves of a finding are measured."""


@dataclass(frozen=True)
class Tested:
    """A candidate with what its interventions measured."""

    class_name: str
    kind: str
    region: Region | None
    """Left, top, right and bottom, as fractions of the view; None if it has no single place."""
    frame: bool
    """Whether the region is only the border of the rectangle."""
    relevance: float
    """Mean relevance in the region, over that of the whole map."""
    pairs: int
    """Pairs of images that were tested."""
    flip: Estimate
    """Share of images of other classes that become the class when the region is pasted into them."""
    flip_control: Estimate | None
    """The same for content of equal area from elsewhere in the same image; None if `flip` is too small to need it."""
    effect: Estimate | None
    """Paired difference of the two; its interval is corrected for the number of candidates."""
    drop: Estimate | None = None
    """Fall of p(class) when the region is removed; None if the short test was enough."""
    drop_control: Estimate | None = None
    """The same for a region of equal area elsewhere."""
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict, repr=False, hash=False)
    """Of a finding: `flip`, `flip_control`, `drop` and `drop_control` at each of `STRENGTHS`."""
    images: int = 0
    """Of a finding: images of the class whose region turns most of the images that it is pasted into; of a shift, those
    that have it."""
    of_images: int = 0
    """Images of the class that were checked for a finding, or in the full test; 0 if the short one was enough."""
    names: tuple[str, ...] = field(default=(), repr=False)
    """Names of the former."""
    corners: tuple[tuple[int, int], ...] = field(default=(), repr=False)
    """For content: upper left cell of the patch in each of these images, row and column."""
    patches: tuple[str, ...] = field(default=(), repr=False)
    """For content: some of the patches as data URIs, for training without it."""
    patch_size: float = 0.0
    """For content: side of a patch as a fraction of that of the view."""
    statistic: str = ""
    """For a shift of the whole image: a key of `swin_core.images.statistics.STATISTICS`."""
    by: tuple[float, ...] = ()
    """The shift: median of the class less that of the other classes."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Tested":
        """Undo `to_dict`; what an older version did not measure has its default.

        Raises:
            KeyError, TypeError: the values are not those of a candidate.
        """
        arguments: dict[str, Any] = {"class_name": values["class"]}
        for name in cls.__dataclass_fields__.keys() & values.keys():
            value = values[name]
            if f"{name}_interval" in values:
                value = Estimate(value, *values[f"{name}_interval"])
            arguments[name] = _tuples(value)
        return cls(**arguments)

    @property
    def passes(self) -> bool:
        """Whether this is a finding; of a statistic, undoing it must also lower p(class) more than its control does."""
        if self.effect is None or not self.of_images or self.effect.low < least_effect(self.kind):
            return False
        if self.kind != "global":
            return True
        return self.drop is not None and self.drop_control is not None and self.drop.low > self.drop_control.high

    @property
    def strength(self) -> float:
        """The effect; `flip`, which it cannot exceed, where there was no control."""
        return self.flip.value if self.effect is None else self.effect.value

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; `flip_interval` and so on stand beside each value."""
        values: dict[str, Any] = {"class": self.class_name}
        for name, value in vars(self).items():
            if isinstance(value, Estimate):
                values |= {name: value.value, f"{name}_interval": [value.low, value.high]}
            elif name != "class_name":
                values[name] = list(value) if isinstance(value, tuple) else value
        return values


def least_effect(kind: str) -> float:
    """Return the least effect of a finding of a kind, at the lower end of its corrected interval."""
    return LEAST_EFFECT if kind == "place" else LEAST_WITHOUT_PLACE


def _tuples(value: Any) -> Any:
    """Return a value from JSON with tuples for lists."""
    if isinstance(value, dict):
        return {key: _tuples(each) for key, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@dataclass(frozen=True)
class FileSize:
    """A difference of file sizes that does not reach the model, but tells that files have different origins."""

    class_name: str
    median: float
    """Bytes."""
    others: float
    """Median of the other classes, in bytes."""


_CANDIDATES = ("findings", "tested", "merged")


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found, and what it tested without a finding."""

    model: str
    data: str
    split: str
    images: int
    """Images that were read."""
    skipped: tuple[str, ...]
    """Files that are not used, each with the reason."""
    findings: tuple[Tested, ...]
    """The strongest first."""
    tested: tuple[Tested, ...]
    """The candidates below the threshold, the strongest first."""
    untested: dict[str, str]
    """Classes that could not be tested, with the reason."""
    smallest_effect: float | None
    """Effect that a candidate of the class with the fewest images needs to be found; None if nothing was tested."""
    merged: tuple[Tested, ...] = ()
    """Candidates above the threshold that stand for the same as a finding."""
    method: str = ""
    """The attribution method of the maps."""
    seed: int = 0
    """Seed of the random choices."""
    products: str = ""
    """Type of the model's matrix products in the tests, such as "float32"."""
    file_sizes: tuple[FileSize, ...] = ()
    """Classes whose files clearly differ in size from the others'."""
    duplicates: tuple[Duplicates, ...] = ()
    """Images that are copies of one another, those in several splits first."""
    compared: dict[str, str] = field(default_factory=dict)
    """The other splits that were searched for copies, each with a digest of its images."""
    means: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    """Mean map of each class, `(GRID, GRID)`; its mean is 1."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = {name: value for name, value in vars(self).items() if name not in (*_CANDIDATES, "means")}
        return (
            values
            | {
                "skipped": list(self.skipped),
                "least_effect": LEAST_EFFECT,
                "least_effect_without_place": LEAST_WITHOUT_PLACE,
                "file_sizes": [vars(each) for each in self.file_sizes],
                "duplicates": [asdict(group) for group in self.duplicates],
            }
            | {name: [each.to_dict() for each in getattr(self, name)] for name in _CANDIDATES}
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Audit":
        """Return the audit of `to_dict`, with its mean maps under "means".

        Raises:
            KeyError, TypeError, ValueError: the values are not those of an audit.
        """
        plain = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        return cls(
            **plain
            | {
                **{name: tuple(map(Tested.from_dict, plain.get(name, ()))) for name in _CANDIDATES},
                "skipped": tuple(plain["skipped"]),
                "file_sizes": tuple(FileSize(**each) for each in plain["file_sizes"]),
                "duplicates": tuple(
                    Duplicates(group["exact"], tuple(DuplicateImage(**image) for image in group["images"]))
                    for group in plain["duplicates"]
                ),
                "means": {name: np.array(mean, np.float64) for name, mean in plain["means"].items()},
            }
        )
