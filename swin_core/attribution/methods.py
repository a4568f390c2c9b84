"""The attribution methods: what each one is, what it costs, and which ones are not offered and why."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["INPUT", "METHODS", "METHOD_FACTS", "NOT_OFFERED", "Method"]

INPUT = "input"
"""In place of a target layer's name, for methods that explain the input itself."""


@dataclass(frozen=True)
class Method:
    """What there is to know about an attribution method before it is chosen."""

    name: str
    """As `explain` takes it."""
    title: str
    """As it is shown."""
    kind: Literal["layer", "pixels"]
    """Whether it explains a target layer's output, or the input itself, so that no layer is to be chosen."""
    cost: Literal["one pass", "many passes"]
    """Runs of the model for one image: about one, or dozens and more."""
    summary: str
    """One plain sentence, with the paper."""
    signed: bool = False
    """Whether its maps also say, below zero, what speaks against the class."""
    by_class: bool = True
    """Whether the map depends on the class at all; where it does not, there is no contrast either."""
    staged: bool = False
    """Whether a method that explains the input has a map at each stage of our Swin too, by the stage's name."""


_ALL = (
    Method(
        "gradcam",
        "Grad-CAM",
        "layer",
        "one pass",
        "Weights each channel by the mean of the class's gradient over the image (Selvaraju et al. 2017).",
    ),
    Method(
        "gradcamplusplus",
        "Grad-CAM++",
        "layer",
        "one pass",
        "Grad-CAM with more weight on places of high gradient, made for several objects (Chattopadhay et al. 2018).",
    ),
    Method(
        "hirescam",
        "HiResCAM",
        "layer",
        "one pass",
        "Activation times gradient place by place, without a mean between (Draelos and Carin 2020).",
    ),
    Method(
        "xgradcam",
        "XGrad-CAM",
        "layer",
        "one pass",
        "Grad-CAM whose mean weighs each place by its share of the channel's activation (Fu et al. 2020).",
    ),
    Method(
        "layercam",
        "LayerCAM",
        "layer",
        "one pass",
        "Activation times the positive part of the gradient place by place, good at early layers (Jiang et al. 2021).",
    ),
    Method(
        "elementwise",
        "Grad-CAM, element by element",
        "layer",
        "one pass",
        "Adds up only what is positive of activation times gradient (pytorch-grad-cam's GradCAMElementWise).",
    ),
    Method(
        "eigencam",
        "EigenCAM",
        "layer",
        "one pass",
        "The activations' strongest common pattern, whatever the class (Muhammad and Yeasin 2020).",
        by_class=False,
    ),
    Method(
        "eigengradcam",
        "Eigen-Grad-CAM",
        "layer",
        "one pass",
        "The strongest common pattern of activation times gradient (Muhammad and Yeasin 2020, with gradients).",
    ),
    Method(
        "segeigencam",
        "Seg-Eigen-CAM",
        "layer",
        "one pass",
        "The strongest common pattern of activation times the gradient's magnitude (Chung and Ying 2025).",
    ),
    Method(
        "kpcacam",
        "KPCA-CAM",
        "layer",
        "one pass",
        "EigenCAM with a kernel, for patterns that are not linear, whatever the class (Karmani et al. 2024).",
        by_class=False,
    ),
    Method(
        "fem",
        "FEM",
        "layer",
        "one pass",
        "Weights each channel by how often it is far above its mean, whatever the class (Fuad et al. 2020).",
        by_class=False,
    ),
    Method(
        "finercam",
        "Finer-CAM",
        "layer",
        "one pass",
        "Grad-CAM of the class less the three classes closest to it (Zhang et al. 2025).",
    ),
    Method(
        "shapleycam",
        "ShapleyCAM",
        "layer",
        "one pass",
        "Grad-CAM with a second-order term, from the Shapley value of a channel (Cai 2025).",
    ),
    Method(
        "scorecam",
        "Score-CAM",
        "layer",
        "many passes",
        "Weights each channel by the class's score when the image shows through it alone (Wang et al. 2020).",
    ),
    Method(
        "ablationcam",
        "Ablation-CAM",
        "layer",
        "many passes",
        "Weights each channel by how much the class's score falls without it (Desai and Ramaswamy 2020).",
    ),
    Method(
        "sess",
        "SESS",
        "layer",
        "many passes",
        "Grad-CAM of many crops at several scales, put together; its strengths are relative (Tursun et al. 2022).",
    ),
    Method(
        "gradient",
        "Input gradient",
        "pixels",
        "one pass",
        "Where a small change of a pixel changes the class's score most (Simonyan et al. 2014).",
    ),
    Method(
        "smoothgrad",
        "SmoothGrad",
        "pixels",
        "many passes",
        "The input gradient's mean over noisy copies of the image (Smilkov et al. 2017).",
    ),
    Method(
        "integrated",
        "Integrated gradients",
        "pixels",
        "many passes",
        "The gradient summed on the way from a grey image to this one; the map adds up to the change of the score "
        "(Sundararajan et al. 2017).",
        signed=True,
    ),
    Method(
        "rollout",
        "Attention rollout",
        "pixels",
        "one pass",
        "Where the attention of all blocks, one after the other, comes from, whatever the class (Abnar and Zuidema "
        "2020).",
        by_class=False,
    ),
    Method(
        "gradrollout",
        "Attention rollout x gradient",
        "pixels",
        "one pass",
        "Attention rollout that counts only what raises the class's score (Chefer et al. 2021).",
    ),
    Method(
        "relevance",
        "Relevance propagation",
        "pixels",
        "one pass",
        "Hands the class's score back from layer to layer down to the pixels, for and against (Bach et al. 2015, with "
        "the rules for transformers of Ali et al. 2022).",
        signed=True,
        staged=True,
    ),
    Method(
        "patchrelevance",
        "Relevance of patches",
        "pixels",
        "one pass",
        "How much of the class's score relevance propagation hands back to each patch as stage 1 leaves it, where that "
        "speaks for the class; for our Swin.",
    ),
)

METHOD_FACTS: dict[str, Method] = {method.name: method for method in _ALL}
"""What there is to know about each method, in the order in which they are offered."""

METHODS: dict[str, str] = {method.name: method.title for method in _ALL}
"""Attribution methods: the name that `explain` takes, and the name to show."""

NOT_OFFERED: dict[str, str] = {
    "guidedbackprop": "Guided backprop changes how ReLU hands gradients back; a transformer has no ReLU, so that "
    "nothing of it is left but the input gradient.",
    "fullgrad": "FullGrad adds the gradients at the biases of convolutions and batch norms; a transformer has its "
    "biases elsewhere, so that the sum which it stands for is not the score.",
    "randomcam": "RandomCAM is random weights: a baseline, which stands beside every map as part of its trust figure.",
    "refinecam": "RefineCAM multiplies maps that were each stretched to their own maximum; choose several layers and "
    "fuse them instead.",
    "dff": "Deep feature factorization finds concepts in a layer, not evidence for a class.",
}
"""Methods of pytorch-grad-cam that `explain` does not know, with the reason."""
