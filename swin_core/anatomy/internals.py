"""What goes on inside a model for one image: the maps of its stages, and the attention of any of its tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from swin_core.anatomy.structure import Anatomy, anatomy
from swin_core.attribution.attention import AttentionBlock, Windows, attention_blocks, watch_attention
from swin_core.attribution.layers import Layout, layer_arrangement, target_modules
from swin_core.attribution.lrp import relevance
from swin_core.attribution.rollout import Transition, attention_transition, first_layout, on_grid, walk_back
from swin_core.errors import LayerError
from swin_core.models.modes import evaluation_mode
from swin_core.models.windows import Pair
from swin_core.zoo.classifier import Classifier

__all__ = [
    "BlockAttention",
    "Inside",
    "StageMap",
    "StageRelevance",
    "block_attention",
    "look_inside",
    "principal_colours",
    "relevance_of_stages",
    "token_rollout",
]


@dataclass(frozen=True, eq=False)
class StageMap:
    """What a stage made of an image, as two small images."""

    layer: str
    channels: int
    magnitude: np.ndarray
    """`(h, w)` float32: the mean over channels of the activations' absolute value."""
    colours: np.ndarray
    """`(h, w, 3)` uint8: the first three principal components as red, green and blue."""
    explained: float
    """The share of the variance that these three hold, 0 to 1."""


@dataclass(frozen=True, eq=False)
class Inside:
    """What one forward pass through a model left behind."""

    view: np.ndarray
    """What the model saw, `(S, S, 3)` uint8."""
    logits: np.ndarray
    """`(classes,)`."""
    stages: tuple[StageMap, ...]
    transitions: tuple[Transition, ...] = field(repr=False)
    """What the tokens of each block with attention hand on, averaged over heads; for `token_rollout`."""


def look_inside(classifier: Classifier, image: Image.Image) -> Inside:
    """Run a model once and keep what can be shown of it. Modes and hooks are as before; the model's lock is held."""
    parts: Anatomy = anatomy(classifier)
    view = classifier.view(image)
    model = classifier.model
    maps: dict[str, Tensor] = {}
    transitions: list[Transition] = []

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        arrange = layer_arrangement(model, name, (view.shape[0], view.shape[1]))

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            maps[name] = arrange(output)[0].detach().float().cpu()

        return hook

    def read(block: AttentionBlock, windows: Windows, attention: Tensor) -> None:
        transitions.append(attention_transition(windows, attention.mean(2)))

    with classifier.lock:
        x = classifier.tensor(view)
        modules = target_modules(model, parts.stages) if parts.stages else {}
        hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
        try:
            if parts.has_attention:
                with watch_attention(model, x, attention_blocks(model), read) as logits:
                    pass
            else:
                with evaluation_mode(model), torch.inference_mode():
                    logits = model(x)
        finally:
            for hook in hooks:
                hook.remove()
    stages = tuple(_stage_map(name, maps[name].double().numpy()) for name in parts.stages)
    return Inside(view, logits[0].float().cpu().numpy(), stages, tuple(transitions))


def _stage_map(layer: str, values: np.ndarray) -> StageMap:
    colours, explained = principal_colours(values)
    return StageMap(layer, len(values), np.abs(values).mean(0).astype(np.float32), colours, explained)


def principal_colours(values: np.ndarray) -> tuple[np.ndarray, float]:
    """A map's first three principal components as red, green and blue: alike in colour is alike to the model.

    Each component is stretched to all of its colour. Its sign, which is arbitrary, is such that its greatest loading
    is positive, so that equal maps have equal colours.

    Args:
        values: `(C, h, w)`.

    Returns:
        Colours `(h, w, 3)` uint8, grey in a component that is not there; the share of the variance shown, 0 to 1.
    """
    channels, height, width = values.shape
    cells = values.reshape(channels, -1).T  # (h * w, C)
    cells = cells - cells.mean(0)
    # Eigenvectors of the smaller of the two matrices of products are many times faster than the decomposition itself.
    wide = channels > len(cells)
    variance, vectors = np.linalg.eigh(cells @ cells.T if wide else cells.T @ cells)
    variance, vectors = np.clip(variance[::-1], 0, None), vectors[:, ::-1]
    shown = [place for place in range(min(3, len(variance))) if variance[place] > 1e-12 * max(variance.sum(), 1e-30)]
    colours = np.full((height * width, 3), 0.5)
    for place in shown:
        loading = cells.T @ vectors[:, place] if wide else vectors[:, place]
        component = cells @ loading * np.sign(loading[np.abs(loading).argmax()])
        colours[:, place] = (component - component.min()) / (component.max() - component.min())
    explained = float(variance[shown].sum() / variance.sum()) if shown else 0.0
    return np.rint(255 * colours).astype(np.uint8).reshape(height, width, 3), explained


