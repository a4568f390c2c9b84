"""What a file declares about an attribution method that it implements.

Any file of this package may hold methods: `NAME = Method(...)` at its top level is enough to offer one everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from swin_core.attribution.targets import Attribution

__all__ = ["INPUT", "Method"]

INPUT = "input"
"""Layer name of a map of the input itself."""


@dataclass(frozen=True)
class Method:
    """An attribution method."""

    name: str
    """Key of the method, as `explain` takes it."""
    title: str
    """Name to show."""
    function: Callable[..., Attribution]
    """Computes the maps. Arguments: `(model, x, select, layers, reshape_transform)` if `kind` is "layer"; `(model, x,
    select)` if it is "pixels", and also `layers` if `staged`. `x`: normalised images, `(B, C, H, W)`. Called under the
    model's lock."""
    kind: Literal["layer", "pixels"]
    """Whether the method explains the output of a target layer or the input."""
    cost: Literal["one pass", "many passes"]
    """Forward passes for one image: about one, or dozens and more."""
    summary: str
    """One sentence, with the paper."""
    signed: bool = False
    """Whether negative values mark evidence against the class."""
    by_class: bool = True
    """Whether the map depends on the class; if not, no contrast class can be given."""
    staged: bool = False
    """Whether a method of kind "pixels" also has maps at the stages of our Swin, named as layers."""
