"""Structure of a model as the Inside page draws it: stages, blocks, windows, shifts, masks and bias tables."""

import re
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from swin_core.attribution.attention import Windows, attention_blocks
from swin_core.attribution.layers import Layout, find_layout, prefix_tokens, stage_layers
from swin_core.errors import LayerError
from swin_core.models.modes import evaluation_mode, watch_outputs
from swin_core.models.swin import Swin
from swin_core.models.window_attention import WindowAttention
from swin_core.models.windows import Pair, fit_window, shift_regions, window_reverse
from swin_core.zoo.classifier import Classifier

PADDING = -1
"""Token number of padding."""


@dataclass(frozen=True, eq=False)
class WindowPositions:
    """Positions of a block's tokens on the rolled and padded map that is partitioned into windows."""

    grid: Pair
    """Tokens of the block, `(H, W)`."""
    window: Pair
    """Tokens of a window."""
    tokens: np.ndarray
    """Token number `row * W + column` at each position of the map, `(H', W')`; `PADDING` where there is none."""
    regions: np.ndarray
    """Region of each position, `(H', W')`: positions of one window attend to each other if their regions are equal
    (figure 4 of Liu et al. 2021)."""

    @property
    def windows(self) -> np.ndarray:
        """Window number of each position, `(H', W')`, row by row."""
        rows, columns = (np.arange(size) // side for size, side in zip(self.tokens.shape, self.window, strict=True))
        return rows[:, None] * (self.tokens.shape[1] // self.window[1]) + columns

    def on_map(self, values: np.ndarray) -> np.ndarray:
        """Put values of positions, `(H', W')`, back on the grid of tokens, `(H, W)`."""
        out = np.full(self.grid[0] * self.grid[1], PADDING, values.dtype)
        real = self.tokens != PADDING
        out[self.tokens[real]] = values[real]
        return out.reshape(self.grid)

    def position_of(self, token: Pair) -> Pair:
        """Position of the token at a row and column of the grid."""
        ((row, column),) = np.argwhere(self.tokens == token[0] * self.grid[1] + token[1])
        return int(row), int(column)

    def window_of(self, token: Pair) -> tuple[slice, slice]:
        """Positions of the window that holds a token."""
        row, column = self.position_of(token)
        height, width = self.window
        top, left = row // height * height, column // width * width
        return slice(top, top + height), slice(left, left + width)

    def mask(self, token: Pair) -> np.ndarray:
        """Attention mask of the window of a token, `(N, N)` bool, from query to key: True where allowed."""
        regions = self.regions[self.window_of(token)].ravel()
        return np.equal.outer(regions, regions)

    def masks(self) -> list[tuple[np.ndarray, list[int]]]:
        """The distinct masks, as from `mask`, each with the numbers of its windows."""
        masks: dict[bytes, tuple[np.ndarray, list[int]]] = {}
        for number in range(int(self.windows.max()) + 1):
            regions = self.regions[self.windows == number]
            mask = np.equal.outer(regions, regions)
            masks.setdefault(mask.tobytes(), (mask, []))[1].append(number)
        return list(masks.values())


@dataclass(frozen=True)
class Block:
    """A block of a transformer."""

    name: str
    """As in `model.named_modules()`."""
    stage: int
    """Stage, from 1."""
    number: int
    """Number in the stage, from 1."""
    grid: Pair
    """Tokens, `(H, W)`."""
    channels: int
    """Channels of a token."""
    heads: int
    mixer: Literal["attention", "mlp"]
    windows: Windows
    """Its partition into windows; a ViT has one window, the whole grid."""
    windowed: bool
    """Whether it belongs to a Swin."""
    module: nn.Module = field(repr=False)

    @property
    def title(self) -> str:
        """Name to show."""
        return f"Stage {self.stage} block {self.number}" if self.windowed else f"Block {self.number}"

    @property
    def shifted(self) -> bool:
        """Whether its windows are shifted on this grid."""
        return any(self.windows.shift)

    def positions(self) -> WindowPositions:
        """Positions of its tokens in the windows."""
        return _mlp_positions(self.windows) if self.mixer == "mlp" else _attention_positions(self.windows)


@dataclass(frozen=True)
class Anatomy:
    """Structure of a model."""

    kind: str
    """Class name of the model."""
    own: bool
    """Whether it is a Swin of this project, which relevance propagation supports."""
    patch: Pair | None
    """Pixels of a patch, `(height, width)`; None for a model without patches."""
    blocks: tuple[Block, ...]
    """Blocks whose windows or attention can be read, from the first to the last."""
    stages: tuple[str, ...]
    """The last layer of each stage."""

    @property
    def has_attention(self) -> bool:
        """Whether its attention can be read."""
        return any(block.mixer == "attention" for block in self.blocks)

    @property
    def has_windows(self) -> bool:
        """Whether it partitions its tokens into windows, even if only one."""
        return any(block.windowed for block in self.blocks)

    def token_size(self, block: Block) -> Pair:
        """Pixels of a token of a block, `(height, width)`."""
        assert self.patch is not None
        return self.patch[0] * 2 ** (block.stage - 1), self.patch[1] * 2 ** (block.stage - 1)


_known: "weakref.WeakKeyDictionary[nn.Module, dict[int, Anatomy]]" = weakref.WeakKeyDictionary()
"""Cache of `anatomy` by model and image size: each takes two forward passes."""


def anatomy(classifier: Classifier) -> Anatomy:
    """The structure of a model at the classifier's image size; parts that cannot be read are left empty."""
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
    shapes = _token_shapes(classifier, modules)
    blocks = tuple(_block(classifier, name, modules[name], shapes[name], heads.get(name)) for name in shapes)
    patch = (classifier.image_size // blocks[0].grid[0], classifier.image_size // blocks[0].grid[1])
    if blocks[0].windowed:  # its last patches may be padded
        embedding: Any = model.patch_embed
        patch = tuple(embedding.proj.stride)
    return Anatomy(type(model).__name__, isinstance(model, Swin), patch, blocks, stages)


def _token_shapes(classifier: Classifier, modules: dict[str, nn.Module]) -> dict[str, torch.Size]:
    """Shape of the tokens of each block, in the order of the calls; input and output have the same."""
    shapes: dict[str, torch.Size] = {}

    def record(name: str, output: Tensor) -> None:
        shapes[name] = output.shape

    model, size = classifier.model, classifier.image_size
    with classifier.lock, evaluation_mode(model), torch.no_grad(), watch_outputs(modules, record):
        classifier.logits_model(
            torch.zeros(1, len(classifier.mean), size, size, device=classifier.device, dtype=classifier.dtype)
        )
    return shapes


def _block(classifier: Classifier, name: str, module: Any, shape: torch.Size, heads: int | None) -> Block:
    model = classifier.model
    *_, stage, number = [int(part) for part in re.findall(r"\d+", f"0.{name}")]
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
        stage=stage + 1,
        number=number + 1,
        grid=windows.grid,
        channels=shape[-1],
        heads=heads or 1,
        mixer=mixer,
        windows=windows,
        windowed=windowed,
        module=module,
    )


def _attention_positions(windows: Windows) -> WindowPositions:
    """Positions from the block's own partition, and the regions of its mask."""
    count = windows.grid[0] * windows.grid[1]
    numbers = torch.arange(1, count + 1).view(1, *windows.grid, 1)  # from 1, since padding is 0
    tokens = window_reverse(windows.cut(numbers), windows.window, windows.padded)[0, :, :, 0] - 1
    regions = shift_regions(windows.padded, windows.shift)
    return WindowPositions(windows.grid, windows.window, tokens.numpy(), regions.numpy())


def _mlp_positions(windows: Windows) -> WindowPositions:
    """Swin-MLP shifts by padding at the top and left; it rolls nothing and needs no mask."""
    rows, columns = windows.grid
    top, left = (side - step if step else 0 for side, step in zip(windows.window, windows.shift, strict=True))
    padded = [-(-used // side) * side for used, side in zip((rows + top, columns + left), windows.window, strict=True)]
    tokens = np.full(padded, PADDING)
    tokens[top : top + rows, left : left + columns] = np.arange(rows * columns).reshape(rows, columns)
    return WindowPositions(windows.grid, windows.window, tokens, np.zeros_like(tokens))


def bias_maps(block: Block) -> np.ndarray | None:
    """Relative position bias of each head as a map around the query (Liu et al. 2021, eq. 4); None without a bias.

    Returns:
        `(heads, 2 M_h - 1, 2 M_w - 1)` float32: `[M_h - 1 + down, M_w - 1 + right]` is added to the score of the key
        that is `down` rows below and `right` columns to the right of the query.
    """
    attention: Any = getattr(block.module, "attn", None)
    with torch.no_grad():
        table = _bias_table(attention)
        if table is None:
            return None
        sides: Any = getattr(attention, "window_size", None) or (attention.window, attention.window)
        # The table is indexed by query minus key, so it is flipped.
        maps = table.detach().view(2 * sides[0] - 1, 2 * sides[1] - 1, -1).flip(0, 1).permute(2, 0, 1)
    return maps.float().cpu().numpy()


def _bias_table(attention: Any) -> Tensor | None:
    """The table `((2 M_h - 1) (2 M_w - 1), heads)`; Swin V2 computes it from the offsets by a small network."""
    if isinstance(attention, WindowAttention):
        return attention.bias_table()
    table: Tensor | None = getattr(attention, "relative_position_bias_table", None)
    if table is None and hasattr(attention, "cpb_mlp"):
        table = 16 * torch.sigmoid(attention.cpb_mlp(attention.relative_coords_table).flatten(0, -2))
    return table