@dataclass(frozen=True, eq=False)
class BlockAttention:
    """The attention of all tokens and heads of one block, for one image."""

    windows: Windows
    layout: Layout
    """Where the image's grid is among the tokens."""
    matrix: Tensor = field(repr=False)
    """`(windows, heads, N, N)`, from query to key; each row sums to 1."""

    def _asked(self, token: Pair) -> Tensor:
        """1 at the token's place in its window and 0 elsewhere, `(1, windows, N)`."""
        high, wide = self.layout.grid
        if not (0 <= token[0] < high and 0 <= token[1] < wide):
            raise LayerError(f"token {token} is outside the {high} x {wide} tokens of the block.")
        return self.windows.cut(self.start(token)).view(1, self.matrix.shape[0], -1)

    def start(self, token: Pair) -> Tensor:
        """1 at the token and 0 elsewhere, on the block's own map: `(1, H, W, 1)`."""
        start = self.matrix.new_zeros(1, *self.windows.grid, 1)
        on_grid(start, self.layout)[0, token[0], token[1]] = 1
        return start

    def of(self, token: Pair) -> np.ndarray:
        """How much a token attends to each other one, head by head.

        Args:
            token: row and column on the block's grid.

        Returns:
            `(heads, h, w)` float32, 0 outside the token's window. Each head sums to 1, less what goes to padded
            tokens, or in a ViT to the class token.

        Raises:
            LayerError: a token outside the grid.
        """
        asked = self._asked(token)[0]  # (windows, N)
        rows = torch.einsum("wn,whnm->wmh", asked, self.matrix)
        maps = [on_grid(self.windows.join(rows[..., head : head + 1]), self.layout)[0] for head in range(rows.shape[2])]
        return torch.stack(maps).float().cpu().numpy()

    def within_window(self, token: Pair) -> np.ndarray:
        """The same as the block lays its tokens, `(heads, M_h, M_w)`, padded places included: each head sums to 1.

        A ViT's only window is its grid, without its class token.
        """
        if self.layout.kind == "tokens":
            return self.of(token)
        row = torch.einsum("wn,whnm->hm", self._asked(token)[0], self.matrix)
        return row.unflatten(1, self.windows.window).float().cpu().numpy()


def block_attention(classifier: Classifier, view: np.ndarray, name: str) -> BlockAttention:
    """The attention of one block for one image, from one forward pass that holds the model's lock.

    Args:
        classifier: our Swin, timm's, or a timm ViT.
        view: what the model sees, `(S, S, 3)` uint8.
        name: the block's, as in `anatomy`.

    Raises:
        LayerError: another model, or a block that it does not have.
    """
    model = classifier.model
    blocks = {block.name: block for block in attention_blocks(model)}
    if name not in blocks:
        raise LayerError(f"the model has no block {name[:80]!r} with attention; it has {', '.join(blocks)}.")
    seen: list[tuple[Windows, Tensor]] = []

    def read(block: AttentionBlock, windows: Windows, attention: Tensor) -> None:
        seen.append((windows, attention[0].clone()))

    with classifier.lock:
        x = classifier.tensor(view)
        with watch_attention(model, x, [blocks[name]], read):
            pass
    windows, matrix = seen[0]
    return BlockAttention(windows, first_layout(model, x, windows), matrix)


def token_rollout(
    transitions: Sequence[Transition], attention: BlockAttention, token: Pair, head: int | None = None
) -> np.ndarray:
    """Which patches a token has drawn on, through its own block and all before it (Abnar and Zuidema 2020).

    In its own block it attends as the chosen head does, in those before as the mean over their heads; every token keeps
    half of its share for the shortcut. See `rollout` for the walk through shift, padding and merging.

    Args:
        handed: those of the blocks before the token's own, from the first on, as in `Inside.handed`.
        attention: the token's own block.
        token: row and column on its grid.
        head: the head, counted from 0; None for the mean over heads.

    Returns:
        `(h, w)` float32 on the grid of the first block, non-negative. It sums to 1, in a ViT less what the class token
        holds.

    Raises:
        LayerError: a token outside the grid.
    """
    attention._asked(token)
    matrix = attention.matrix[None]
    own = attention_transition(attention.windows, matrix.mean(2) if head is None else matrix[:, :, head])
    with torch.no_grad():
        *_, last = walk_back(attention.start(token), [*transitions, own])
        shares = on_grid(last.residual + last.delta, _fitting(attention.layout, last.residual))
    return shares[0].float().cpu().numpy()


def _fitting(layout: Layout, shares: Tensor) -> Layout:
    """A ViT's layout, which is one for all its blocks; or that of a Swin's first block."""
    return layout if layout.kind == "tokens" else Layout("channels_last", (shares.shape[1], shares.shape[2]))


@dataclass(frozen=True, eq=False)
class StageRelevance:
    """What each stage hands back of a class's logit."""

    label: str
    logit: float
    maps: tuple[np.ndarray, ...]
    """Signed, at the pixels and then at each stage, `(h, w)` float32."""
    sums: tuple[float, ...]
    """Their sums: the logit, less what the biases behind that stage keep."""


def relevance_of_stages(classifier: Classifier, view: np.ndarray, target: int) -> StageRelevance:
    """Relevance of one class at the pixels and at each stage; see `relevance`, which needs no lock.

    Args:
        classifier: a Swin of this project.
        view: what the model sees, `(S, S, 3)` uint8.
        target: the class.

    Raises:
        LayerError: another model.
        TargetError: a class outside the model's.
    """
    found = relevance(classifier.model, classifier.tensor(view), torch.tensor([target], device=classifier.device))
    maps = tuple(one[0].float().cpu().numpy() for one in (found.pixels, *found.stages))
    sums = tuple(float(value) for value in found.sums[0])
    return StageRelevance(classifier.labels[target], float(found.logits[0]), maps, sums)
