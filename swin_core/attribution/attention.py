"""Reading the attention of a transformer: which blocks have it, on which grid, and its matrices for an image.

For our Swin, both versions of timm's, and timm's ViTs. The matrices are taken from the model's own forward pass: where
it would call the fused kernel, which shows none, the same attention is computed step by step instead, for that thread
and that call alone.
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from swin_core.errors import LayerError
from swin_core.models.modes import evaluation_mode
from swin_core.models.windows import Pair, fit_window, pad_to_windows, window_partition, window_reverse

__all__ = ["AttentionBlock", "Windows", "attention_blocks", "watch_attention"]

_KNOWN = {
    "swin_core.models.swin.Swin": "swin_core.models.swin.WindowAttention",
    "timm.models.swin_transformer.SwinTransformer": "timm.models.swin_transformer.WindowAttention",
    "timm.models.swin_transformer_v2.SwinTransformerV2": "timm.models.swin_transformer_v2.WindowAttention",
    "timm.models.vision_transformer.VisionTransformer": "timm.layers.attention.Attention",
}
"""Models and the attention of their blocks. By name, since timm is imported only where a model of it is made."""


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

    def windows(self, shape: torch.Size) -> Windows:
        """How the block cuts its input, `(B, H, W, C)` or `(B, tokens, C)`; tokens are one window of a single row."""
        if len(shape) == 3:
            return Windows((1, shape[1]), (1, shape[1]), (0, 0))
        grid = (shape[1], shape[2])
        block: Any = self.module
        if hasattr(block, "shift_size"):
            return Windows(grid, tuple(block.window_size), tuple(block.shift_size), pads_first=False)
        return Windows(grid, *fit_window(grid, block.attn.window, block.attn.shift))


def attention_blocks(model: nn.Module) -> list[AttentionBlock]:
    """The blocks of a model whose attention can be read, from the first to the last.

    Raises:
        LayerError: another model than our Swin, timm's or a timm ViT, or one whose blocks mix their tokens by
            something else than plain attention.
    """
    kind = type(model).__name__
    wanted = next((attention for known, attention in _KNOWN.items() if _is(model, known)), None)
    if wanted is None:
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
        heads = attention.heads if hasattr(attention, "heads") else attention.num_heads
        found.append(AttentionBlock(name, heads, module))
    return found


def _is(module: object, path: str) -> bool:
    """`isinstance` by a class's full name."""
    return any(f"{kind.__module__}.{kind.__qualname__}" == path for kind in type(module).__mro__)


Read = Callable[[AttentionBlock, Windows, Tensor], None]
"""Takes a block, how it cut its input, and its attention `(B, windows, heads, N, N)`, from query to key."""


@contextmanager
def watch_attention(
    model: nn.Module, x: Tensor, blocks: Sequence[AttentionBlock], read: Read, graph: bool = False
) -> Iterator[Tensor]:
    """Run a model and look at some blocks' attention as it passes by.

    Modes, hooks and the thread's gradient mode are as before when the block is left, however it is left. Hooks belong
    to the module and not to a thread, so calls on one model must hold its `Classifier.lock`.

    Args:
        model: a model of `attention_blocks`.
        x: normalised images, `(B, channels, H, W)`.
        blocks: those to look at.
        read: called with each block's attention.
        graph: whether to keep a graph from the first of these attentions on; else none is kept at all.

    Yields:
        The logits.
    """
    watcher = _Watcher(read, graph)
    hooks = []
    # A tensor made in inference mode can have no gradient, and half precision would blur the gradients.
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        with evaluation_mode(model):
            try:
                hooks = [block.module.register_forward_pre_hook(watcher.entering(block)) for block in blocks]
                with watcher:
                    logits = model(x.clone() if x.is_inference() else x)
            finally:
                for hook in hooks:
                    hook.remove()
        yield logits


class _Watcher(TorchFunctionMode):
    """Sees each block's softmax, and computes step by step where the model calls the fused kernel."""

    def __init__(self, read: Read, graph: bool) -> None:
        super().__init__()
        self._read, self._graph = read, graph
        self._thread = threading.get_ident()
        self._inside: tuple[AttentionBlock, Windows] | None = None

    def entering(self, block: AttentionBlock) -> Callable[[nn.Module, Any], None]:
        """A hook for a block: what comes next is its attention, on the grid of its input."""

        def hook(module: nn.Module, inputs: Any) -> None:
            if threading.get_ident() == self._thread:
                self._inside = block, block.windows(inputs[0].shape)

        return hook

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every function of PyTorch that this thread calls meanwhile."""
        if self._inside is None:
            return call(*args, **(kwargs or {}))
        if call is F.scaled_dot_product_attention:
            return self._attend(*args, **(kwargs or {}))
        result = call(*args, **(kwargs or {}))
        return self._seen(result) if call in (Tensor.softmax, torch.softmax, F.softmax) else result

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **_: Any) -> Tensor:
        """`SoftMax(Q K^T / sqrt(d) + B) V` (Liu et al. 2021, eq. 4), with its defaults: no dropout, no causal mask."""
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        scores = scores if attn_mask is None else scores + attn_mask
        return self._seen(scores.softmax(-1)) @ v

    def _seen(self, attention: Tensor) -> Tensor:
        assert self._inside is not None
        block, windows = self._inside
        self._inside = None
        if self._graph and not attention.requires_grad:
            attention = attention.detach().requires_grad_()
            torch.set_grad_enabled(True)  # from here on the graph is kept; the caller's no_grad() ends it
        per_picture = windows.padded[0] * windows.padded[1] // (windows.window[0] * windows.window[1])
        attention = attention.unflatten(0, (-1, per_picture))
        self._read(block, windows, attention)
        return attention.flatten(0, 1)
