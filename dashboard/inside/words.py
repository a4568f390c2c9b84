"""The words of the Inside page: what each panel shows, the paper's equation, and what a model has not got."""

from collections.abc import Sequence
from dataclasses import dataclass

from swin_core.anatomy.structure import Anatomy, Block, bias_maps

__all__ = ["PANELS", "Panel", "missing", "panels_of"]


@dataclass(frozen=True)
class Panel:
    """One panel of the page."""

    title: str
    sentence: str
    """In plain words, for all that is shown."""
    where: str
    """Where the paper says it."""
    equation: tuple[str, ...]
    """LaTeX, one formula a line."""
    explained: str
    """What the letters stand for."""


PANELS = (
    Panel(
        "Windows",
        "The image is cut into patches; a token, which starts as one patch, only sees the tokens of its own window, "
        "and every second block shifts the windows so that neighbours meet.",
        "Section 3.2, eq. 3 and figure 4",
        (
            r"\hat z^{l} = \text{W-MSA}(\text{LN}(z^{l-1})) + z^{l-1}, \quad z^{l} = \text{MLP}(\text{LN}(\hat z^{l})) "
            r"+ \hat z^{l}",
            r"\hat z^{l+1} = \text{SW-MSA}(\text{LN}(z^{l})) + z^{l}, \quad z^{l+1} = "
            r"\text{MLP}(\text{LN}(\hat z^{l+1})) + \hat z^{l+1}",
        ),
        "W-MSA is attention within windows, SW-MSA within windows shifted by half a window. The map is rolled so that "
        "all windows stay whole; what the roll brings together from two sides of the image is masked.",
    ),
    Panel(
        "Attention",
        "A token mixes in what it finds in other tokens: bright ones count much, and each head asks its own question.",
        "Section 3.2, eq. 4, and rollout by Abnar and Zuidema (2020)",
        (
            r"\text{Attention}(Q, K, V) = \text{SoftMax}\left(QK^{T}/\sqrt{d} + B\right) V",
            r"v \leftarrow \tfrac{1}{2} v + \tfrac{1}{2} v A",
        ),
        "Q, K and V are the window's queries, keys and values, d the width of a head, B the relative position bias. A "
        "row of the softmax sums to 1: it is what is shown. Rolled out, the token's share v is walked back through all "
        "earlier blocks to the patches; half of it stays on the shortcut at each block.",
    ),
    Panel(
        "Position bias",
        "Each head has learned how much to favour a token by where it lies from the one that looks, whatever the "
        "image shows: orange is favoured, blue held back.",
        "Section 3.2, eq. 4",
        (
            r"\text{Attention}(Q, K, V) = \text{SoftMax}\left(QK^{T}/\sqrt{d} + B\right) V",
            r"B \in \mathbb{R}^{M^2 \times M^2}, \quad \hat B \in \mathbb{R}^{(2M-1) \times (2M-1)}",
        ),
        "Along each side two tokens of a window of M are at most M - 1 apart, so that the values of B are taken from a "
        "table of 2M - 1 by 2M - 1 for each head. That table is what is shown.",
    ),
    Panel(
        "Feature maps",
        "Each stage describes the image on a coarser grid with more channels: above how strong the answer of a place "
        "is, below what kind it is, since places of one colour are alike to the model.",
        "Section 3.1, figure 3",
        (
            r"\tfrac{H}{4} \times \tfrac{W}{4} \times C, \;\; \tfrac{H}{8} \times \tfrac{W}{8} \times 2C, \;\; "
            r"\tfrac{H}{16} \times \tfrac{W}{16} \times 4C, \;\; \tfrac{H}{32} \times \tfrac{W}{32} \times 8C",
        ),
        "Sizes of the paper's four stages, with patches of 4 pixels. Strength is the mean of the channels' absolute "
        "values; the colours are the first three principal components as red, green and blue.",
    ),
    Panel(
        "Relevance",
        "The score of the class is handed back layer by layer: orange places raised it, blue ones lowered it, and what "
        "is missing from the sum of a stage is kept by the biases behind it.",
        "Layer-wise relevance propagation, Bach et al. (2015)",
        (r"\sum_i R_i = y_c - \text{what biases keep}, \qquad R_i = \sum_j \frac{d_{ij}}{\sum_i d_{ij}} R_j",),
        "R is the relevance of a place, y the logit of class c, d the contributions by the gamma rule, in which those "
        "with the sign of the sum count a little more.",
    ),
    Panel(
        "Cost",
        "Twice the side is four times the tokens: attention of all to all then costs up to sixteen times as much, "
        "attention within windows costs four times as much.",
        "Section 3.2, eq. 1 and 2",
        (
            r"\Omega(\text{MSA}) = 4hwC^2 + 2(hw)^2C",
            r"\Omega(\text{W-MSA}) = 4hwC^2 + 2M^2hwC",
        ),
        "h and w are the tokens of the map, C their width, M the side of a window. The equations count multiply-adds "
        "of the matrix products; PyTorch counts two FLOPs for each. Where windows do not divide the map, h and w are "
        "those of the padded map.",
    ),
)
"""In the order of the page."""

_BY_TITLE = {panel.title: panel for panel in PANELS}


def panels_of(parts: Anatomy) -> list[Panel]:
    """The panels that a model can fill."""
    titles = []
    if parts.blocks:
        titles.append("Windows")
    if parts.has_attention:
        titles.append("Attention")
    if has_bias(parts.blocks):
        titles.append("Position bias")
    if parts.stages:
        titles.append("Feature maps")
    if parts.own:
        titles.append("Relevance")
    if parts.has_attention:
        titles.append("Cost")
    return [_BY_TITLE[title] for title in titles]


def has_bias(blocks: Sequence[Block]) -> bool:
    """Whether a model's first block has a relative position bias, and so all of them."""
    return bool(blocks) and bias_maps(blocks[0]) is not None


def missing(parts: Anatomy) -> str:
    """One line on what cannot be shown of a model, and why; empty if all can."""
    if not parts.blocks:
        shown = "only the feature maps of its stages are shown" if parts.stages else "there is nothing to show"
        return (
            f"{parts.kind} has no windows or attention that this page can read (it reads our Swin, and timm's Swin, "
            f"Swin V2 and ViT), so {shown}."
        )
    if not parts.has_attention:
        return (
            "This Swin mixes the tokens of a window by a learned matrix instead of attention: it has no attention, "
            "mask or position bias to show, and equations 1 and 2 are not about it."
        )
    reasons = []
    if not parts.has_windows:
        reasons.append("windows, shift, mask and position bias, since each of its tokens sees all others")
    else:
        if not any(block.shifted for block in parts.blocks):
            reasons.append("shift and mask, since none of its blocks shifts its windows")
        if not has_bias(parts.blocks):
            reasons.append("position bias, since it was built without one")
    if not parts.own:
        reasons.append("relevance, since its propagation knows this project's own Swin only")
    return f"Not shown for this {parts.kind}: {'; '.join(reasons)}." if reasons else ""
