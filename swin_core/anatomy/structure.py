"""What a model is built of, as far as it can be drawn: stages, blocks, windows, their shift and mask, bias tables."""

import re
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from swin_core.attribution.attention import Windows, attention_blocks
from swin_core.attribution.layers import Layout, find_layout, prefix_tokens, stage_layers
from swin_core.errors import LayerError
from swin_core.models.modes import evaluation_mode
from swin_core.models.swin import Swin
from swin_core.models.windows import Pair, fit_window, shift_regions, window_reverse
from swin_core.zoo.classifier import Classifier

__all__ = ["PADDING", "Anatomy", "Block", "Places", "anatomy", "bias_maps"]

PADDING = -1
"""In place of a token's number, where the map was padded."""


@dataclass(frozen=True, eq=False)
class Places:
    """Where the tokens of a map lie when a block cuts it into windows."""

    grid: Pair
    """Tokens of the map, `(H, W)`."""
    window: Pair
    """Tokens of a window."""
    tokens: np.ndarray
    """`(H', W')`: the number of the token, `row * W + column`, at each place of the rolled and padded map that windows
    are cut from; `PADDING` where there is none."""
    regions: np.ndarray
    """`(H', W')`: two places of one window attend to each other where these agree (figure 4 of the paper)."""

    @property
    def windows(self) -> np.ndarray:
        """`(H', W')`: the number of the window at each place, row by row."""
        rows, columns = (np.arange(size) // side for size, side in zip(self.tokens.shape, self.window, strict=True))
        return rows[:, None] * (self.tokens.shape[1] // self.window[1]) + columns

    def on_map(self, values: np.ndarray, missing: int = PADDING) -> np.ndarray:
        """Values of places, `(H', W')`, put back on the map: `(H, W)`."""
        out = np.full(self.grid[0] * self.grid[1], missing, values.dtype)
        real = self.tokens != PADDING
        out[self.tokens[real]] = values[real]
        return out.reshape(self.grid)

    def place_of(self, token: Pair) -> Pair:
        """The place of a token, given by its row and column on the map."""
        found = np.argwhere(self.tokens == token[0] * self.grid[1] + token[1])
        return int(found[0, 0]), int(found[0, 1])

    def window_of(self, token: Pair) -> tuple[slice, slice]:
        """The places of the token's window."""
        row, column = self.place_of(token)
        high, wide = self.window
        top, left = row // high * high, column // wide * wide
        return slice(top, top + high), slice(left, left + wide)

    def mask(self, token: Pair) -> np.ndarray:
        """`(N, N)` bool, from query to key, for the window of a token: True where the pair may attend."""
        regions = self.regions[self.window_of(token)].ravel()
        return np.equal.outer(regions, regions)

    def masks(self) -> list[tuple[np.ndarray, list[int]]]:
        """The masks that differ, as of `mask`, each with the numbers of the windows that have it."""
        found: dict[bytes, tuple[np.ndarray, list[int]]] = {}
        for number in range(int(self.windows.max()) + 1):
            regions = self.regions[self.windows == number]
            mask = np.equal.outer(regions, regions)
            found.setdefault(mask.tobytes(), (mask, []))[1].append(number)
        return list(found.values())


@dataclass(frozen=True)
class Block:
    """A block of a transformer."""

    name: str
    """As in `model.named_modules()`."""
    stage: int
    """Counted from 1."""
    number: int
    """In its stage, from 1."""
    grid: Pair
    """Tokens of its map."""
    channels: int
    """Width of a token."""
    heads: int
    mixer: Literal["attention", "mlp"]
    windows: Windows
    """How it cuts the map; a ViT's only window is the whole map."""
    windowed: bool
    """Whether it is a block of a Swin."""
    module: nn.Module = field(repr=False)

    @property
    def title(self) -> str:
        """What to call it."""
        return f"Stage {self.stage} block {self.number}" if self.windowed else f"Block {self.number}"

    @property
    def shifted(self) -> bool:
        """Whether its windows are shifted, on this map."""
        return any(self.windows.shift)

    def places(self) -> Places:
        """Where its tokens lie when it cuts its map into windows."""
        return _mlp_places(self.windows) if self.mixer == "mlp" else _attention_places(self.windows)


@dataclass(frozen=True)
class Anatomy:
    """What a model is built of."""

    kind: str
    """The model's class."""
    own: bool
    """Whether it is a Swin of this project, whose layers relevance propagation knows."""
    patch: Pair | None
    """Pixels of a patch, `(height, width)`; None of a model without."""
    blocks: tuple[Block, ...]
    """Blocks of a transformer whose windows or attention are known, from the first to the last."""
    stages: tuple[str, ...]
    """Layers at which the maps of the stages are taken."""

    @property
    def has_attention(self) -> bool:
        """Whether its attention can be read."""
        return any(block.mixer == "attention" for block in self.blocks)

    @property
    def has_windows(self) -> bool:
        """Whether it cuts its maps into windows, more than one or not."""
        return any(block.windowed for block in self.blocks)

    def token_size(self, block: Block) -> Pair:
        """Pixels of a token of that block, `(height, width)`."""
        assert self.patch is not None
        return self.patch[0] * 2 ** (block.stage - 1), self.patch[1] * 2 ** (block.stage - 1)


_known: "weakref.WeakKeyDictionary[nn.Module, dict[int, Anatomy]]" = weakref.WeakKeyDictionary()
"""Anatomies by model and image size: to find one costs two forward passes."""


def anatomy(classifier: Classifier) -> Anatomy:
    """What a model is built of, on an image of its own size; empty of what is not known of it."""
    by_size = _known.setdefault(classifier.model, {})
    if classifier.image_size not in by_size:
        by_size[classifier.image_size] = _find(classifier)
    return by_size[classifier.image_size]


def _find(classifier: Classifier) -> Anatomy:
    model = classifier.model
    stages: tuple[str, ...] = ()
    with suppress(LayerError):
        stages = stage_layers(classifier)
    heads: dict[str, int] = {}
    with suppress(LayerError):
        heads = {block.name: block.heads for block in attention_blocks(model)}
    if not heads and not isinstance(model, Swin):
        return Anatomy(type(model).__name__, False, None, (), stages)
    modules = {name: module for name, module in model.named_modules() if re.search(r"(^|\.)blocks\.\d+$", name)}
    shapes = _input_shapes(classifier, modules)
    blocks = tuple(_block(classifier, name, modules[name], shapes[name], heads.get(name)) for name in shapes)
    patch = (classifier.image_size // blocks[0].grid[0], classifier.image_size // blocks[0].grid[1])
    if blocks[0].windowed:  # whose last patches may be padded
        embedding: Any = model.patch_embed
        patch = tuple(embedding.proj.stride)
    return Anatomy(type(model).__name__, isinstance(model, Swin), patch, blocks, stages)


def _input_shapes(classifier: Classifier, modules: dict[str, nn.Module]) -> dict[str, torch.Size]:
    """The shape of what each module is given, in the order in which they are called."""
    shapes: dict[str, torch.Size] = {}

    def look(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            shapes[name] = inputs[0].shape

        return hook

    model, size = classifier.model, classifier.image_size
    with classifier.lock, evaluation_mode(model), torch.inference_mode():
        hooks = [module.register_forward_pre_hook(look(name)) for name, module in modules.items()]
        try:
            model(torch.zeros(1, len(classifier.mean), size, size, device=classifier.device, dtype=classifier.dtype))
        finally:
            for hook in hooks:
                hook.remove()
    return shapes


def _block(classifier: Classifier, name: str, module: Any, shape: torch.Size, heads: int | None) -> Block:
    model = classifier.model
    *_, before, number = [int(part) for part in re.findall(r"\d+", f"0.{name}")]
    windowed = len(shape) == 4
    mixer: Literal["attention", "mlp"] = "attention"
    if not windowed:
        size = (classifier.image_size, classifier.image_size)
        layout: Layout = find_layout(name, module, torch.empty(shape, device="meta"), size, 1, prefix_tokens(model))
        windows = Windows(layout.grid, layout.grid, (0, 0))
    elif heads is None:
        grid = (shape[1], shape[2])
        mlp = module.spatial_mlp
        windows = Windows(grid, (mlp.window, mlp.window), fit_window(grid, mlp.window, mlp.shift)[1])
        mixer, heads = "mlp", mlp.heads
    else:
        windows = next(block for block in attention_blocks(model) if block.name == name).windows(shape)
    return Block(
        name=name,
        stage=before + 1,
        number=number + 1,
        grid=windows.grid,
        channels=shape[-1],
        heads=heads or 1,
        mixer=mixer,
        windows=windows,
        windowed=windowed,
        module=module,
    )


def _attention_places(windows: Windows) -> Places:
    """As the block's own cut lays them, and with the regions that its mask was made from."""
    count = windows.grid[0] * windows.grid[1]
    numbered = torch.arange(1, count + 1).view(1, *windows.grid, 1)  # a padded place is 0, and so no token
    laid = window_reverse(windows.cut(numbered), windows.window, windows.padded)[0, :, :, 0]
    regions = shift_regions(windows.padded, windows.shift)
    return Places(windows.grid, windows.window, (laid - 1).numpy(), regions.numpy())


def _mlp_places(windows: Windows) -> Places:
    """Swin-MLP shifts by padding at the top and left: nothing is rolled, and nothing needs a mask."""
    (high, wide), (window_h, window_w) = windows.grid, windows.window
    top, left = (side - step if step else 0 for side, step in zip(windows.window, windows.shift, strict=True))
    height, width = (-(-(high + top) // window_h) * window_h, -(-(wide + left) // window_w) * window_w)
    tokens = np.full((height, width), PADDING)
    tokens[top : top + high, left : left + wide] = np.arange(high * wide).reshape(high, wide)
    return Places(windows.grid, windows.window, tokens, np.zeros_like(tokens))


def bias_maps(block: Block) -> np.ndarray | None:
    """The relative position bias of each head as a map around the token that looks (eq. 4); None without one.

    Returns:
        `(heads, 2 M_h - 1, 2 M_w - 1)` float32: at `[M_h - 1 + down, M_w - 1 + right]` what is added to the score of
        the token so many rows below and columns right of the one that looks.
    """
    attention: Any = getattr(block.module, "attn", None)
    with torch.no_grad():
        table = _bias_table(attention)
        if table is None:
            return None
        sides: Any = getattr(attention, "window_size", None) or (attention.window, attention.window)
        # The table counts from the key to the query, hence the turn.
        maps = table.detach().view(2 * sides[0] - 1, 2 * sides[1] - 1, -1).flip(0, 1).permute(2, 0, 1)
    return maps.float().cpu().numpy()


def _bias_table(attention: Any) -> Tensor | None:
    """`((2 M_h - 1) (2 M_w - 1), heads)`; Swin V2 computes it from the offsets, by a small network."""
    table: Tensor | None = getattr(attention, "relative_position_bias_table", None)
    if table is None and hasattr(attention, "cpb_mlp"):
        table = 16 * torch.sigmoid(attention.cpb_mlp(attention.relative_coords_table).flatten(0, -2))
    return table
