"""Adapt the tensors of a weights file to the shapes of a model, or refuse them."""

from collections.abc import Mapping
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from swin_core.errors import WeightsError
from swin_core.models.config import SwinConfig
from swin_core.weights.key_layouts import quoted
from swin_core.weights.shapes import BIAS_TABLE, implied_settings, table_window

_HEAD = ("head.weight", "head.bias")
_FIXED = (
    "version",
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
    """Raise `WeightsError` for tensors of another variant, naming the settings that differ.

    Args:
        config: of the model.
        own: tensors under our keys.
        exactly: whether the settings that `Adapter` adapts must agree too.
    """
    implied = implied_settings(own)
    ours = config.to_dict()
    differences = [
        f"{name} {quoted(implied[name])} where the model has {ours[name]}"
        for name in (_FIXED + _ADAPTED if exactly else _FIXED)
        if name in implied and implied[name] != ours[name]
    ]
    hidden = round(implied["mlp_ratio"] * implied["embed_dim"])
    if hidden != int(config.embed_dim * config.mlp_ratio) and not differences:
        differences.append(f"an MLP {hidden} wide where the model has {int(config.embed_dim * config.mlp_ratio)}")
    if differences:
        raise WeightsError(f"it is another variant, with {', '.join(differences)}.")


class Adapter:
    """Adapts the tensors of a file to a model and records the changes.

    Args:
        config: of the model.
        own: the file's tensors under our keys.

    Attributes:
        adapted: what was resized or converted, one line each.
        skipped: what the model does not use.
        random: what the file does not hold, so that the model keeps its random values.
    """

    def __init__(self, config: SwinConfig, own: Mapping[str, Tensor]):
        self.config, self.own = config, own
        self.adapted: list[str] = []
        self.skipped: list[str] = []
        self.random: list[str] = []

    def adapt(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a tensor in the shape of each of the model's parameters that the file can fill.

        Raises:
            WeightsError: a key is missing or unknown, a shape cannot be adapted, or a number is not finite.
        """
        tensors = self._head(parameters)
        unknown = [key for key in self.own if key not in parameters and key not in _HEAD]
        if unknown:
            raise WeightsError(f"it holds {quoted(unknown[0])}, which the model does not have.")
        for key, parameter in parameters.items():
            if key in _HEAD:
                continue
            if key not in self.own:
                raise WeightsError(f"it is incomplete: {key!r} is missing.")
            _check_finite(key, self.own[key])
            value = self._resized(key, self.own[key], parameter)
            if value is not None:
                _check_shape(key, self.own[key], value, parameter)
                tensors[key] = value
        types = {str(value.dtype).removeprefix("torch.") for value in self.own.values()}
        target = str(next(iter(parameters.values())).dtype).removeprefix("torch.")
        if types != {target}:
            self.adapted.append(f"converted from {' and '.join(sorted(types - {target}))} to {target}")
        return tensors

    def _head(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        head = {key: self.own[key] for key in _HEAD if key in self.own}
        if len(head) == 1:
            missing = next(key for key in _HEAD if key not in head)
            raise WeightsError(f"it is incomplete: {missing!r} is missing.")
        classes = head["head.weight"].shape[0] if head else 0
        if classes == self.config.num_classes:
            for key, value in head.items():
                _check_shape(key, value, value, parameters[key])
                _check_finite(key, value)
            return head
        if head:
            self.skipped.append(f"head of {classes} classes")
        if self.config.num_classes:
            self.random.append(f"head of {self.config.num_classes} classes")
        return {}

    def _resized(self, key: str, value: Tensor, parameter: Tensor) -> Tensor | None:
        """Return the value in the shape of the parameter, or None where the parameter stays random."""
        if key.endswith(BIAS_TABLE):
            return self._bias_table(value)
        if value.shape == parameter.shape:
            return value
        if key == "patch_embed.proj.weight":
            return self._patch_kernel(_wide(value))
        if key == "absolute_pos_embed":
            return self._absolute_embedding(_wide(value), isqrt(parameter.shape[1]))
        if ".spatial_mlp." in key and value.dim() == parameter.dim():
            stage = int(key.split(".")[1]) + 1
            _add_once(self.random, f"mixing matrices of stage {stage}, which are of another window")
            return None
        return value

    def _bias_table(self, table: Tensor) -> Tensor:
        stored, window = table_window(table), self.config.window_size
        full = max(table_window(value) for key, value in self.own.items() if key.endswith(BIAS_TABLE))
        if stored == full == window:
            return table
        side, heads = 2 * stored - 1, table.shape[1]
        grid = _wide(table).t().reshape(1, heads, side, side)
        if stored < full:
            grid = F.pad(grid, (full - stored,) * 4, mode="replicate")
            _add_once(self.adapted, f"bias tables padded from window {stored} to {full}")
        if full != window:
            grid = F.interpolate(grid, (2 * window - 1,) * 2, mode="bicubic", align_corners=False)
            _add_once(self.adapted, f"bias tables from window {full} to {window}")
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


def _wide(value: Tensor) -> Tensor:
    return value if value.dtype == torch.float64 else value.float()


def _add_once(lines: list[str], line: str) -> None:
    if line not in lines:
        lines.append(line)


def _check_shape(key: str, stored: Tensor, adapted: Tensor, parameter: Tensor) -> None:
    if adapted.shape != parameter.shape:
        shapes = f"{tuple(stored.shape)} where the model has {tuple(parameter.shape)}"
        raise WeightsError(f"{key!r} has the shape {shapes}.")


def _check_finite(key: str, value: Tensor) -> None:
    if not value.isfinite().all():
        raise WeightsError(f"{key!r} holds NaN or infinite numbers; the run that saved it had diverged.")


def _with_channels(kernel: Tensor, channels: int) -> Tensor:
    """Change the number of channels of a patch embedding `(C, I, P, P)`, with the same sum over them."""
    if channels == 1:
        return kernel.sum(1, keepdim=True)
    repeats = -(-channels // kernel.shape[1])
    return kernel.repeat(1, repeats, 1, 1)[:, :channels] * (kernel.shape[1] / channels)


def _with_patch(kernel: Tensor, patch: int) -> Tensor:
    """Change the patch size of a patch embedding `(C, I, P, P)` by FlexiViT's pseudo-inverse resize.

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
