"""Swin Transformer (Liu et al. 2021, arXiv 2103.14030) and Swin V2 (arXiv 2111.09883), for images of any size.

State-dict keys are those of the authors' repository (`layers.0.blocks.1.attn.relative_position_bias_table`), without
its index and mask buffers. Between patch embedding and head, feature maps are channels last, `(B, H, W, C)`. With the
same weights the logits equal those of timm and torchvision.
"""

from collections import OrderedDict
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from swin_core.errors import ConfigError
from swin_core.models.config import SwinConfig
from swin_core.models.linear import Linear, linear_gelu
from swin_core.models.swin_mlp import WindowMLP
from swin_core.models.swin_v2 import CosineWindowAttention
from swin_core.models.window_attention import WindowAttention
from swin_core.models.windows import Pair, pad_to_windows, sizes_vary


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
    """Swin block: a window mixer and an MLP, each with a LayerNorm and a residual connection.

    The norms come before mixer and MLP (Liu et al. 2021, eq. 3); in Swin V2 after them, so that activations do not grow
    from block to block (Liu et al. 2022, section 3.2).
    """

    def __init__(self, config: SwinConfig, stage: int, index: int, drop_path: float):
        super().__init__()
        dim, heads, window = config.width(stage), config.num_heads[stage], config.window_size
        shift = window // 2 if index % 2 and config.shift else 0
        self.post_norm = config.version == 2
        self.norm1 = nn.LayerNorm(dim)
        self.attn: WindowAttention | None = None
        self.spatial_mlp: WindowMLP | None = None
        biases = {"qkv_bias": config.qkv_bias, "position_bias": config.relative_position_bias}
        if config.mixer == "mlp":
            self.spatial_mlp = WindowMLP(heads, window, shift)
        elif config.version == 2:
            self.attn = CosineWindowAttention(dim, heads, window, shift, config.trained_windows()[stage], **biases)
        else:
            self.attn = WindowAttention(dim, heads, window, shift, **biases)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        if self.post_norm:  # each block starts as the identity, as in the authors' code
            nn.init.zeros_(self.norm1.weight)
            nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, H, W, C)` to `(B, H, W, C)`."""
        mixer = self.spatial_mlp if self.attn is None else self.attn
        assert mixer is not None
        if self.post_norm:
            x = x + self.drop_path(self.norm1(mixer(x)))
            return x + self.drop_path(self.norm2(self.mlp(x)))
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
        x = pad_to_windows(x.permute(0, 2, 3, 1), (self.patch, self.patch)).permute(0, 3, 1, 2)
        x = self.proj(x.contiguous(memory_format=torch.channels_last))
        return self.norm(x.permute(0, 2, 3, 1).contiguous())


class PatchMerging(nn.Module):
    """Concatenate the tokens of each 2 x 2 neighbourhood and halve the width (section 3.1).

    The norm comes before the linear layer, in Swin V2 after it.
    """

    def __init__(self, dim: int, post_norm: bool = False):
        super().__init__()
        self.post_norm = post_norm
        self.norm = nn.LayerNorm(2 * dim if post_norm else 4 * dim)
        self.reduction = Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, H, W, C)` to `(B, ceil(H / 2), ceil(W / 2), 2C)`; odd sides are zero-padded."""
        x = self.neighbourhoods(x)
        return self.norm(self.reduction(x)) if self.post_norm else self.reduction(self.norm(x))

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
        self.downsample: PatchMerging | None = (
            None if last else PatchMerging(config.width(stage), post_norm=config.version == 2)
        )
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

    def set_trained_windows(self, windows: tuple[int, ...]) -> None:
        """Set the window of each stage that Swin V2's position bias was trained with, and record it in `config`."""
        self.config = replace(self.config, pretrained_window_sizes=windows)
        for window, stage in zip(windows, self._stages(), strict=True):
            for module in stage.modules():
                if isinstance(module, CosineWindowAttention):
                    module.set_trained_window(window)

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
        # A compiled graph for all sizes resizes always, which changes nothing at the same size.
        if not sizes_vary() and grid == (side, side):
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
