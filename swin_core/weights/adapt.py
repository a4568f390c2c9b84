"""Bring the tensors of a weights file to the shapes of a model, or refuse them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_core.errors import WeightsError
from swin_core.models.config import SwinConfig
from swin_core.weights.key_layouts import BIAS_TABLE, implied_settings, quoted, table_window

__all__ = ["Fit", "check_variant"]

_HEAD = ("head.weight", "head.bias")
_FIXED = (
    "mixer",
    "embed_dim",
    "depths",
    "num_heads",
    "qkv_bias",
    "relative_position_bias",
    "absolute_embedding",
)
_ADAPTED = ("in_chans", "patch_size", "num_classes", "window_size")


def check_variant(config: SwinConfig, own: Mapping[str, Tensor], *, exactly: bool = False) -> None:
    """Refuse tensors of another variant in the words of the variant, before any shape is compared.

    Args:
        config: of the model.
        own: tensors in our layout.
        exactly: whether what `load_weights` adapts must agree too.
    """
    implied = implied_settings(own)
    ours = config.to_dict()
    differs = [
        f"{name} {quoted(implied[name])} where the model has {ours[name]}"
        for name in (_FIXED + _ADAPTED if exactly else _FIXED)
        if name in implied and implied[name] != ours[name]
    ]
    hidden = round(implied["mlp_ratio"] * implied["embed_dim"])
    if hidden != int(config.embed_dim * config.mlp_ratio) and not differs:
        differs.append(f"an MLP {hidden} wide where the model has {int(config.embed_dim * config.mlp_ratio)}")
    if differs:
        raise WeightsError(f"it is another variant, with {', '.join(differs)}.")


@dataclass
class Fit:
    """Brings tensors to the shapes of a model, and notes what it did."""

    config: SwinConfig
    own: Mapping[str, Tensor]
    adapted: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    random: list[str] = field(default_factory=list)

    def all(self, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A tensor of the wanted shape for each key that the file can fill.

        Raises:
            WeightsError: a key is missing or too many, a shape cannot be adapted, or a number is not finite.
        """
        fitted = self._head(wanted)
        extra = [key for key in self.own if key not in wanted and key not in _HEAD]
        if extra:
            raise WeightsError(f"it holds {quoted(extra[0])}, which the model does not have.")
        for key, parameter in wanted.items():
            if key in _HEAD:
                continue
            if key not in self.own:
                raise WeightsError(f"it is incomplete: {key!r} is missing.")
            _check_finite(key, self.own[key])
            value = self._shaped(key, self.own[key], parameter)
            if value is None:
                continue
            _check_shape(key, self.own[key], value, parameter)
            fitted[key] = value
        types = {str(value.dtype).removeprefix("torch.") for value in self.own.values()}
        target = str(next(iter(wanted.values())).dtype).removeprefix("torch.")
        if types != {target}:
            self.adapted.append(f"converted from {' and '.join(sorted(types - {target}))} to {target}")
        return fitted

    def _head(self, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        head = {key: self.own[key] for key in _HEAD if key in self.own}
        if len(head) == 1:
            missing = next(key for key in _HEAD if key not in head)
            raise WeightsError(f"it is incomplete: {missing!r} is missing.")
        theirs = head["head.weight"].shape[0] if head else 0
        if not self.config.num_classes:
            if head:
                self.skipped.append(f"head of {theirs} classes")
            return {}
        if theirs == self.config.num_classes:
            for key, value in head.items():
                _check_shape(key, value, value, wanted[key])
                _check_finite(key, value)
            return head
        if head:
            self.skipped.append(f"head of {theirs} classes")
        self.random.append(f"head of {self.config.num_classes} classes")
        return {}

    def _shaped(self, key: str, value: Tensor, parameter: Tensor) -> Tensor | None:
        """The value in the parameter's shape; None where it stays at random."""
        if key.endswith(BIAS_TABLE):
            return self._bias_table(value)
        if value.shape == parameter.shape:
            return value
        wide = value if value.dtype == torch.float64 else value.float()
        if key == "patch_embed.proj.weight":
            return self._patch_kernel(wide)
        if key == "absolute_pos_embed":
            return self._absolute_embedding(wide, isqrt(parameter.shape[1]))
        if ".spatial_mlp." in key and value.dim() == parameter.dim():
            stage = int(key.split(".")[1]) + 1
            self._note(self.random, f"mixing matrices of stage {stage}, which are of another window")
            return None
        return value

    def _bias_table(self, table: Tensor) -> Tensor:
        mine, window = table_window(table), self.config.window_size
        full = max(table_window(value) for key, value in self.own.items() if key.endswith(BIAS_TABLE))
        if mine == full == window:
            return table
        side, heads = 2 * mine - 1, table.shape[1]
        wide = table if table.dtype == torch.float64 else table.float()
        grid = wide.t().reshape(1, heads, side, side)
        if mine < full:
            grid = F.pad(grid, (full - mine,) * 4, mode="replicate")
            self._note(self.adapted, f"bias tables of maps of {mine} tokens a side set into those of window {full}")
        if full != window:
            grid = F.interpolate(grid, (2 * window - 1,) * 2, mode="bicubic", align_corners=False)
            self._note(self.adapted, f"bias tables from window {full} to {window}")
        return grid.reshape(heads, -1).t()

    def _patch_kernel(self, kernel: Tensor) -> Tensor:
        channels, patch = kernel.shape[1], kernel.shape[2]
        if kernel.shape[2] != kernel.shape[3]:
            raise WeightsError(f"its patches of {kernel.shape[2]} x {kernel.shape[3]} pixels are not square.")
        if channels != self.config.in_chans:
            kernel = _with_channels(kernel, self.config.in_chans)
            self.adapted.append(f"first layer from {channels} to {self.config.in_chans} channels")
        if patch != self.config.patch_size:
            kernel = _with_patch(kernel, self.config.patch_size)
            self.adapted.append(f"first layer from patches of {patch} to {self.config.patch_size} pixels")
        return kernel

    def _absolute_embedding(self, embedding: Tensor, side: int) -> Tensor:
        old = isqrt(embedding.shape[1])
        if old * old != embedding.shape[1]:
            raise WeightsError(f"its absolute embedding of {embedding.shape[1]} patches belongs to no square image.")
        grid = embedding.reshape(1, old, old, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
        self.adapted.append(f"absolute embedding from {old} x {old} to {side} x {side} patches")
        return grid.permute(0, 2, 3, 1).reshape(1, side * side, -1)

    @staticmethod
    def _note(lines: list[str], line: str) -> None:
        if line not in lines:
            lines.append(line)


def _check_shape(key: str, stored: Tensor, fitted: Tensor, wanted: Tensor) -> None:
    if fitted.shape != wanted.shape:
        shapes = f"{tuple(stored.shape)} where the model has {tuple(wanted.shape)}"
        raise WeightsError(f"{key!r} has the shape {shapes}.")


def _check_finite(key: str, value: Tensor) -> None:
    if not value.isfinite().all():
        raise WeightsError(f"{key!r} holds NaN or infinite numbers; the run that saved it had diverged.")


def _with_channels(kernel: Tensor, channels: int) -> Tensor:
    """A patch embedding `(C, I, P, P)` for another number of channels, with the same sum over them."""
    if channels == 1:
        return kernel.sum(1, keepdim=True)
    turns = -(-channels // kernel.shape[1])
    return kernel.repeat(1, turns, 1, 1)[:, :channels] * (kernel.shape[1] / channels)


def _with_patch(kernel: Tensor, patch: int) -> Tensor:
    """A patch embedding `(C, I, P, P)` for patches of another side: FlexiViT's pseudo-inverse resize.

    With B the matrix of the bicubic resize, the new weights are `pinv(B)^T w`: the least-squares solution of
    `<B x, w'> = <x, w>` for all patches x, exact when patches grow.
    """
    old = kernel.shape[-1]
    basis = torch.eye(old * old, dtype=torch.float64).view(old * old, 1, old, old)
    # Antialiased, as Pillow resizes images.
    resized = F.interpolate(basis, (patch, patch), mode="bicubic", antialias=True, align_corners=False)
    inverse = torch.linalg.pinv(resized.view(old * old, patch * patch).t())  # (old^2, new^2)
    flat = kernel.double().flatten(2) @ inverse
    return flat.view(*kernel.shape[:2], patch, patch).to(kernel.dtype)
