"""Attention rollout (Abnar and Zuidema 2020) for shifted windows, and the attention of one token.

Rollout multiplies the attention matrices of all blocks, each mixed with the identity for the shortcut. For a ViT that
is a product of N x N matrices. A Swin never has such a matrix: its tokens attend within windows, which shift from block
to block, and are merged between stages. But only one row of the product is wanted, that of the pooled tokens, and a row
can be walked backwards: every token holds a share of the attention, hands it on within its window through each block,
and a merged token splits it over the tokens that it was merged from. Time and memory are linear in the number of
tokens, and the shares sum to 1 at every step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from swin_core.attribution.attention import AttentionBlock, Windows, attention_blocks, watch_attention
from swin_core.attribution.layers import Layout, find_layout, prefix_tokens
from swin_core.attribution.targets import Attribution, TargetSelector, batch_targets, check_logits
from swin_core.errors import LayerError
from swin_core.models.windows import pad_to_windows

__all__ = [
    "Handed",
    "Shares",
    "first_layout",
    "gradient_rollout",
    "handed_on",
    "on_grid",
    "plain_rollout",
    "rollout",
    "token_attention",
    "walk_back",
]


def rollout(model: nn.Module, x: Tensor, targets: Tensor | None = None, against: Tensor | None = None) -> Tensor:
    """Attention rollout of each image of a batch, with or without a class.

    Calls on one model must hold its `Classifier.lock`.

    Args:
        model: our Swin, timm's, or a timm ViT.
        x: normalised images, `(B, channels, H, W)`.
        targets: the class of each image, `(B,)`; None for the attention alone, whatever the class.
        against: explain `logit[target] - logit[against]` instead of the logit, `(B,)`.

    Returns:
        `(B, h, w)` on the grid of the first block, non-negative. See `plain_rollout` and `gradient_rollout`.

    Raises:
        LayerError: another model, or one whose pooling has no shares.
        TargetError: a class outside the model's, or not one an image.
    """
    if targets is None:
        return plain_rollout(model, x, lambda logits: []).maps[0][0]
    return gradient_rollout(model, x, batch_targets(targets, against)).maps[0][0]


def plain_rollout(model: nn.Module, x: Tensor, select: TargetSelector) -> Attribution:
    """Where the pooled tokens' attention comes from, whatever the class: the same map for every target.

    In each block a token keeps half of its share for the shortcut and hands on the other half by its attention,
    averaged over heads, `v <- v / 2 + v A / 2`. What A gives to padded tokens goes to the window's others in
    proportion.

    Returns:
        `(B, h, w)` for each target, or once where there is none. A map sums to 1; a ViT's to less, by the share that
        stays with its class token.
    """
    blocks = attention_blocks(model)
    handed: list[Handed] = []

    def read(block: AttentionBlock, windows: Windows, attention: Tensor) -> None:
        handed.append(handed_on(windows, attention.mean(2)))

    with watch_attention(model, x, blocks, read) as logits:
        check_logits(logits)
        targets = select(logits)
        layout = first_layout(model, x, handed[0].windows)
        *_, last = walk_back(_start(model, len(x), handed[-1].windows, x), handed)
        found = on_grid(last.still + last.gained, layout)
    return Attribution(logits, targets, [[found] for _ in targets] or [[found]])


def gradient_rollout(model: nn.Module, x: Tensor, select: TargetSelector) -> Attribution:
    """Where attention that raises a class's score leads to: a map for each target, from one forward pass.

    `W = max(0, mean over heads of A * dy/dA)` is what a token hands on, beside the 1 of its shortcut (Chefer et al.
    2021, eq. 5, with rows that sum to 1): `v <- v (1 + W) / (1 + sum W)`.

    The gradients are small beside 1, and most of every share comes straight down the shortcuts, the same for each
    image. The map is what a cell has gained over that: how much more attention it is paid than it pays.

    Returns:
        `(B, h, w)` for each target, non-negative; its unit is that of the score.
    """
    blocks = attention_blocks(model)
    seen: list[tuple[Windows, Tensor]] = []

    def read(block: AttentionBlock, windows: Windows, attention: Tensor) -> None:
        seen.append((windows, attention))

    with watch_attention(model, x, blocks, read, graph=True) as logits:
        check_logits(logits)
        targets = select(logits.detach())
        layout = first_layout(model, x, seen[0][0])
        start = _start(model, len(x), seen[-1][0], x)
        maps = []
        for place, target in enumerate(targets):
            score = target.score(logits).sum()
            attentions = [attention for _, attention in seen]
            gradients = torch.autograd.grad(score, attentions, retain_graph=place < len(targets) - 1)
            with torch.no_grad():
                handed = [_raising(*one, gradient) for one, gradient in zip(seen, gradients, strict=True)]
                *_, last = walk_back(start, handed)
                maps.append([on_grid(last.gained, layout).relu()])
    return Attribution(logits.detach(), targets, maps)


@dataclass(frozen=True)
class Handed:
    """What the tokens of a block hand on."""

    windows: Windows
    matrix: Tensor
    """`(B, windows, N, N)`, from query to key: shares of what a token holds; the rest of 1 it keeps."""


def handed_on(windows: Windows, attention: Tensor) -> Handed:
    """What tokens hand on by plain attention, `(B, windows, N, N)`: half of what they hold, none of it to padding."""
    if windows.padded != windows.grid:
        attention = _among_real(windows, attention)
        attention = attention / attention.sum(-1, keepdim=True).clamp_min(1e-12)
    return Handed(windows, attention / 2)


def _raising(windows: Windows, attention: Tensor, gradient: Tensor) -> Handed:
    """What tokens hand on by attention that raises the score; both `(B, windows, heads, N, N)`."""
    raising = _among_real(windows, (attention * gradient).mean(2).relu())
    return Handed(windows, raising / (1 + raising.sum(-1, keepdim=True)))


def _among_real(windows: Windows, matrix: Tensor) -> Tensor:
    """A matrix `(B, windows, N, N)` without what it hands to padded tokens."""
    if windows.padded == windows.grid:
        return matrix
    real = windows.cut(matrix.new_ones(1, *windows.grid, 1))
    return matrix * real.transpose(-2, -1)


@dataclass(frozen=True)
class Shares:
    """What the tokens hold at one step of the walk, `(B, H, W, 1)` each; together they sum to 1."""

    still: Tensor
    """What they would hold if there were no attention, only shortcuts and merging."""
    gained: Tensor
    """What attention has brought or taken. On its own, since it can be too small to be told from a sum."""


def walk_back(start: Tensor, handed: Sequence[Handed]) -> Iterator[Shares]:
    """Walk shares of attention from the last block back to the first.

    Args:
        start: shares of the last block's tokens in what is pooled, `(B, H, W, 1)`.
        handed: what each block's tokens hand on, from the first block to the last.

    Yields:
        The shares at the start and behind every step: a block, or the merging between two stages.
    """
    shares = Shares(start, torch.zeros_like(start))
    yield shares
    for block in reversed(handed):
        windows = block.windows
        if shares.still.shape[1:3] != windows.grid:
            shares = Shares(_unmerge(shares.still, windows), _unmerge(shares.gained, windows))
            yield shares
        held = windows.cut(shares.still + shares.gained).view(*block.matrix.shape[:3], 1)
        change = block.matrix.transpose(-2, -1) @ held - block.matrix.sum(-1, keepdim=True) * held
        shares = Shares(shares.still, shares.gained + windows.join(change.flatten(0, 1)))
        yield shares


def _unmerge(shares: Tensor, windows: Windows) -> Tensor:
    """Split the shares of merged tokens over the two to four that each was merged from; padded ones get nothing."""
    high, wide = shares.shape[1:3]
    real = pad_to_windows(shares.new_ones(1, *windows.grid, 1), (2, 2))
    among = real.view(1, high, 2, wide, 2, 1).sum((2, 4))
    split = (shares / among).repeat_interleave(2, 1).repeat_interleave(2, 2)
    return split[:, : windows.grid[0], : windows.grid[1]]


def _start(model: nn.Module, batch: int, windows: Windows, x: Tensor) -> Tensor:
    """The shares of the last block's tokens in what the head is given, `(B, H, W, 1)`."""
    pooling = getattr(model, "global_pool", "avg")
    prefix = prefix_tokens(model) or 0
    shares = x.new_zeros(batch, *windows.grid, 1)
    if pooling == "token":
        # A distilled model takes the mean of two heads, each behind a token of its own.
        shares[:, :, : 2 if hasattr(model, "head_dist") else 1] = 1
    elif pooling == "avg":
        shares[:, :, 0 if getattr(model, "pool_include_prefix", False) else prefix :] = 1
    else:
        raise LayerError(
            f"{type(model).__name__} pools by {pooling!r}, which has no shares for rollout to start from; "
            "choose a method without attention, such as gradcam."
        )
    return shares / shares.sum((1, 2, 3), keepdim=True)


