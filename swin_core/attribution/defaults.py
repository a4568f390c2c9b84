"""The default attribution method of an architecture, chosen by measurement.

`docs/trust.md` has the tables and the commands. By SRG on both data sets, relevance at the patches is above every
other unsigned map for the bundled Swin and Swin-MLP. Attention rollout x gradient is the best of those that need no
rules for our own layers, and the best for the ViT. Of the methods that explain a layer, HiResCAM at the last block's
first norm is above Grad-CAM at the same layer. Other architectures, Swin V2 among them, were not measured and keep
Grad-CAM, which works on all of them.
"""

from torch import nn

from swin_core.attribution.attention import attention_blocks, is_instance
from swin_core.errors import LayerError
from swin_core.models.swin import Swin
from swin_core.zoo.classifier import Classifier

_SWINS = ("swin_core.models.swin.Swin", "timm.models.swin_transformer.SwinTransformer")
"""Class names of Swin V1; names, so that timm is not imported here."""


def default_method(classifier: Classifier, at_layer: bool = False) -> str:
    """Return the name of the method that was measured best for a model's architecture.

    Args:
        classifier: the model.
        at_layer: whether the method has to explain a target layer.
    """
    model = classifier.model
    if isinstance(model, Swin) and model.config.version == 2:
        return "gradcam"
    readable = _has_swin_attention(model)
    if at_layer:
        return "hirescam" if readable or isinstance(model, Swin) else "gradcam"
    # A single stage, as in a plain ViT, ends too far from the patches for relevance at its output to be sharp.
    if isinstance(model, Swin) and len(model.layers) > 1:
        return "patchrelevance"
    return "gradrollout" if readable else "gradcam"


def _has_swin_attention(model: nn.Module) -> bool:
    """Return whether a model is a Swin V1 with attention that can be read; Swin-MLP has no attention."""
    if not any(is_instance(model, name) for name in _SWINS):
        return False
    try:
        return bool(attention_blocks(model))
    except LayerError:
        return False
