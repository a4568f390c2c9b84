"""The config of a Swin that the shapes of its weights imply."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from math import isqrt
from typing import Any

from torch import Tensor

from swin_core.errors import ConfigError, WeightsError
from swin_core.models.config import SwinConfig
from swin_core.weights.key_layouts import BLOCK, convert_with_buffers, quoted
from swin_core.weights.swin_v2 import is_v2, stored_windows

BIAS_TABLE = "relative_position_bias_table"


def config_of(state: Mapping[str, Any]) -> SwinConfig:
    """Return the config that the shapes of weights imply.

    `shift` and `drop_path` keep their defaults, since no shape depends on them. If neither a mask nor an absolute
    embedding tells `image_size`, it is set so that the window of the last stage covers its whole map (224 for patch 4
    and window 7, 384 for window 12).

    Args:
        state: weights in any layout.

    Raises:
        WeightsError: not a Swin; without bias tables, so that heads and window are unknown; or with windows that differ
            from stage to stage.
    """
    own, _, buffers = convert_with_buffers(state)
    try:
        settings = implied_settings(own)
        trained: tuple[int, ...] = ()
        if is_v2(own):
            windows, trained = _windows_of_v2(buffers, settings)
        elif "window_size" not in settings:
            raise WeightsError(
                "it has no bias tables, so that its heads and window are unknown; build the model first."
            )
        else:
            windows = _windows(own, settings["depths"])
        side = _map_side(buffers, windows)
        _check_windows(windows, side)
        if side is not None and not settings["absolute_embedding"]:
            settings["image_size"] = side * settings["patch_size"]
        config = SwinConfig(**settings)
        return config if trained in ((), config.trained_windows()) else replace(config, pretrained_window_sizes=trained)
    except ConfigError as error:
        raise WeightsError(f"its shapes contradict each other: {error}") from error


def _windows_of_v2(buffers: Mapping[str, Tensor], settings: dict[str, Any]) -> tuple[list[int], tuple[int, ...]]:
    """Return the window of each stage of a Swin V2 and those of training; set `window_size` and `image_size`.

    Raises:
        WeightsError: no buffer tells them; all other tensors of a Swin V2 are the same for any window.
    """
    stored = stored_windows(buffers)
    stages = len(settings["depths"])
    if len(stored) != stages:
        raise WeightsError(
            "it is a Swin V2, whose window is in no weight; name the architecture, as in "
            "timm/swinv2_tiny_window8_256@FILE, or build the model and use load_weights."
        )
    windows = [window for window, _ in stored]
    settings["window_size"] = max(windows)
    settings.setdefault("image_size", windows[-1] * 2 ** (stages - 1) * settings["patch_size"])
    return windows, tuple(trained for _, trained in stored)


def states_image_size(state: Mapping[str, Any]) -> bool:
    """Return whether masks or an absolute embedding tell the image size, so that `config_of` need not guess it."""
    own, _, buffers = convert_with_buffers(state)
    return "absolute_pos_embed" in own or any(key.endswith("attn_mask") for key in buffers)


def implied_settings(own: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the fields of `SwinConfig` that the shapes of tensors under our keys determine.

    Raises:
        WeightsError: a tensor that every Swin has is missing or has the wrong number of dimensions, or windows differ.
    """
    depths = _depths(own)
    kernel = _tensor(own, "patch_embed.proj.weight", 4)
    dim, patch = kernel.shape[0], kernel.shape[2]
    first = "layers.0.blocks.0."
    hidden = _tensor(own, first + "mlp.fc1.weight", 2).shape[0]
    for stage in range(len(depths)):
        # Check the width of each stage, or a small file could ask for a giant model.
        shape = _tensor(own, f"layers.{stage}.blocks.0.mlp.fc1.weight", 2).shape
        if shape[1] != dim << stage:
            raise WeightsError(f"its stage {stage + 1} is {shape[1]} wide, unlike any Swin's.")
    settings: dict[str, Any] = {
        "embed_dim": dim,
        "in_chans": kernel.shape[1],
        "patch_size": patch,
        "depths": depths,
        "mlp_ratio": hidden / dim,
        "num_classes": _tensor(own, "head.weight", 2).shape[0] if "head.weight" in own else 0,
        "mixer": "mlp" if first + "spatial_mlp.weight" in own else "attention",
        "absolute_embedding": "absolute_pos_embed" in own,
    }
    if settings["mixer"] == "attention":
        settings["version"] = 2 if is_v2(own) else 1
        settings["qkv_bias"] = not own.keys().isdisjoint({first + "attn.qkv.bias", first + "attn.q_bias"})
        biases = {first + "attn." + BIAS_TABLE, first + "attn.cpb_mlp.0.weight"}
        settings["relative_position_bias"] = not own.keys().isdisjoint(biases)
    stages = [_heads_and_window(own, f"layers.{stage}.blocks.0.") for stage in range(len(depths))]
    known = [pair for pair in stages if pair is not None]
    if len(known) == len(depths):
        settings["num_heads"] = tuple(heads for heads, _ in known)
        # The table of a stage whose map is smaller than the window may be smaller too.
        settings["window_size"] = max(window for _, window in known)
        settings["image_size"] = known[-1][1] * 2 ** (len(depths) - 1) * patch
        _check_windows(_windows(own, depths), None)
    if is_v2(own):
        scales = [_tensor(own, f"layers.{stage}.blocks.0.attn.logit_scale", 3) for stage in range(len(depths))]
        settings["num_heads"] = tuple(scale.shape[0] for scale in scales)
    if settings["absolute_embedding"]:
        settings["image_size"] = isqrt(_tensor(own, "absolute_pos_embed", 3).shape[1]) * patch
    return settings


