"""Swin Transformer (Liu et al. 2021, arXiv 2103.14030), for images of any size.

State-dict keys are those of the authors' repository (`layers.0.blocks.1.attn.relative_position_bias_table`), without
its index and mask buffers. Between patch embedding and head, feature maps are channels last, `(B, H, W, C)`. With the
same weights the logits equal those of timm and torchvision.
"""

from collections import OrderedDict
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from swin_core.errors import ConfigError
from swin_core.models.config import SwinConfig
from swin_core.models.linear import Linear, linear_gelu
from swin_core.models.swin_mlp import WindowMLP
from swin_core.models.windows import (
    Pair,
    fit_window,
    pad_to_windows,
    relative_position_index,
    shift_mask,
    window_partition,
    window_reverse,
)

_MAX_CACHED = 2**24
"""Largest number of elements of an additive term to cache (64 MB); those of larger batches are computed each time."""

_FEW_SCORES = 2**21
"""Scores over all windows and heads up to which plain products are faster on a CPU than the fused kernel."""


class WindowAttention(nn.Module):
    """W-MSA and SW-MSA: self-attention within windows (paper, section 3.2, eq. 4).

    `Attention(Q, K, V) = SoftMax(Q K^T / sqrt(d) + B) V` for each window and head. B is looked up in a table of
    `(2M-1)^2` relative positions; the mask of the cyclic shift is added to it.
    """

    def __init__(self, dim: int, heads: int, window: int, shift: int, *, qkv_bias: bool, position_bias: bool):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = Linear(dim, dim)
        if position_bias:
            self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        else:
            self.register_parameter("relative_position_bias_table", None)
        self._cached: tuple[tuple[Any, ...], Tensor] | None = None
        """Last additive term, with the key that says what it was computed from."""

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens within windows: `(B, H, W, C)` to `(B, H, W, C)`."""
        batch, height, width, channels = x.shape
        window, shift = fit_window((height, width), self.window, self.shift)
        x = pad_to_windows(x, window)
        grid = (x.shape[1], x.shape[2])
        if any(shift):
            x = torch.roll(x, (-shift[0], -shift[1]), (1, 2))
        windows = window_partition(x, window)  # (B * windows, N, C)
        tokens = windows.shape[1]
        qkv = self.qkv(windows).view(-1, tokens, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B * windows, heads, N, d)
        mixed = self._attend(q, k, v, batch, grid, window, shift)
        mixed = mixed.transpose(1, 2).reshape(-1, tokens, channels)
        x = window_reverse(self.proj(mixed), window, grid)
        if any(shift):
            x = torch.roll(x, shift, (1, 2))
        return x[:, :height, :width] if grid != (height, width) else x

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, batch: int, grid: Pair, window: Pair, shift: Pair) -> Tensor:
        table = self.relative_position_bias_table
        trained = table is not None and table.requires_grad and torch.is_grad_enabled()
        few = q.device.type == "cpu" and q.shape[:-1].numel() * q.shape[-2] <= _FEW_SCORES
        # The fused kernel has no gradient for its additive term, and is slower where all scores fit into a CPU's cache.
        if trained:
            self._cached = None  # fused optimizers change the table without counting its version
        if trained or few:
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
            term = self.additive_term(grid, window, shift) if trained else self._cached_term(q, 1, grid, window, shift)
            scores = (scores.unflatten(0, (batch, -1)) + term).flatten(0, 1)
            return scores.softmax(-1) @ v
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self._cached_term(q, batch, grid, window, shift))

    def additive_term(self, grid: Pair, window: Pair, shift: Pair) -> Tensor:
        """Relative position bias plus shift mask, `(windows or 1, heads or 1, N, N)`; differentiable."""
        tokens = window[0] * window[1]
        device = self.proj.weight.device
        term = torch.zeros(1, 1, tokens, tokens, device=device)
        if self.relative_position_bias_table is not None:
            index = relative_position_index(window, self.window, device)
            bias = self.relative_position_bias_table[index.flatten()]
            term = bias.view(1, tokens, tokens, self.heads).permute(0, 3, 1, 2)
        mask = shift_mask(grid, window, shift, device)
        return term if mask is None else term + mask.to(term.dtype)[:, None]

    def _cached_term(self, q: Tensor, batch: int, grid: Pair, window: Pair, shift: Pair) -> Tensor:
        """The additive term as the fused kernel takes it, cached until the table or the grid changes."""
        table = self.relative_position_bias_table
        version: Any = (None, 0)
        if table is not None:
            # Changes to a tensor made in inference mode are not counted, so its term cannot be cached.
            version = object() if table.is_inference() else (table.data_ptr(), table._version)
        key = (batch if any(shift) else 1, grid, q.dtype, q.device, version)
        cached = self._cached  # read once: another thread may replace it
        if cached is not None and cached[0] == key:
            return cached[1]
        # A tensor made in inference mode could not take part in a later backward pass.
        with torch.inference_mode(False), torch.no_grad():
            term = self.additive_term(grid, window, shift).to(q.dtype)
            if any(shift):
                term = term.expand(-1, self.heads, -1, -1).repeat(batch, 1, 1, 1)
            term = term.contiguous()
        if term.numel() <= _MAX_CACHED:
            self._cached = key, term
        return term


class Mlp(nn.Module):
    """Two linear layers with GELU between them, applied to each token."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., C)` to `(..., C)`."""
        layers = (self.fc1, self.act)
        # Layers with hooks, or a replaced activation, must be called as modules.
        if type(self.act) is nn.GELU and not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers):
            return self.fc2(linear_gelu(x, self.fc1.weight, self.fc1.bias))
        return self.fc2(self.act(self.fc1(x)))


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): while training, drop a residual branch for some images of a batch."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate
        self.kept: Tensor | None = None
        """Images whose branch the next forward passes keep, `(B,)` bool; None draws them at each pass."""

    def forward(self, x: Tensor) -> Tensor:
        """`(B, ...)` to `(B, ...)`; kept branches are scaled so that the expectation is unchanged."""
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        kept = torch.rand(x.shape[0], device=x.device) < keep if self.kept is None else self.kept
        return x * kept.view(-1, *(1,) * (x.dim() - 1)).to(x.dtype).div_(keep)


