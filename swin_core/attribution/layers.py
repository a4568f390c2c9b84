"""Target layers: which ones a model offers, and the layout of their output.

A layer's output may be channels first `(B, C, h, w)`, channels last `(B, h, w, C)`, or tokens `(B, prefix + h * w, C)`.
The layout is detected from the possible grids, the image size divided by a stride. An ambiguous output is an error.
"""

import difflib
import re
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from swin_core.errors import LayerError, first_names
from swin_core.models.modes import evaluation_mode, watch_outputs
from swin_core.zoo.classifier import Classifier

_PREFIXES = (0, 1, 2, 5)
"""Possible numbers of prefix tokens: none, class token, with distillation token, with four registers."""

_STAGES = 4
"""Layers that stand for the stages of a model without stages: as many as a Swin has stages."""


@dataclass(frozen=True)
class Layout:
    """Axes of a layer's output."""

    kind: Literal["channels_first", "channels_last", "tokens"]
    grid: tuple[int, int]
    """Cells, `(h, w)`."""
    prefix: int = 0
    """Tokens before those of the grid, such as a class token."""

    def channels_first(self, output: Tensor) -> Tensor:
        """Rearrange the output to `(B, C, h, w)`."""
        if self.kind == "channels_first":
            return output
        if self.kind == "tokens":
            output = output[:, self.prefix :].unflatten(1, self.grid)
        return output.permute(0, 3, 1, 2)


def find_layout(
    name: str,
    module: nn.Module,
    output: object,
    size: tuple[int, int],
    batch: int = 1,
    prefix: int | None = None,
) -> Layout:
    """Detect the layout of a layer's output.

    Args:
        name: the layer's name, for messages.
        module: the layer; its number of channels decides between two possible layouts.
        output: what the layer returned.
        size: `(H, W)` of the model's input in pixels.
        batch: images in that input.
        prefix: tokens before the grid; None if unknown.

    Raises:
        LayerError: no layout fits the output, or two do.
    """
    if not isinstance(output, Tensor):
        raise no_tensor(name, output)
    shape = tuple(output.shape)
    if "attn" in name and isinstance(module, nn.Dropout | nn.Softmax):
        raise LayerError(f"layer {name!r} returns attention matrices; choose a norm or a block.")
    if output.dim() not in (3, 4):
        raise LayerError(f"layer {name!r} returns {shape}, which has no grid; choose a layer before the pooling.")
    if shape[0] != batch:
        raise LayerError(
            f"layer {name!r} returns {shape}: one entry per window, not per image; choose a norm or a block."
        )
    layouts = _token_layouts(shape, size, prefix) if len(shape) == 3 else _map_layouts(shape, size, module)
    if len(layouts) == 1:
        return layouts[0]
    why = "no layout has the image's grid" if not layouts else "channels first and last both fit"
    raise LayerError(f"layer {name!r} returns {shape}: {why}; choose another layer, or pass a reshape_transform.")


def no_tensor(name: str, output: object) -> LayerError:
    """Return the error for a layer whose output is no tensor."""
    return LayerError(f"layer {name!r} returns {type(output).__name__}, no tensor; choose a layer inside it.")


def _map_layouts(shape: tuple[int, ...], size: tuple[int, int], module: nn.Module) -> list[Layout]:
    layouts = []
    if _fits(shape[2:], size):
        layouts.append((shape[1], Layout("channels_first", (shape[2], shape[3]))))
    if _fits(shape[1:3], size):
        layouts.append((shape[3], Layout("channels_last", (shape[1], shape[2]))))
    matching = [entry for entry in layouts if entry[0] == _channels(module)]
    return [layout for _, layout in (matching if len(layouts) == 2 and len(matching) == 1 else layouts)]


def _token_layouts(shape: tuple[int, ...], size: tuple[int, int], prefix: int | None) -> list[Layout]:
    for count in _PREFIXES if prefix is None else (prefix,):
        grids = {grid for grid in _grids(size) if grid[0] * grid[1] == shape[1] - count}
        if grids:
            return [Layout("tokens", grid, count) for grid in grids]
    return []


def _channels(module: nn.Module) -> int | None:
    """Output channels of a module, if it states them."""
    for attribute in ("out_channels", "num_features", "out_features"):
        if isinstance(value := getattr(module, attribute, None), int):
            return value
    shape: tuple[int, ...] = getattr(module, "normalized_shape", ())
    return shape[0] if len(shape) == 1 else None


def _fits(grid: Sequence[int], size: tuple[int, int]) -> bool:
    """Whether a grid has the aspect ratio of the image, up to the one cell that padding may add."""
    rows, columns = grid
    height, width = size
    return (
        rows <= height
        and columns <= width
        and abs(rows - columns * height / width) <= 1
        and abs(columns - rows * width / height) <= 1
    )