def table_window(table: Tensor) -> int:
    """Return the window side M of a bias table `((2M-1)^2, heads)`.

    Raises:
        WeightsError: no square window has a table of this shape.
    """
    side = isqrt(table.shape[0]) if table.dim() == 2 else 0
    if side % 2 == 0 or side * side != table.shape[0]:
        raise WeightsError(f"a bias table of shape {tuple(table.shape)} belongs to no square window.")
    return (side + 1) // 2


def _depths(own: Mapping[str, Tensor]) -> tuple[int, ...]:
    blocks = {(int(match[1]), int(match[2])) for key in own if (match := BLOCK.match(key))}
    counts = Counter(stage for stage, _ in blocks)
    depths = tuple(counts[stage] for stage in range(max(counts) + 1))
    if 0 in depths or any((s, i) not in blocks for s, depth in enumerate(depths) for i in range(depth)):
        raise WeightsError("it is incomplete: blocks between others are missing.")
    return depths


def _heads_and_window(own: Mapping[str, Tensor], block: str) -> tuple[int, int] | None:
    """Return the number of heads and the window side of a block, or None if no shape determines them."""
    if block + "spatial_mlp.weight" in own:
        mixing = _tensor(own, block + "spatial_mlp.weight", 3)  # (heads * N, N, 1)
        tokens = mixing.shape[1]
        if tokens == 0 or isqrt(tokens) ** 2 != tokens:
            raise WeightsError(f"a mixing matrix of {tokens} tokens belongs to no square window.")
        return mixing.shape[0] // tokens, isqrt(tokens)
    table = own.get(f"{block}attn.{BIAS_TABLE}")
    if table is None:
        return None
    window = table_window(table)
    return table.shape[1], window


def _tensor(own: Mapping[str, Tensor], key: str, dimensions: int) -> Tensor:
    if key not in own:
        raise WeightsError(f"it is incomplete: {key!r} is missing.")
    if own[key].dim() != dimensions or 0 in own[key].shape:
        raise WeightsError(f"{key!r} has the shape {tuple(own[key].shape)}, with {dimensions} dimensions expected.")
    return own[key]


def _windows(own: Mapping[str, Tensor], depths: tuple[int, ...]) -> list[int]:
    """Return the window side of each stage.

    Raises:
        WeightsError: the blocks of a stage differ.
    """
    windows: list[int] = []
    for stage, depth in enumerate(depths):
        pairs = [_heads_and_window(own, f"layers.{stage}.blocks.{block}.") for block in range(depth)]
        sides = {pair[1] for pair in pairs if pair is not None}
        if len(sides) != 1:
            raise WeightsError(f"the windows of its stage {stage + 1} differ, unlike those of this Swin.")
        windows += sides
    return windows


def _map_side(buffers: Mapping[str, Tensor], windows: list[int]) -> int | None:
    """Return how many tokens wide the first stage's map was when a file was saved, if masks tell.

    A mask is `(windows, N, N)`, for a map that windows of N tokens cover exactly.

    Raises:
        WeightsError: masks, indices and tables contradict each other.
    """
    sides = set()
    for key, buffer in buffers.items():
        if key.endswith("relative_coords_table"):
            continue
        stage = int(match[1]) if (match := BLOCK.match(key)) else len(windows)
        window = windows[stage] if stage < len(windows) else 0
        tokens = buffer.shape[-1] if key.endswith("attn_mask") and buffer.dim() == 3 else isqrt(buffer.numel())
        if tokens != window**2:
            raise WeightsError(
                f"{quoted(key)} has the shape {tuple(buffer.shape)}, which is not of a window of {window}."
            )
        if key.endswith("attn_mask"):
            sides.add((isqrt(buffer.shape[0]) * window) << stage)
    if len(sides) > 1:
        raise WeightsError(
            f"its masks are of maps of {' and '.join(map(str, sorted(sides)))} tokens, not of one image."
        )
    return sides.pop() if sides else None


def _check_windows(windows: list[int], side: int | None) -> None:
    """Raise unless one window explains the tables of all stages, where it shrinks to maps that are smaller.

    Args:
        windows: window sides of the stages.
        side: side of the first stage's map in tokens, if it is known.

    Raises:
        WeightsError: stages have windows of their own, which no single window would give.
    """
    full = max(windows)
    small = next((stage for stage, window in enumerate(windows) if window < full), None)
    if small is None:
        return
    # From the first stage with a smaller table on, tables are as large as the maps, which halve.
    maps = [windows[small]]
    for _ in windows[small + 1 :]:
        maps.append(-(-maps[-1] // 2))
    before_fits = small > 0 and 2 * windows[small] >= full
    side_fits = side is None or -(-side // 2**small) == windows[small]
    if windows[small:] != maps or not before_fits or not side_fits:
        raise WeightsError(
            f"its windows are {', '.join(map(str, windows))} by stage, where this Swin has one for all; name the "
            "architecture: timm/<model>@<file>."
        )
