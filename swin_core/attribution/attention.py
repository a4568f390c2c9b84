"""The attention of a transformer: its blocks, their windows, and their attention matrices for an image.

Supported are our Swin, both versions of timm's, and timm's ViTs. The matrices come from the model's own forward pass:
where it calls the fused kernel, which returns none, the same attention is computed step by step, in this thread only.
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from swin_core.errors import LayerError
from swin_core.models.modes import evaluation_mode
from swin_core.models.windows import Pair, fit_window, pad_to_windows, padded_size, window_partition, window_reverse
from swin_core.zoo.contract import inner_model

__all__ = ["AttentionBlock", "Windows", "attention_blocks", "is_instance", "watch_attention"]

_SUPPORTED = {
    "swin_core.models.swin.Swin": "swin_core.models.window_attention.WindowAttention",
    "timm.models.swin_transformer.SwinTransformer": "timm.models.swin_transformer.WindowAttention",
    "timm.models.swin_transformer_v2.SwinTransformerV2": "timm.models.swin_transformer_v2.WindowAttention",
    "timm.models.vision_transformer.VisionTransformer": "timm.layers.attention.Attention",
}
"""Models and the attention module of their blocks, by name, so that timm is not imported here."""


@dataclass(frozen=True)
class Windows:
    """How a block partitions its grid of tokens into windows."""

    grid: Pair
    """Tokens of the grid, `(H, W)`, without padding."""
    window: Pair
    """Tokens of a window."""
    shift: Pair
    """Tokens by which the grid is rolled."""
    pads_first: bool = True
    """Whether the grid is padded before it is rolled; timm rolls it first."""

    @property
    def padded(self) -> Pair:
        """The grid with its padding."""
        return padded_size(self.grid, self.window)

    def cut(self, x: Tensor) -> Tensor:
        """Partition `(B, H, W, C)` into `(B * windows, N, C)`; padded tokens are zero."""
        if self.pads_first:
            x = pad_to_windows(x, self.window)
        if any(self.shift):
            x = torch.roll(x, (-self.shift[0], -self.shift[1]), (1, 2))
        return window_partition(pad_to_windows(x, self.window), self.window)

    def join(self, windows: Tensor) -> Tensor:
        """Invert `cut`; padded tokens are dropped."""
        x = window_reverse(windows, self.window, self.padded)
        if not self.pads_first:
            x = x[:, : self.grid[0], : self.grid[1]]
        if any(self.shift):
            x = torch.roll(x, self.shift, (1, 2))
        return x[:, : self.grid[0], : self.grid[1]]


@dataclass(frozen=True)
class AttentionBlock:
    """A block of a model that computes attention."""

    name: str
    """As in `model.named_modules()`."""
    heads: int
    module: nn.Module = field(repr=False)

    def windows(self, shape: torch.Size) -> Windows:
        """The windows for an input of shape `(B, H, W, C)`; `(B, tokens, C)` is one window with a single row."""
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
        LayerError: a model that is not supported, or one with a block without plain attention.
    """
    model = inner_model(model)
    kind = type(model).__name__
    attention_class = next((attention for known, attention in _SUPPORTED.items() if is_instance(model, known)), None)
    if attention_class is None:
        raise LayerError(
            f"the attention of {kind} cannot be read: only that of our Swin, timm's Swin and timm's ViTs; "
            "choose a method without attention, such as gradcam."
        )
    blocks = []
    for name, module in model.named_modules():
        if not re.search(r"(^|\.)blocks\.\d+$", name):
            continue
        attention: Any = getattr(module, "attn", None)
        if not is_instance(attention, attention_class):
            mixer = "no attention" if attention is None else f"a {type(attention).__name__}"
            raise LayerError(f"block {name!r} of {kind} has {mixer}, which cannot be read; choose gradcam instead.")
        heads = attention.heads if hasattr(attention, "heads") else attention.num_heads
        blocks.append(AttentionBlock(name, heads, module))
    return blocks


def is_instance(module: object, path: str) -> bool:
    """`isinstance` by the full name of a class, so that its package is not imported."""
    return any(f"{kind.__module__}.{kind.__qualname__}" == path for kind in type(module).__mro__)


Read = Callable[[AttentionBlock, Windows, Tensor], None]
"""Receives a block, its windows and its attention `(B, windows, heads, N, N)`, from query to key."""


@contextmanager
def watch_attention(
    model: nn.Module, x: Tensor, blocks: Sequence[AttentionBlock], read: Read, graph: bool = False
) -> Iterator[Tensor]:
    """Run a model and pass the attention of some blocks to `read`.

    On exit, with or without an error, hooks are removed and training and gradient modes are restored. Hooks are
    visible to all threads, so calls on one model must hold its `Classifier.lock`.

    Args:
        model: a model that `attention_blocks` supports.
        x: normalised images, `(B, channels, H, W)`.
        blocks: those to read.
        read: called with each block's attention.
        graph: keep a graph from the first of these attentions to the logits; by default there is none.

    Yields:
        The logits.
    """
    watcher = _Watcher(read, graph)
    # Inference tensors cannot have gradients, and autocast would round the gradients to half precision.
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        with evaluation_mode(model), ExitStack() as hooks:
            for block in blocks:
                hooks.enter_context(block.module.register_forward_pre_hook(watcher.entering(block)))
            with watcher:
                logits = model(x.clone() if x.is_inference() else x)
        yield logits


class _Watcher(TorchFunctionMode):
    """Intercepts the softmax of each block, and replaces the fused attention kernel by separate steps."""

    def __init__(self, read: Read, graph: bool) -> None:
        super().__init__()
        self._read, self._graph = read, graph
        self._thread = threading.get_ident()
        self._current: tuple[AttentionBlock, Windows] | None = None
        """The block that runs, until its attention has been read."""

    def entering(self, block: AttentionBlock) -> Callable[[nn.Module, Any], None]:
        """A hook that marks a block as the one that runs."""

        def hook(module: nn.Module, inputs: Any) -> None:
            if threading.get_ident() == self._thread:
                self._current = block, block.windows(inputs[0].shape)

        return hook

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a PyTorch function that this thread calls."""
        if self._current is None:
            return call(*args, **(kwargs or {}))
        if call is F.scaled_dot_product_attention:
            return self._attend(*args, **(kwargs or {}))
        result = call(*args, **(kwargs or {}))
        return self._pass_on(result) if call in (Tensor.softmax, torch.softmax, F.softmax) else result

    def _attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        *,
        scale: float | None = None,
        **_: Any,
    ) -> Tensor:
        """`SoftMax(Q K^T / sqrt(d) + B) V` (Liu et al. 2021, eq. 4), without dropout or causal mask."""
        scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)
        scores = scores if attn_mask is None else scores + attn_mask
        return self._pass_on(scores.softmax(-1)) @ v

    def _pass_on(self, attention: Tensor) -> Tensor:
        """Call `read` with the attention of the current block, and return the attention to use."""
        assert self._current is not None
        block, windows = self._current
        self._current = None
        if self._graph and not attention.requires_grad:
            attention = attention.detach().requires_grad_()
            torch.set_grad_enabled(True)  # the graph starts here; the no_grad() of the caller restores the mode
        count = windows.padded[0] * windows.padded[1] // (windows.window[0] * windows.window[1])
        # The fused kernel takes windows and heads in one dimension.
        separate = attention.reshape(-1, count, block.heads, *attention.shape[-2:])
        self._read(block, windows, separate)
        return separate.reshape(attention.shape)
