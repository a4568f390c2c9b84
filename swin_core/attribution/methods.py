"""The table of attribution methods, collected from the files of this package, and the methods that are not offered."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from swin_core import attribution
from swin_core.attribution.method import INPUT, Method

__all__ = ["INPUT", "METHODS", "NOT_OFFERED", "Method"]

_READERS = {"dispatch", "explain", "methods", "stages", "what_if"}
"""Files that read this table, and so cannot be imported to fill it; they declare no methods."""


def _declared() -> Iterator[Method]:
    for module in iter_modules(attribution.__path__, f"{attribution.__name__}."):
        if module.name.rpartition(".")[2] not in _READERS:
            yield from (value for value in vars(import_module(module.name)).values() if isinstance(value, Method))


METHODS: dict[str, Method] = {
    method.name: method
    for method in sorted(_declared(), key=lambda method: (method.kind, method.cost != "one pass", method.title.lower()))
}
"""The methods by name, in the order in which they are offered: layer methods, then pixel methods; fast ones first."""

NOT_OFFERED: dict[str, str] = {
    "guidedbackprop": "Guided backprop changes the backward pass of ReLU; a transformer has no ReLU, so the result "
    "would be the input gradient.",
    "fullgrad": "FullGrad adds the gradients at the biases of convolutions and batch norms; a transformer has its "
    "biases in other layers, so the map would not add up to the score.",
    "randomcam": "RandomCAM has random weights; random maps are measured as a baseline of every map instead.",
    "refinecam": "RefineCAM multiplies maps that were each rescaled to their own maximum; choose several layers and "
    "fuse them instead.",
    "dff": "Deep feature factorization finds concepts in a layer, not evidence for a class.",
}
"""Methods of pytorch-grad-cam that `explain` does not offer, each with the reason."""
