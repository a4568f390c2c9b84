"""SwinLens core: a Swin Transformer, its weights, its training and its explanations.

A public name is imported when it is first used. A list of runs, or a launcher that has to take its devices before
another one does, must not wait for torch.
"""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swin_core.errors import SwinError
    from swin_core.explain import Explanation, explain
    from swin_core.images import read_image
    from swin_core.model import VARIANTS, Swin, SwinConfig, build
    from swin_core.weights import load_weights, save_weights
    from swin_core.zoo import Classifier, available, load

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
    "load",
    "load_weights",
    "read_image",
    "save_weights",
]

# Number GPUs in the order of the bus, as the driver does; every program comes by here before CUDA starts.
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")

_HOMES = {
    "SwinError": "errors",
    "Explanation": "explain",
    "explain": "explain",
    "read_image": "images",
    "VARIANTS": "model",
    "Swin": "model",
    "SwinConfig": "model",
    "build": "model",
    "load_weights": "weights",
    "save_weights": "weights",
    "Classifier": "zoo",
    "available": "zoo",
    "load": "zoo",
}


class _Package(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{self.__name__}.{_HOMES[name]}"), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # Whoever imports the sub-package `explain` would put it in the place of the function.
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
