"""The method to start with, by measurement: `docs/trust.md` has the tables and the commands.

Measured were the bundled models. On both data sets the relevance of patches is above every other map without signs by
SRG for Swin and Swin-MLP, and attention rollout x gradient above all that do without rules for our own layers; it leads
for the ViT. Of the methods that explain a layer HiResCAM at the last block's first norm is above Grad-CAM at the same
one. Of other architectures no trained weights come with the program: they keep Grad-CAM, which works on all of them.
"""

from torch import nn

from swin_core.attribution.attention import attention_blocks
from swin_core.errors import LayerError
from swin_core.models.swin import Swin
from swin_core.zoo.classifier import Classifier

__all__ = ["default_method"]

_SWINS = ("swin_core.models.swin.Swin", "timm.models.swin_transformer.SwinTransformer")
"""Swin of the first version, by name, since timm is imported only where a model of it is made."""


def default_method(classifier: Classifier, at_layer: bool = False) -> str:
    """The name of the method whose maps can be believed most for a model's architecture, as far as it was measured.

    Args:
        classifier: the model.
        at_layer: whether a target layer is to be explained, which a method that explains the pixels cannot.
    """
    model = classifier.model
    readable = _attention_of_swin(model)
    if at_layer:
        return "hirescam" if readable or isinstance(model, Swin) else "gradcam"
    # With a single stage, as a plain ViT has, what leaves it is as far from the patches as can be.
    if isinstance(model, Swin) and len(model.layers) > 1:
        return "patchrelevance"
    return "gradrollout" if readable else "gradcam"


def _attention_of_swin(model: nn.Module) -> bool:
    """Whether a model is a Swin of the first version whose attention can be read; one of MLPs has none."""
    if not any(f"{kind.__module__}.{kind.__qualname__}" in _SWINS for kind in type(model).__mro__):
        return False
    try:
        return bool(attention_blocks(model))
    except LayerError:
        return False
