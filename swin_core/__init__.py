"""SwinLens: Swin Transformers, their weights, training and explanations.

Public names are imported on first use, so that `import swin_core` and programs that only list runs do not load torch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from swin_core.system.renderers import RENDERERS as _RENDERERS

if TYPE_CHECKING:
    from swin_core.attribution.explain import explain, explain_batch, explaining
    from swin_core.attribution.explanation import Explanation
    from swin_core.attribution.what_if import what_if
    from swin_core.errors import SwinError
    from swin_core.figures.grid import Grid
    from swin_core.images.read import read_image
    from swin_core.models.config import VARIANTS, SwinConfig
    from swin_core.models.swin import Swin
    from swin_core.weights.files import load_weights, save_weights
    from swin_core.zoo.build import build
    from swin_core.zoo.classifier import Classifier
    from swin_core.zoo.load import available, load

__all__ = [
    "VARIANTS",
    "Classifier",
    "Explanation",
    "Swin",
    "SwinConfig",
    "SwinError",
    "available",
    "build",
    "explain",
    "explain_batch",
    "explaining",
    "load",
    "load_weights",
    "read_image",
    "save_weights",
    "what_if",
]

# Number GPUs by bus, as the driver does. Every program imports this package before it starts CUDA.
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"

_HOMES = {
    "SwinError": "errors",
    "Explanation": "attribution.explanation",
    "explain": "attribution.explain",
    "explain_batch": "attribution.explain",
    "explaining": "attribution.explain",
    "what_if": "attribution.what_if",
    "read_image": "images.read",
    "VARIANTS": "models.config",
    "SwinConfig": "models.config",
    "Swin": "models.swin",
    "build": "zoo.build",
    "load_weights": "weights.files",
    "save_weights": "weights.files",
    "Classifier": "zoo.classifier",
    "available": "zoo.load",
    "load": "zoo.load",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def _explanation_html(explanation: "Explanation") -> str:
    from swin_core.figures.viewer_payload import explanation_html

    return explanation_html(explanation)


def _grid_html(grid: "Grid") -> str:
    from swin_core.figures.viewer_payload import viewer_html

    return viewer_html(grid)


_RENDERERS.update(Explanation=_explanation_html, Grid=_grid_html)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
