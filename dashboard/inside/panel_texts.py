"""The texts of the Inside page: each panel's title, sentence and equation, and what a model cannot show."""

from collections.abc import Sequence
from dataclasses import dataclass

from swin_core.anatomy.structure import Anatomy, Block, bias_maps


@dataclass(frozen=True)
class Panel:
    """The texts of one panel."""

    title: str
    sentence: str
    """What the panel shows, in plain words."""
    source: str
    """Section, equation or figure of the paper."""
    equation: tuple[str, ...]
    """LaTeX formulas, one per line."""
    symbols: str
    """The meaning of the symbols."""


PANELS = (
    Panel(
        "Windows",
        "The image is cut into patches, and each patch becomes a token. A token sees only the tokens of its window. "
        "Every second block shifts the windows, so that tokens of neighbouring windows meet.",
        "Section 3.2, eq. 3 and figure 4",
        (
            r"\hat z^{l} = \text{W-MSA}(\text{LN}(z^{l-1})) + z^{l-1}, \quad z^{l} = \text{MLP}(\text{LN}(\hat z^{l})) "
            r"+ \hat z^{l}",
            r"\hat z^{l+1} = \text{SW-MSA}(\text{LN}(z^{l})) + z^{l}, \quad z^{l+1} = "
            r"\text{MLP}(\text{LN}(\hat z^{l+1})) + \hat z^{l+1}",
        ),
        "W-MSA is attention within windows, SW-MSA within windows shifted by half a window. The map is rolled so that "
        "all windows have the same size; the mask separates tokens that the roll brings together from opposite sides "
        "of the image.",
    ),
    Panel(
        "Attention",
        "A token takes in information from other tokens: the brighter a token, the greater its weight. Each head has "
        "weights of its own.",
        "Section 3.2, eq. 4, and rollout by Abnar and Zuidema (2020)",
        (
            r"\text{Attention}(Q, K, V) = \text{SoftMax}\left(QK^{T}/\sqrt{d} + B\right) V",
            r"v \leftarrow \tfrac{1}{2} v + \tfrac{1}{2} v A",
        ),
        "Q, K and V are the window's queries, keys and values, d the width of a head, B the relative position bias. A "
        "row of the softmax, which sums to 1, is shown. Rollout follows the token's share v back through all earlier "
        "blocks to the patches; at each block half of it passes through the skip connection.",
    ),
    Panel(
        "Position bias",
        "Each head has learned to favour tokens by their offset from the query token, whatever the image shows: orange "
        "raises the score, blue lowers it.",
        "Section 3.2, eq. 4",
        (
            r"\text{Attention}(Q, K, V) = \text{SoftMax}\left(QK^{T}/\sqrt{d} + B\right) V",
            r"B \in \mathbb{R}^{M^2 \times M^2}, \quad \hat B \in \mathbb{R}^{(2M-1) \times (2M-1)}",
        ),
        "Two tokens of a window of side M are at most M - 1 apart along each axis, so the values of B come from a "
        "table of 2M - 1 by 2M - 1 for each head. That table is shown.",
    ),
    Panel(
        "Feature maps",
        "Each stage describes the image on a coarser grid with more channels. Above: the strength of the activations. "
        "Below: their kind; positions of similar colour are similar to the model.",
        "Section 3.1, figure 3",
        (
            r"\tfrac{H}{4} \times \tfrac{W}{4} \times C, \;\; \tfrac{H}{8} \times \tfrac{W}{8} \times 2C, \;\; "
            r"\tfrac{H}{16} \times \tfrac{W}{16} \times 4C, \;\; \tfrac{H}{32} \times \tfrac{W}{32} \times 8C",
        ),
        "The sizes of the paper's four stages, with patches of 4 pixels. Strength is the mean absolute value over "
        "channels; the colours are the first three principal components as red, green and blue.",
    ),
    Panel(
        "Relevance",
        "The logit of the class is propagated back layer by layer: orange positions raised it, blue ones lowered it. "
        "The sum of a stage is the logit minus the relevance absorbed by later biases.",
        "Layer-wise relevance propagation, Bach et al. (2015)",
        (r"\sum_i R_i = y_c - \text{biases}, \qquad R_i = \sum_j \frac{d_{ij}}{\sum_i d_{ij}} R_j",),
        "R is the relevance of a position, y the logit of class c, d the contributions by the gamma rule, which gives "
        "those with the sign of the sum a little more weight.",
    ),
    Panel(
        "Cost",
        "Doubling the image's side gives four times the tokens: global attention then costs up to sixteen times as "
        "much, attention within windows only four times.",
        "Section 3.2, eq. 1 and 2",
        (
            r"\Omega(\text{MSA}) = 4hwC^2 + 2(hw)^2C",
            r"\Omega(\text{W-MSA}) = 4hwC^2 + 2M^2hwC",
        ),
        "h and w are the height and width of the map in tokens, C its channels, M the side of a window. The equations "
        "count multiply-adds of the matrix products; PyTorch counts two FLOPs for each. If windows do not divide the "
        "map, h and w are those of the padded map.",
    ),
)


def available_panels(anatomy: Anatomy) -> list[Panel]:
    """Return the panels that a model has data for, in the order of the page."""
    available = {
        "Windows": bool(anatomy.blocks),
        "Attention": anatomy.has_attention,
        "Position bias": _has_bias(anatomy.blocks),
        "Feature maps": bool(anatomy.stages),
        "Relevance": anatomy.own,
        "Cost": anatomy.has_attention,
    }
    return [panel for panel in PANELS if available[panel.title]]


def _has_bias(blocks: Sequence[Block]) -> bool:
    """Whether a model's first block, and so all of them, has a relative position bias."""
    return bool(blocks) and bias_maps(blocks[0]) is not None


def describe_missing(anatomy: Anatomy) -> str:
    """Say which panels are missing for a model, and why; empty if none is."""
    if not anatomy.blocks:
        shown = "only the feature maps of its stages are shown" if anatomy.stages else "there is nothing to show"
        return (
            f"This page cannot read windows or attention of {anatomy.kind} (it reads our Swin, and timm's Swin, Swin "
            f"V2 and ViT), so {shown}."
        )
    if not anatomy.has_attention:
        return (
            "This Swin-MLP mixes the tokens of a window by a learned matrix instead of attention. It has no attention, "
            "mask or position bias to show, and equations 1 and 2 do not apply."
        )
    reasons = []
    if not anatomy.has_windows:
        reasons.append("windows, shift, mask and position bias, since each token sees all others")
    else:
        if not any(block.shifted for block in anatomy.blocks):
            reasons.append("shift and mask, since none of its blocks shifts its windows")
        if not _has_bias(anatomy.blocks):
            reasons.append("position bias, since it was built without one")
    if not anatomy.own:
        reasons.append("relevance, which is implemented only for this project's own Swin")
    return f"Not shown for this {anatomy.kind}: {'; '.join(reasons)}." if reasons else ""
