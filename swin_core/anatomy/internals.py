"""Internals of a model for one image: feature maps and relevance of its stages, and the attention of its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from swin_core.anatomy.structure import anatomy
from swin_core.attribution.attention import AttentionBlock, Windows, attention_blocks, watch_attention
from swin_core.attribution.layers import Layout, layer_arrangement, target_modules
from swin_core.attribution.lrp import relevance
from swin_core.attribution.rollout import Transition, attention_transition, first_layout, on_grid, walk_back
from swin_core.errors import LayerError
from swin_core.models.modes import evaluation_mode, watch_outputs
from swin_core.models.windows import Pair
from swin_core.zoo.classifier import Classifier


@dataclass(frozen=True, eq=False)
class StageMap:
    """Feature map of a stage, as two small images."""

    layer: str
    channels: int
    magnitude: np.ndarray
    """Mean absolute activation over channels, `(h, w)` float32."""
    colours: np.ndarray
    """The first three principal components as red, green and blue, `(h, w, 3)` uint8."""
    explained: float
    """Share of the variance in these three components, 0 to 1."""


@dataclass(frozen=True, eq=False)
class Internals:
    """What `read_internals` recorded in one forward pass."""

    view: np.ndarray
    """The image as the model sees it, `(S, S, 3)` uint8."""
    logits: np.ndarray
    """`(classes,)`."""
    stages: tuple[StageMap, ...]
    transitions: tuple[Transition, ...] = field(repr=False)
    """Mean attention of each block over its heads, for `token_rollout`."""


def read_internals(classifier: Classifier, image: Image.Image) -> Internals:
    """Run a model once and record its feature maps and attention.

    The model's lock is held; hooks are removed and modes restored on exit.
    """
    parts = anatomy(classifier)
    view = classifier.view(image)
    model = classifier.logits_model
    size = (view.shape[0], view.shape[1])
    arrange = {name: layer_arrangement(model, name, size) for name in parts.stages}
    maps: dict[str, Tensor] = {}
    transitions: list[Transition] = []

    def record(name: str, output: Tensor) -> None:
        maps[name] = arrange[name](output)[0].detach().float().cpu()

    def read(block: AttentionBlock, windows: Windows, attention: Tensor) -> None:
        transitions.append(attention_transition(windows, attention.mean(2)))

    modules = target_modules(model, parts.stages) if parts.stages else {}
    with classifier.lock, watch_outputs(modules, record):
        x = classifier.tensor(view)
        if parts.has_attention:
            with watch_attention(model, x, attention_blocks(model), read) as logits:
                pass
        else:
            with evaluation_mode(model), torch.no_grad():
                logits = model(x)
    stages = tuple(_stage_map(name, maps[name].double().numpy()) for name in parts.stages)
    return Internals(view, logits[0].float().cpu().numpy(), stages, tuple(transitions))


def _stage_map(layer: str, values: np.ndarray) -> StageMap:
    colours, explained = principal_colours(values)
    return StageMap(layer, len(values), np.abs(values).mean(0).astype(np.float32), colours, explained)


def principal_colours(values: np.ndarray) -> tuple[np.ndarray, float]:
    """The first three principal components of a feature map as red, green and blue: similar features, similar colours.

    Each component is stretched to 0 to 255. Its sign, which is arbitrary, is chosen so that the largest loading is
    positive; equal maps then have equal colours.

    Args:
        values: `(C, h, w)`.

    Returns:
        Colours `(h, w, 3)` uint8, grey where a component is missing; and the share of the variance shown, 0 to 1.
    """
    channels, height, width = values.shape
    cells = values.reshape(channels, -1).T  # (h * w, C)
    cells = cells - cells.mean(0)
    # Eigenvectors of the smaller Gram matrix are many times faster than a singular value decomposition.
    wide = channels > len(cells)
    variance, vectors = np.linalg.eigh(cells @ cells.T if wide else cells.T @ cells)
    variance, vectors = np.clip(variance[::-1], 0, None), vectors[:, ::-1]
    shown = [index for index in range(min(3, len(variance))) if variance[index] > 1e-12 * max(variance.sum(), 1e-30)]
    colours = np.full((height * width, 3), 0.5)
    for index in shown:
        loading = cells.T @ vectors[:, index] if wide else vectors[:, index]
        component = cells @ loading * np.sign(loading[np.abs(loading).argmax()])
        colours[:, index] = (component - component.min()) / (component.max() - component.min())
    explained = float(variance[shown].sum() / variance.sum()) if shown else 0.0
    return np.rint(255 * colours).astype(np.uint8).reshape(height, width, 3), explained


@dataclass(frozen=True, eq=False)
class BlockAttention:
    """Attention of all tokens and heads of one block, for one image."""

    windows: Windows
    layout: Layout
    """Layout of the block's tokens."""
    matrix: Tensor = field(repr=False)
    """`(windows, heads, N, N)`, from query to key; each row sums to 1."""

    def one_hot(self, token: Pair) -> Tensor:
        """1 at a token and 0 elsewhere, `(1, H, W, 1)`. Raises `LayerError` for a token outside the grid."""
        height, width = self.layout.grid
        if not (0 <= token[0] < height and 0 <= token[1] < width):
            raise LayerError(f"token {token} is outside the {height} x {width} tokens of the block.")
        one_hot = self.matrix.new_zeros(1, *self.windows.grid, 1)
        on_grid(one_hot, self.layout)[0, token[0], token[1]] = 1
        return one_hot

    def _rows(self, token: Pair) -> Tensor:
        """Attention of a token in its window, 0 in the other windows, `(windows, N, heads)`."""
        query = self.windows.cut(self.one_hot(token))[..., 0]  # (windows, N)
        return torch.einsum("wn,whnm->wmh", query, self.matrix)

    def of(self, token: Pair) -> np.ndarray:
        """Attention of a token to each token of the grid, by head.

        Args:
            token: row and column on the block's grid.

        Returns:
            `(heads, h, w)` float32, 0 outside the token's window. Each head sums to 1, minus the attention to padded
            tokens, or to a ViT's class token.

        Raises:
            LayerError: a token outside the grid.
        """
        rows = self._rows(token)
        maps = [on_grid(self.windows.join(rows[..., head : head + 1]), self.layout)[0] for head in range(rows.shape[2])]
        return torch.stack(maps).float().cpu().numpy()

    def within_window(self, token: Pair) -> np.ndarray:
        """Attention of a token within its window, `(heads, M_h, M_w)`, padding included: each head sums to 1.

        A ViT's only window is its grid, without the class token.
        """
        if self.layout.kind == "tokens":
            return self.of(token)
        return self._rows(token).sum(0).T.unflatten(1, self.windows.window).float().cpu().numpy()