def first_layout(model: nn.Module, x: Tensor, windows: Windows) -> Layout:
    """Where the image's grid is among the tokens of a block."""
    prefix = prefix_tokens(model)
    if prefix is None:
        return Layout("channels_last", windows.grid)
    tokens = torch.empty(len(x), windows.grid[1], 1, device="meta")
    return find_layout("blocks.0", model, tokens, (x.shape[2], x.shape[3]), len(x), prefix)


def on_grid(shares: Tensor, layout: Layout) -> Tensor:
    """`(B, H, W, 1)`, or `(B, 1, tokens, 1)` of a ViT, as `(B, h, w)`."""
    return layout.channels_first(shares if layout.kind == "channels_last" else shares[:, 0])[:, 0]


def token_attention(
    model: nn.Module, x: Tensor, block: str, head: int | None = None, token: tuple[int, int] | None = None
) -> Tensor:
    """How much one token attends to each other token of its block.

    Calls on one model must hold its `Classifier.lock`.

    Args:
        model: our Swin, timm's, or a timm ViT.
        x: normalised images, `(B, channels, H, W)`.
        block: its name, one of `attention_blocks`.
        head: the head, counted from 0; None for the mean over heads.
        token: row and column on the block's grid; None for a ViT's class token.

    Returns:
        `(B, h, w)` on the block's grid, non-negative, 0 outside the token's window. It sums to 1, less what goes to
        padded tokens, or in a ViT to the class token.

    Raises:
        LayerError: another model, or a block, head or token that it does not have.
    """
    blocks = {one.name: one for one in attention_blocks(model)}
    if block not in blocks:
        raise LayerError(f"the model has no block {block[:80]!r} with attention; it has {', '.join(blocks)}.")
    if head is not None and not 0 <= head < blocks[block].heads:
        raise LayerError(f"block {block!r} has heads 0 to {blocks[block].heads - 1}, not {head}.")
    rows: list[tuple[Windows, Tensor]] = []

    def read(one: AttentionBlock, windows: Windows, attention: Tensor) -> None:
        rows.append((windows, attention.mean(2) if head is None else attention[:, :, head]))

    with watch_attention(model, x, [blocks[block]], read):
        pass
    (windows, matrix) = rows[0]
    layout = first_layout(model, x, windows)
    asked = x.new_zeros(1, *windows.grid, 1)
    if token is None:
        if not layout.prefix:
            raise LayerError(f"{type(model).__name__} has no class token; name a token by its row and column.")
        asked[0, 0, 0] = 1
    else:
        high, wide = layout.grid
        if not (0 <= token[0] < high and 0 <= token[1] < wide):
            raise LayerError(f"token {token} is outside the {high} x {wide} tokens of block {block!r}.")
        on_grid(asked, layout)[0, token[0], token[1]] = 1
    picked = windows.cut(asked).view(1, matrix.shape[1], 1, -1) @ matrix
    return on_grid(windows.join(picked.flatten(0, 1).transpose(1, 2)), layout)
