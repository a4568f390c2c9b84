"""SwinLens core: a Swin Transformer, its weights, its training and its explanations."""

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