def _grids(size: tuple[int, int]) -> set[tuple[int, int]]:
    """Grids of all integer strides, with an incomplete last patch dropped or padded."""
    height, width = size
    strides = range(1, max(size) + 1)
    dropped = {(height // stride, width // stride) for stride in strides}
    return dropped | {(-(-height // stride), -(-width // stride)) for stride in strides}


def target_modules(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The modules of the named layers, in the order of the names.

    Raises:
        LayerError: an unknown name, or no name.
    """
    if not names:
        raise LayerError("name at least one target layer.")
    return {name: _module(model, name) for name in names}


def _module(model: nn.Module, name: str) -> nn.Module:
    with suppress(AttributeError):
        if name:
            return model.get_submodule(name)
    known = [known for known, _ in model.named_modules() if known]
    close = difflib.get_close_matches(name, known, 3)
    top = [known_name for known_name in known if known_name.count(".") < 2]
    hint = f"did you mean {' or '.join(close)}?" if close else f"it has {first_names(top)}."
    raise LayerError(f"the model has no layer {name[:80]!r}; {hint}")


def prefix_tokens(model: nn.Module) -> int | None:
    """Tokens before the grid, if the model states them as timm's ViTs do."""
    count = getattr(model, "num_prefix_tokens", None)
    return count if isinstance(count, int) else None


def default_layer(classifier: Classifier) -> str:
    """The default target layer: the first of `offered_layers`."""
    return offered_layers(classifier)[0]


_offered: "weakref.WeakKeyDictionary[nn.Module, dict[int, tuple[str, ...]]]" = weakref.WeakKeyDictionary()
"""Cache of `offered_layers` by model and image size, since other sizes have other grids."""


def offered_layers(classifier: Classifier) -> tuple[str, ...]:
    """Target layers to choose from: the default, the last layer of each resolution, and the norms of the last block.

    The default is the last layer with a grid, such as the last stage of a ResNet or ConvNeXt. In transformers whose
    blocks start with a norm it is that norm of the last block: on mosaics its Grad-CAM locates the target class far
    better than that of the last norm (`swinlens trust` measures it). The last norm is offered too, as the
    layer where the map sums to the logit. Where only a class token is pooled, as in most ViTs, patches have no gradient
    behind that norm; the first norms of the other blocks are offered instead.

    Raises:
        LayerError: no layer of the model has a grid.
    """
    by_size = _offered.setdefault(classifier.model, {})
    if classifier.image_size not in by_size:
        by_size[classifier.image_size] = _find_offered(classifier)
    return by_size[classifier.image_size]


def _find_offered(classifier: Classifier) -> tuple[str, ...]:
    model = classifier.model
    layouts = _trace(classifier)
    # The attention of a single window, (B, heads, N, N), has the shape of a map; auxiliary heads have their own loss.
    order = [name for name in layouts if "attn" not in name and "head" not in name]
    if any(max(layouts[name].grid) > 1 for name in order):
        order = [name for name in order if max(layouts[name].grid) > 1]
    if prefix_tokens(model) and getattr(model, "global_pool", "token") == "token":
        order = [name for name in order if name.endswith(".norm1")]
        if order:
            return tuple(reversed(order))
    if not order:
        raise LayerError(f"no layer of {classifier.name} has the image's grid; pass a layer and a reshape_transform.")
    stages: dict[tuple[int, int], str] = {}
    for name in order:  # the outermost layer of each grid, and among those the last
        known = stages.get(layouts[name].grid)
        if known is None or name.count(".") <= known.count("."):
            stages[layouts[name].grid] = name
    block = next((name for name in reversed(order) if f"{name}.norm1" in order), "")
    norms = [name for name in (f"{block}.norm1", f"{block}.norm2", block) if name in order]
    last = stages.pop(layouts[order[-1]].grid)
    earlier = sorted(stages.values(), key=order.index, reverse=True)
    # Swin V2 normalises after the attention and the MLP; which of its layers is best was not measured.
    norm2, mlp = f"{block}.norm2", f"{block}.mlp"
    pre_norm = norm2 in order and mlp in order and order.index(norm2) < order.index(mlp)
    return tuple(dict.fromkeys([*(norms[:1] if pre_norm else []), last, *norms, *earlier]))


def stage_layers(classifier: Classifier) -> tuple[str, ...]:
    """One layer per stage, from the finest grid to the coarsest.

    These are the outermost numbered layers of a model, such as `layers.0` to `layers.3` or `layer1` to `layer4`, that
    pass through the most resolutions; the last of each resolution. In a model with one resolution, such as a ViT, four
    evenly spaced blocks take the place of stages.

    Raises:
        LayerError: no layer of the model has a grid.
    """
    layouts = _trace(classifier)
    families: dict[str, dict[tuple[int, int], str]] = {}
    for name, layout in layouts.items():
        family = re.sub(r"\d+", "#", name)
        if family != name and "attn" not in name and "head" not in name:
            families.setdefault(family, {})[layout.grid] = name
    if families:
        best = max(families, key=lambda family: (len(families[family]), -family.count("."), -len(family)))
        if len(families[best]) > 1:
            return tuple(sorted(families[best].values(), key=list(layouts).index))
    blocks = [name for name in layouts if name.endswith(".norm1")] or [default_layer(classifier)]
    indices = {max(round((stage + 1) * len(blocks) / _STAGES) - 1, 0) for stage in range(_STAGES)}
    return tuple(blocks[index] for index in sorted(indices))


def _trace(classifier: Classifier) -> dict[str, Layout]:
    """The layout of each layer whose output has a grid, in the order in which the layers finish."""
    model, size = classifier.model, (classifier.image_size, classifier.image_size)
    modules = {name: module for name, module in model.named_modules() if name}
    layouts: dict[str, Layout] = {}

    def record(name: str, output: object) -> None:
        try:
            layout = find_layout(name, modules[name], output, size, prefix=prefix_tokens(model))
        except LayerError:
            return
        layouts.pop(name, None)
        layouts[name] = layout

    with classifier.lock, evaluation_mode(model), torch.inference_mode(), watch_outputs(modules, record):
        model(torch.zeros(1, len(classifier.mean), *size, device=classifier.device, dtype=classifier.dtype))
    return layouts


def layer_arrangement(model: nn.Module, layer: str, size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """The function from a layer's output or gradient to `(B, C, h, w)`, for inputs of `size` pixels, `(H, W)`.

    Raises:
        LayerError: the model has no such layer. The function raises what `find_layout` raises.
    """
    module = target_modules(model, [layer])[layer]

    def arrange(output: Tensor) -> Tensor:
        return find_layout(layer, module, output, size, len(output), prefix_tokens(model)).channels_first(output)

    return arrange
