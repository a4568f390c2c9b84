"""Reading the attention of a transformer: which blocks have it, on which grid, and its matrices for a picture.

For our Swin, timm's Swin (its first version) and timm's ViTs. The forward pass is the model's own, with its fused
kernel; the matrices are computed beside it from the queries and keys that pass by.
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from swin_core.errors import LayerError
from swin_core.model import Swin, WindowAttention
from swin_core.modes import evaluation_mode
from swin_core.windows import Pair, fit_window, pad_to_windows, window_partition, window_reverse

__all__ = ["AttentionBlock", "Windows", "attention_blocks", "attention_of", "split_heads", "watch_attention"]

_TIMM_SWIN = ("timm.models.swin_transformer.SwinTransformer", "timm.models.swin_transformer.WindowAttention")
_TIMM_VIT = ("timm.models.vision_transformer.VisionTransformer", "timm.layers.attention.Attention")


@dataclass(frozen=True)
class Windows:
    """How a block's grid of tokens is cut into windows."""

    grid: Pair
    """Tokens of the map, `(H, W)`, without padding."""
    window: Pair
    """Tokens of a window."""
    shift: Pair
    """Tokens that the map is rolled by."""
    pads_first: bool = True
    """Whether the map is padded before it is rolled; timm rolls it first."""

    @property
    def padded(self) -> Pair:
        """The grid with its padding."""
        return (
            -(-self.grid[0] // self.window[0]) * self.window[0],
            -(-self.grid[1] // self.window[1]) * self.window[1],
        )

    def cut(self, x: Tensor) -> Tensor:
        """`(B, H, W, C)` to `(B * windows, N, C)`; padded tokens are zero."""
        if self.pads_first:
            x = pad_to_windows(x, self.window)
        if any(self.shift):
            x = torch.roll(x, (-self.shift[0], -self.shift[1]), (1, 2))
        return window_partition(pad_to_windows(x, self.window), self.window)

    def join(self, windows: Tensor) -> Tensor:
        """The inverse of `cut`; what is in padded tokens is dropped."""
        x = window_reverse(windows, self.window, self.padded)
        if not self.pads_first:
            x = x[:, : self.grid[0], : self.grid[1]]
        if any(self.shift):
            x = torch.roll(x, self.shift, (1, 2))
        return x[:, : self.grid[0], : self.grid[1]]


@dataclass(frozen=True)
class AttentionBlock:
    """A block with attention, found in a model."""

    name: str
    """As in `model.named_modules()`."""
    heads: int
    module: nn.Module = field(repr=False)

    @property
    def attention(self) -> Any:
        """The module that has `qkv` and `proj`."""
        return self.module.attn

    @property
    def behind_mixing(self) -> nn.Module:
        """The module that takes the mixed values."""
        norm = getattr(self.attention, "norm", None)
        return norm if isinstance(norm, nn.Module) else self.attention.proj

    def windows(self, shape: torch.Size) -> Windows:
        """How the block cuts its input, `(B, H, W, C)` or `(B, tokens, C)`; tokens are one window of a single row."""
        if len(shape) == 3:
            return Windows((1, shape[1]), (1, shape[1]), (0, 0))
        grid = (shape[1], shape[2])
        block: Any = self.module
        if hasattr(block, "shift_size"):
            return Windows(grid, tuple(block.window_size), tuple(block.shift_size), pads_first=False)
        return Windows(grid, *fit_window(grid, block.attn.window, block.attn.shift))

    def additive_term(self, windows: Windows, device: torch.device) -> Tensor | None:
        """What is added to the scores: `(windows or 1, heads or 1, N, N)`, or None."""
        block: Any = self.module
        attention = self.attention
        if not hasattr(block, "shift_size"):
            if not isinstance(attention, WindowAttention):
                return None
            return attention.additive_term(windows.padded, windows.window, windows.shift)
        tokens = windows.window[0] * windows.window[1]
        bias = attention.relative_position_bias_table[attention.relative_position_index.flatten()]
        term = bias.view(1, tokens, tokens, self.heads).permute(0, 3, 1, 2)
        mask = block.attn_mask
        if getattr(block, "dynamic_mask", False):
            mask = block.get_attn_mask(torch.empty(1, *windows.padded, 1, dtype=bias.dtype, device=device))
        return term if mask is None else term + mask[:, None]


def attention_blocks(model: nn.Module) -> list[AttentionBlock]:
    """The blocks of a model whose attention can be read, from the first to the last.

    Raises:
        LayerError: another model than our Swin, timm's first Swin or a timm ViT, or one whose blocks mix their tokens
            by something else than plain attention.
    """
    kind = type(model).__name__
    if isinstance(model, Swin):
        wanted = "swin_core.model.WindowAttention"
    elif _is(model, _TIMM_SWIN[0]):
        wanted = _TIMM_SWIN[1]
    elif _is(model, _TIMM_VIT[0]):
        wanted = _TIMM_VIT[1]
    else:
        raise LayerError(
            f"the attention of {kind} cannot be read: only that of our Swin, timm's Swin and timm's ViTs; "
            "choose a method without attention, such as gradcam."
        )
    found = []
    for name, module in model.named_modules():
        if not re.search(r"(^|\.)blocks\.\d+$", name):
            continue
        attention: Any = getattr(module, "attn", None)
        if not _is(attention, wanted):
            mixer = "no attention" if attention is None else f"a {type(attention).__name__}"
            raise LayerError(f"block {name!r} of {kind} has {mixer}, which cannot be read; choose gradcam instead.")
        heads = attention.heads if isinstance(model, Swin) else attention.num_heads
        found.append(AttentionBlock(name, heads, module))
    return found


def _is(module: object, path: str) -> bool:
    """`isinstance` by a class's full name, since timm is imported only where a model of it is made."""
    return any(f"{kind.__module__}.{kind.__qualname__}" == path for kind in type(module).__mro__)


@torch.no_grad()
def attention_of(block: AttentionBlock, windows: Windows, qkv: Tensor) -> Tensor:
    """The attention matrices of a block: `SoftMax(Q K^T / sqrt(d) + B)` (Liu et al. 2021, eq. 4), without a graph.

    Args:
        block: the block.
        windows: how it cut its input.
        qkv: the output of its `qkv`, `(B * windows, N, 3 * C)`.

    Returns:
        `(B, windows, heads, N, N)`: query, then key; each row sums to 1, padded tokens included.
    """
    q, k, _ = split_heads(qkv, block.heads)
    attention = block.attention
    if isinstance(getattr(attention, "q_norm", None), nn.Module):
        q, k = attention.q_norm(q), attention.k_norm(k)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    per_picture = (windows.padded[0] // windows.window[0]) * (windows.padded[1] // windows.window[1])
    scores = scores.unflatten(0, (-1, per_picture))
    term = block.additive_term(windows, qkv.device)
    return (scores if term is None else scores.add_(term.contiguous())).softmax(-1)


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, each `(B * windows, heads, N, d)`."""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v


@contextmanager
def watch_attention(
    model: nn.Module,
    x: Tensor,
    blocks: Sequence[AttentionBlock],
    read: Callable[[AttentionBlock, Windows, Tensor], None],
    mixed: Callable[[Tensor], None] | None = None,
) -> Iterator[Tensor]:
    """Run a model and look at some blocks' attention as it passes by.

    Modes, hooks and the thread's gradient mode are as before when the block is left, however it is left. Hooks belong
    to the module and not to a thread, so calls on one model must hold its `Classifier.lock`.

    Args:
        model: a model of `attention_blocks`.
        x: normalised pictures, `(B, channels, H, W)`.
        blocks: those to look at.
        read: called for each block with how it cut its input and the output of its `qkv`, without a graph.
        mixed: called for each block with the values that its attention mixed, `(B * windows, N, C)`. The graph then
            starts at the first of them; None keeps no graph at all.

    Yields:
        The logits.
    """
    watcher = _Watcher(read, mixed)
    hooks = []
    # A tensor made in inference mode can have no gradient, and half precision would blur the gradients.
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        with evaluation_mode(model):
            try:
                for block in blocks:
                    hooks.append(block.module.register_forward_pre_hook(watcher.entering(block)))
                    hooks.append(block.attention.qkv.register_forward_hook(watcher.projected(block)))
                    if mixed is not None:
                        hooks.append(block.behind_mixing.register_forward_pre_hook(watcher.leaving))
                logits = model(x.clone() if x.is_inference() else x)
            finally:
                for hook in hooks:
                    hook.remove()
        yield logits


class _Watcher:
    """The hooks of one call of `watch_attention`; they do nothing in a forward pass of another thread."""

    def __init__(
        self, read: Callable[[AttentionBlock, Windows, Tensor], None], mixed: Callable[[Tensor], None] | None
    ) -> None:
        self._read, self._mixed = read, mixed
        self._thread = threading.get_ident()
        self._shapes: dict[str, torch.Size] = {}

    def entering(self, block: AttentionBlock) -> Callable[[nn.Module, Any], None]:
        """Before a block: its input tells the grid."""

        def hook(module: nn.Module, inputs: Any) -> None:
            if threading.get_ident() == self._thread:
                self._shapes[block.name] = inputs[0].shape

        return hook

    def projected(self, block: AttentionBlock) -> Callable[[nn.Module, Any, Tensor], None]:
        """Behind its `qkv`."""

        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if threading.get_ident() == self._thread:
                with torch.no_grad():
                    self._read(block, block.windows(self._shapes[block.name]), output.detach())

        return hook

    def leaving(self, module: nn.Module, inputs: Any) -> Any:
        """Before what takes the mixed values: the first of them is where the graph starts."""
        if self._mixed is None or threading.get_ident() != self._thread:
            return None
        values = inputs[0]
        if not values.requires_grad:
            values = values.detach().requires_grad_()
            torch.set_grad_enabled(True)  # from here on the graph is kept; the no_grad() of the caller ends it
        self._mixed(values)
        return (values,)