class SwinBlock(nn.Module):
    """Swin block: a window mixer and an MLP, each after a LayerNorm and with a residual connection (eq. 3)."""

    def __init__(self, config: SwinConfig, stage: int, index: int, drop_path: float):
        super().__init__()
        dim, heads = config.width(stage), config.num_heads[stage]
        shift = config.window_size // 2 if index % 2 and config.shift else 0
        self.norm1 = nn.LayerNorm(dim)
        self.attn: WindowAttention | None = None
        self.spatial_mlp: WindowMLP | None = None
        if config.mixer == "attention":
            self.attn = WindowAttention(
                dim,
                heads,
                config.window_size,
                shift,
                qkv_bias=config.qkv_bias,
                position_bias=config.relative_position_bias,
            )
        else:
            self.spatial_mlp = WindowMLP(heads, config.window_size, shift)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, H, W, C)` to `(B, H, W, C)`."""
        mixer = self.spatial_mlp if self.attn is None else self.attn
        assert mixer is not None
        x = x + self.drop_path(mixer(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """Cut the image into patches and embed each linearly (section 3.1): a convolution, then LayerNorm."""

    def __init__(self, config: SwinConfig):
        super().__init__()
        self.patch = config.patch_size
        self.proj = nn.Conv2d(config.in_chans, config.embed_dim, self.patch, self.patch)
        self.norm = nn.LayerNorm(config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, channels, height, width)` in pixels to `(B, H, W, C)` in patches; incomplete patches are zero-padded."""
        height, width = x.shape[-2:]
        bottom, right = -height % self.patch, -width % self.patch
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom))
        x = self.proj(x.contiguous(memory_format=torch.channels_last))
        return self.norm(x.permute(0, 2, 3, 1).contiguous())


class PatchMerging(nn.Module):
    """Concatenate the tokens of each 2 x 2 neighbourhood and halve the width (section 3.1)."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, H, W, C)` to `(B, ceil(H / 2), ceil(W / 2), 2C)`; odd sides are zero-padded."""
        return self.reduction(self.norm(self.neighbourhoods(x)))

    def neighbourhoods(self, x: Tensor) -> Tensor:
        """Concatenate the four tokens of each neighbourhood, `(B, ceil(H / 2), ceil(W / 2), 4C)`."""
        x = pad_to_windows(x, (2, 2))
        batch, height, width, channels = x.shape
        # The order of the published weights: top left, bottom left, top right, bottom right.
        x = x.view(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 4, 2, 5)
        return x.reshape(batch, height // 2, width // 2, 4 * channels)


class Stage(nn.Module):
    """The blocks of one resolution, and the patch merging before the next stage."""

    def __init__(self, config: SwinConfig, stage: int, drop_path: list[float]):
        super().__init__()
        self.blocks = nn.ModuleList(SwinBlock(config, stage, i, rate) for i, rate in enumerate(drop_path))
        last = stage == len(config.depths) - 1
        self.downsample: PatchMerging | None = None if last else PatchMerging(config.width(stage))
        self.checkpointing = False
        """Whether backward passes recompute activations block by block (Chen et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the blocks, `(B, H, W, C)` to the same shape. Merging is separate: hooks see the stage's own map."""
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x

    def merge(self, x: Tensor) -> Tensor:
        """Return the input of the next stage; the last stage's map is unchanged."""
        return x if self.downsample is None else self.downsample(x)


class Swin(nn.Module):
    """Swin Transformer: patch embedding, stages of shifted-window blocks, norm, mean pooling and a linear head.

    Args:
        config: the shape; `build` takes the name of a variant instead.
    """

    def __init__(self, config: SwinConfig):
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.absolute_pos_embed: nn.Parameter | None = None
        if config.absolute_embedding:
            side = -(-config.image_size // config.patch_size)
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, side * side, config.embed_dim))
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        rates = torch.linspace(0, config.drop_path, sum(config.depths)).split(list(config.depths))
        self.layers = nn.ModuleList(Stage(config, i, rate.tolist()) for i, rate in enumerate(rates))
        width = config.width(len(config.depths) - 1)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.num_classes) if config.num_classes else nn.Identity()
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, channels, height, width)` to logits `(B, classes)`, or features `(B, C)` without a head."""
        return self.head(self.forward_features(x).mean((1, 2)))

    def forward_features(self, x: Tensor) -> Tensor:
        """`(B, channels, height, width)` to the map after the last norm, `(B, H, W, C)`, before pooling."""
        x = self._embed(x)
        for stage in self._stages():
            x = stage.merge(stage(x))
        return self.norm(x)

    def pyramid(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        """Return the map of each stage, for FPN and U-Net.

        Returns:
            `stage1` to `stage4`, each `(B, C_i, H_i, W_i)`, at strides 4, 8, 16 and 32 pixels (for patch 4).
        """
        x = self._embed(x)
        maps: OrderedDict[str, Tensor] = OrderedDict()
        for number, stage in enumerate(self._stages(), 1):
            x = stage(x)
            maps[f"stage{number}"] = x.permute(0, 3, 1, 2)
            x = stage.merge(x)
        return maps

    def set_checkpointing(self, on: bool) -> None:
        """Set whether backward passes recompute activations block by block instead of storing them."""
        for stage in self._stages():
            stage.checkpointing = on

    def _stages(self) -> list[Stage]:
        return cast(list[Stage], list(self.layers))

    def _embed(self, x: Tensor) -> Tensor:
        self.check_input(x)
        x = self.patch_embed(x)
        embedding = self.position_embedding((x.shape[1], x.shape[2]))
        return x if embedding is None else x + embedding

    def check_input(self, x: Tensor) -> None:
        """Raise `ConfigError` unless `x` is a batch of images with the model's channels."""
        if x.dim() != 4 or x.shape[1] != self.config.in_chans or 0 in x.shape:
            raise ConfigError(f"the model takes (B, {self.config.in_chans}, height, width) and got {tuple(x.shape)}.")

    def position_embedding(self, grid: Pair) -> Tensor | None:
        """Return the absolute position embedding, resized to a grid of patches, `(1, H, W, C)`, or None."""
        if self.absolute_pos_embed is None:
            return None
        side = round(self.absolute_pos_embed.shape[1] ** 0.5)
        embedding = self.absolute_pos_embed.view(1, side, side, -1)
        if grid == (side, side):
            return embedding
        resized = F.interpolate(embedding.permute(0, 3, 1, 2), grid, mode="bicubic", align_corners=False)
        return resized.permute(0, 2, 3, 1)


def _initialise(module: nn.Module) -> None:
    """Initialise as the authors do: truncated normal with standard deviation 0.02, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention) and module.relative_position_bias_table is not None:
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