def block_attention(classifier: Classifier, view: np.ndarray, name: str) -> BlockAttention:
    """Attention of one block for one image, from one forward pass under the model's lock.

    Args:
        classifier: our Swin, timm's, or a timm ViT.
        view: the image as the model sees it, `(S, S, 3)` uint8.
        name: name of the block, as in `anatomy`.

    Raises:
        LayerError: another model, or an unknown block.
    """
    model = classifier.model
    blocks = {block.name: block for block in attention_blocks(model)}
    if name not in blocks:
        raise LayerError(f"the model has no block {name[:80]!r} with attention; it has {', '.join(blocks)}.")
    attentions: list[tuple[Windows, Tensor]] = []

    def read(block: AttentionBlock, windows: Windows, attention: Tensor) -> None:
        attentions.append((windows, attention[0].clone()))

    with classifier.lock:
        x = classifier.tensor(view)
        with watch_attention(model, x, [blocks[name]], read):
            pass
    ((windows, matrix),) = attentions
    return BlockAttention(windows, first_layout(model, x, windows), matrix)


def token_rollout(
    transitions: Sequence[Transition], attention: BlockAttention, token: Pair, head: int | None = None
) -> np.ndarray:
    """Attention rollout of one token, through its own block and all before it (Abnar and Zuidema 2020).

    The token's own block attends as the chosen head does, the earlier blocks as the mean over their heads; each token
    keeps half of its share for the residual connection. See `rollout` for shift, padding and merging.

    Args:
        transitions: those of the blocks before the token's own, from the first on, as in `Internals.transitions`.
        attention: the token's own block.
        token: row and column on its grid.
        head: the head, counted from 0; None for the mean over heads.

    Returns:
        `(h, w)` float32 on the grid of the first block, non-negative. It sums to 1, in a ViT to 1 minus the share of
        the class token.

    Raises:
        LayerError: a token outside the grid.
    """
    matrix = attention.matrix[None]
    own = attention_transition(attention.windows, matrix.mean(2) if head is None else matrix[:, :, head])
    with torch.no_grad():
        *_, last = walk_back(attention.one_hot(token), [*transitions, own])
        shares = last.residual + last.delta
        # The first block of a ViT has the same layout as the token's own; a Swin's has a finer grid.
        layout = attention.layout
        if layout.kind != "tokens":
            layout = Layout("channels_last", (shares.shape[1], shares.shape[2]))
        return on_grid(shares, layout)[0].float().cpu().numpy()


@dataclass(frozen=True, eq=False)
class StageRelevance:
    """Relevance of one class at the pixels and at each stage."""

    label: str
    logit: float
    maps: tuple[np.ndarray, ...]
    """Signed maps of the pixels and then of each stage, `(h, w)` float32."""
    sums: tuple[float, ...]
    """Sums of the maps: the logit minus the relevance absorbed by later biases."""


def relevance_of_stages(classifier: Classifier, view: np.ndarray, target: int) -> StageRelevance:
    """Relevance of one class at the pixels and at each stage; no lock is needed.

    Args:
        classifier: a Swin of this project.
        view: the image as the model sees it, `(S, S, 3)` uint8.
        target: class index.

    Raises:
        LayerError: another model.
        TargetError: a class outside the model's classes.
    """
    result = relevance(
        classifier.logits_model, classifier.tensor(view), torch.tensor([target], device=classifier.device)
    )
    maps = tuple(values[0].float().cpu().numpy() for values in (result.pixels, *result.stages))
    return StageRelevance(classifier.labels[target], float(result.logits[0]), maps, tuple(result.sums[0].tolist()))
