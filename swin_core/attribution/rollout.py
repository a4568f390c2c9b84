"""Attention rollout (Abnar and Zuidema 2020) for ViTs and for shifted windows.

Rollout multiplies the attention matrices of all blocks, each mixed with the identity for the residual connection. In a
ViT these are N x N matrices; a Swin has no such matrix, since its tokens attend within windows that shift from block to
block and are merged between stages. But only one row of the product is needed, that of the pooled tokens, and a row can
be propagated backwards: each token holds a share of the attention and passes it on within its window through each
block; a merged token splits its share over the tokens it was merged from. Time and memory are linear in the number of
tokens, and the shares sum to 1 at every step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from swin_core.attribution.attention import AttentionBlock, Windows, attention_blocks, watch_attention
from swin_core.attribution.layers import Layout, find_layout, prefix_tokens
from swin_core.attribution.method import Method
from swin_core.attribution.targets import Attribution, TargetSelector, check_logits
from swin_core.errors import LayerError
from swin_core.models.windows import pad_to_windows
from swin_core.zoo.contract import inner_model

__all__ = [
    "Shares",
    "Transition",
    "attention_transition",
    "first_layout",
    "gradient_rollout",
    "on_grid",
    "plain_rollout",
    "walk_back",
]


def plain_rollout(model: nn.Module, x: Tensor, select: TargetSelector) -> Attribution:
    """Rollout of attention alone: the same map for every target.

    In each block a token keeps half of its share for the residual connection and passes on the other half by the mean
    attention A of the heads, `v <- v / 2 + v A / 2`. Attention to padded tokens is redistributed over the other tokens
    of the window in proportion.

    Returns:
        `(B, h, w)` for each target, or one map if there are none. A map sums to 1; in a ViT, to 1 minus the share of
        the class token.
    """
    transitions: list[Transition] = []

    def read(block: AttentionBlock, windows: Windows, attention: Tensor) -> None:
        transitions.append(attention_transition(windows, attention.mean(2)))

    with watch_attention(model, x, attention_blocks(model), read) as logits:
        check_logits(logits)
        targets = select(logits)
        layout = first_layout(model, x, transitions[0].windows)
        *_, last = walk_back(_pooled(model, x, transitions[-1].windows), transitions)
        maps = on_grid(last.residual + last.delta, layout)
    return Attribution(logits, targets, [[maps] for _ in targets] or [[maps]])


ROLLOUT = Method(
    "rollout",
    "Attention rollout",
    plain_rollout,
    "pixels",
    "one pass",
    "Multiplies the attention of all blocks; the same for every class (Abnar and Zuidema 2020).",
    by_class=False,
)


def gradient_rollout(model: nn.Module, x: Tensor, select: TargetSelector) -> Attribution:
    """Rollout of the attention that raises a class score, from one forward pass for all targets.

    In each block `v <- v (1 + W) / (1 + sum W)` (Chefer et al. 2021, eq. 5, with normalised rows).
    `W = max(0, mean over heads of A * dy/dA)`: weight that a token passes on; its residual connection has weight 1.

    The gradients are small compared with 1, so the residual connections dominate and are the same for each image. The
    map keeps only the change due to attention: received minus given.

    Returns:
        `(B, h, w)` for each target, non-negative, in units of the score.
    """
    blocks: list[tuple[Windows, Tensor]] = []

    def read(block: AttentionBlock, windows: Windows, attention: Tensor) -> None:
        blocks.append((windows, attention))

    with watch_attention(model, x, attention_blocks(model), read, graph=True) as logits:
        check_logits(logits)
        targets = select(logits.detach())
        layout = first_layout(model, x, blocks[0][0])
        pooled = _pooled(model, x, blocks[-1][0])
        maps = []
        for number, target in enumerate(targets):
            score = target.score(logits).sum()
            attentions = [attention for _, attention in blocks]
            gradients = torch.autograd.grad(score, attentions, retain_graph=number < len(targets) - 1)
            with torch.no_grad():
                transitions = [_gradient_transition(*block, g) for block, g in zip(blocks, gradients, strict=True)]
                *_, last = walk_back(pooled, transitions)
                maps.append([on_grid(last.delta, layout).relu()])
    return Attribution(logits.detach(), targets, maps)


GRADIENT_ROLLOUT = Method(
    "gradrollout",
    "Attention rollout x gradient",
    gradient_rollout,
    "pixels",
    "one pass",
    "Attention rollout that counts only attention that raises the class score (Chefer et al. 2021).",
)


@dataclass(frozen=True)
class Transition:
    """How the tokens of a block pass on their shares."""

    windows: Windows
    matrix: Tensor
    """`(B, windows, N, N)`, from query to key: the fraction that the query passes to the key; it keeps the rest."""


def attention_transition(windows: Windows, attention: Tensor) -> Transition:
    """Pass on half of each share by attention `(B, windows, N, N)`, nothing to padded tokens."""
    if windows.padded != windows.grid:
        attention = _without_padding(windows, attention)
        attention = attention / attention.sum(-1, keepdim=True).clamp_min(1e-12)
    return Transition(windows, attention / 2)


def _gradient_transition(windows: Windows, attention: Tensor, gradient: Tensor) -> Transition:
    """Pass on shares by the attention that raises the score; both tensors `(B, windows, heads, N, N)`."""
    weights = _without_padding(windows, (attention * gradient).mean(2).relu())
    return Transition(windows, weights / (1 + weights.sum(-1, keepdim=True)))


def _without_padding(windows: Windows, matrix: Tensor) -> Tensor:
    """A matrix `(B, windows, N, N)` with the columns of padded tokens set to 0."""
    if windows.padded == windows.grid:
        return matrix
    real = windows.cut(matrix.new_ones(1, *windows.grid, 1))
    return matrix * real.transpose(-2, -1)


@dataclass(frozen=True)
class Shares:
    """Shares of the tokens at one step of the walk, `(B, H, W, 1)` each; together they sum to 1."""

    residual: Tensor
    """Share carried by the residual connections and merging alone."""
    delta: Tensor
    """Change due to attention, kept separately because it can be too small to survive a sum."""


def walk_back(pooled: Tensor, transitions: Sequence[Transition]) -> Iterator[Shares]:
    """Propagate shares of attention from the last block back to the first.

    Args:
        pooled: shares of the last block's tokens in the pooled feature, `(B, H, W, 1)`.
        transitions: those of the blocks, from the first block to the last.

    Yields:
        The shares at the start and after each step: a block, or the merging between two stages.
    """
    shares = Shares(pooled, torch.zeros_like(pooled))
    yield shares
    for block in reversed(transitions):
        windows = block.windows
        if shares.residual.shape[1:3] != windows.grid:
            shares = Shares(_unmerge(shares.residual, windows), _unmerge(shares.delta, windows))
            yield shares
        total = windows.cut(shares.residual + shares.delta).view(*block.matrix.shape[:3], 1)
        change = block.matrix.transpose(-2, -1) @ total - block.matrix.sum(-1, keepdim=True) * total
        shares = Shares(shares.residual, shares.delta + windows.join(change.flatten(0, 1)))
        yield shares


def _unmerge(shares: Tensor, windows: Windows) -> Tensor:
    """Split the share of each merged token over the 2 x 2 it was merged from; padded tokens get nothing."""
    height, width = shares.shape[1:3]
    real = pad_to_windows(shares.new_ones(1, *windows.grid, 1), (2, 2))
    count = real.view(1, height, 2, width, 2, 1).sum((2, 4))
    split = (shares / count).repeat_interleave(2, 1).repeat_interleave(2, 2)
    return split[:, : windows.grid[0], : windows.grid[1]]


def _pooled(model: nn.Module, x: Tensor, windows: Windows) -> Tensor:
    """Shares of the last block's tokens in the pooled feature, `(B, H, W, 1)`."""
    model = inner_model(model)
    pooling = getattr(model, "global_pool", "avg")
    prefix = prefix_tokens(model) or 0
    shares = x.new_zeros(len(x), *windows.grid, 1)
    if pooling == "token":
        # A distilled model averages two heads, each with a token of its own.
        shares[:, :, : 2 if hasattr(model, "head_dist") else 1] = 1
    elif pooling == "avg":
        shares[:, :, 0 if getattr(model, "pool_include_prefix", False) else prefix :] = 1
    else:
        raise LayerError(
            f"{type(model).__name__} pools by {pooling!r}, which attention rollout does not support; "
            "choose a method without attention, such as gradcam."
        )
    return shares / shares.sum((1, 2, 3), keepdim=True)


def first_layout(model: nn.Module, x: Tensor, windows: Windows) -> Layout:
    """The layout of a block's tokens."""
    prefix = prefix_tokens(model)
    if prefix is None:
        return Layout("channels_last", windows.grid)
    tokens = torch.empty(len(x), windows.grid[1], 1, device="meta")
    return find_layout("blocks.0", inner_model(model), tokens, (x.shape[2], x.shape[3]), len(x), prefix)


def on_grid(shares: Tensor, layout: Layout) -> Tensor:
    """Shares `(B, H, W, 1)`, or `(B, 1, tokens, 1)` of a ViT, as `(B, h, w)`."""
    return layout.channels_first(shares if layout.kind == "channels_last" else shares[:, 0])[:, 0]
