"""Target layers: which ones a model offers, and where in their output the grid of the image is.

A layer's output may be channels first `(B, C, h, w)`, channels last `(B, h, w, C)`, or tokens `(B, prefix + h * w, C)`.
Which one it is, is found from the real grid: the image's size divided by a stride. What fits two ways is refused.
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
from swin_core.models.modes import evaluation_mode
from swin_core.zoo.classifier import Classifier

__all__ = [
    "Layout",
    "default_layer",
    "find_layout",
    "layer_arrangement",
    "offered_layers",
    "reshape_transform_for",
    "stage_layers",
    "target_modules",
]

_PREFIXES = (0, 1, 2, 5)  # class token; class and distillation token; class token and four registers

_STAGES = 4  # of a Swin, and so of a strip that compares with one


@dataclass(frozen=True)
class Layout:
    """Where the grid is in a layer's output."""

    kind: Literal["channels_first", "channels_last", "tokens"]
    grid: tuple[int, int]
    """Cells of the grid, `(h, w)`."""
    prefix: int = 0
    """Tokens before those of the grid, such as a class token."""

    def channels_first(self, output: Tensor) -> Tensor:
        """The output as `(B, C, h, w)`."""
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
    """The layout of a layer's output.

    Args:
        name: the layer's name, for messages.
        module: the layer; its own channel count decides where two readings fit.
        output: what it returned.
        size: `(H, W)` of the model's input in pixels.
        batch: images in that input.
        prefix: tokens before the grid, if the model says so.

    Raises:
        LayerError: the output has no grid, or two readings of it fit.
    """
    if not isinstance(output, Tensor):
        raise LayerError(f"layer {name!r} returns {type(output).__name__}, no tensor; choose a layer inside it.")
    shape = tuple(output.shape)
    if "attn" in name and isinstance(module, nn.Dropout | nn.Softmax):
        raise LayerError(f"layer {name!r} holds attention matrices, no map of the image; choose a norm or a block.")
    if output.dim() not in (3, 4):
        raise LayerError(f"layer {name!r} gives {shape}, which has no grid; choose a layer before the pooling.")
    if shape[0] != batch:
        raise LayerError(f"layer {name!r} gives {shape}: one entry a window, not an image; choose a norm or a block.")
    found = _token_layouts(shape, size, prefix) if len(shape) == 3 else _map_layouts(shape, size, module)
    if len(found) == 1:
        return found[0]
    why = "no reading of it has the image's grid" if not found else "channels first and last both fit"
    raise LayerError(f"layer {name!r} gives {shape}: {why}; choose another layer, or pass a reshape_transform.")


def _map_layouts(shape: tuple[int, ...], size: tuple[int, int], module: nn.Module) -> list[Layout]:
    found = []
    if _fits(shape[2:], size):
        found.append((shape[1], Layout("channels_first", (shape[2], shape[3]))))
    if _fits(shape[1:3], size):
        found.append((shape[3], Layout("channels_last", (shape[1], shape[2]))))
    known = [entry for entry in found if entry[0] == _channels(module)]
    if len(found) == 2 and len(known) == 1:
        found = known
    return [layout for _, layout in found]


def _token_layouts(shape: tuple[int, ...], size: tuple[int, int], prefix: int | None) -> list[Layout]:
    for before in _PREFIXES if prefix is None else (prefix,):
        cells = shape[1] - before
        grids = {grid for grid in _grids(size) if grid[0] * grid[1] == cells}
        if grids:
            return [Layout("tokens", grid, before) for grid in grids]
    return []


def _channels(module: nn.Module) -> int | None:
    for attribute in ("out_channels", "num_features", "out_features"):
        if isinstance(value := getattr(module, attribute, None), int):
            return value
    shape: tuple[int, ...] = getattr(module, "normalized_shape", ())
    return shape[0] if len(shape) == 1 else None


def _fits(grid: Sequence[int], size: tuple[int, int]) -> bool:
    """Whether a grid has the image's aspect, to within the cell that padding may add."""
    high, wide = grid
    height, width = size
    return (
        high <= height
        and wide <= width
        and abs(high - wide * height / width) <= 1
        and abs(wide - high * width / height) <= 1
    )


def _grids(size: tuple[int, int]) -> set[tuple[int, int]]:
    """All grids of whole strides, with the last patch padded or dropped."""
    height, width = size
    strides = range(1, max(size) + 1)
    whole = {(height // stride, width // stride) for stride in strides}
    return whole | {(-(-height // stride), -(-width // stride)) for stride in strides}


def target_modules(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The modules of some layer names, in the order given.

    Raises:
        LayerError: a name that the model does not have, or none at all.
    """
    if not names:
        raise LayerError("name at least one target layer.")
    return {name: _module(model, name) for name in names}


def _module(model: nn.Module, name: str) -> nn.Module:
    with suppress(AttributeError):
        if name:
            return model.get_submodule(name)
    known = [known for known, _ in model.named_modules() if known]
    near = difflib.get_close_matches(name, known, 3)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else f"it has {first_names([one for one in known if one.count('.') < 2])}."
    )
    raise LayerError(f"the model has no layer {name[:80]!r}; {hint}")


def prefix_tokens(model: nn.Module) -> int | None:
    """Tokens before the grid, where the model says so (timm's ViTs do)."""
    count = getattr(model, "num_prefix_tokens", None)
    return count if isinstance(count, int) else None


def default_layer(classifier: Classifier) -> str:
    """The target layer to start with: the first of `offered_layers`."""
    return offered_layers(classifier)[0]


_offered: "weakref.WeakKeyDictionary[nn.Module, dict[int, tuple[str, ...]]]" = weakref.WeakKeyDictionary()
"""Offered layers by model and image size: at another size other layers have a grid."""


def offered_layers(classifier: Classifier) -> tuple[str, ...]:
    """Layers worth a choice: the default, the last of each resolution, and the norms of the last block.

    The default is the last layer that still has a grid, such as the last stage of a ResNet or ConvNeXt, but for
    transformers whose blocks start with a norm it is that norm in the last block: on mosaics its Grad-CAM points at the
    target class far better than at the last norm (`scripts/benchmark.py layers` measures it). The last norm stays on
    offer, as the place where the map sums to the logit. Where only a class token is pooled, as in most ViTs, nothing
    behind that norm has a gradient at the patches at all; the other blocks' first norms are offered instead.

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
    # The attention of a single window, (B, heads, N, N), only looks like a map; and heads speak for their own loss.
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
    for name in order:  # of each grid the outermost layer, and of those the last
        before = stages.get(layouts[name].grid)
        if before is None or name.count(".") <= before.count("."):
            stages[layouts[name].grid] = name
    block = next((name for name in reversed(order) if f"{name}.norm1" in order), "")
    inside = [name for name in (f"{block}.norm1", f"{block}.norm2", block) if name in order]
    last = stages.pop(layouts[order[-1]].grid)
    # Swin V2 normalises behind the attention and the MLP, where nothing was measured.
    norm_first = [name for name in inside[:1] if _finishes_first(order, f"{block}.norm2", f"{block}.mlp")]
    earlier = sorted(stages.values(), key=order.index, reverse=True)
    return tuple(dict.fromkeys([*norm_first, last, *inside, *earlier]))


def stage_layers(classifier: Classifier) -> tuple[str, ...]:
    """One layer a stage, from the finest grid to the coarsest: where the maps of a strip of stages are taken.

    Of the numbered layers of a model, such as `layers.0` to `layers.3` or `layer1` to `layer4`, those that pass through
    the most resolutions, the outermost of them; of each resolution the last. A model of one resolution, such as a ViT,
    has no stages: four of its blocks, evenly spaced, stand for them.

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
    places = {round((number + 1) * len(blocks) / _STAGES) - 1 for number in range(_STAGES)}
    return tuple(blocks[max(place, 0)] for place in sorted(places))


def _finishes_first(order: Sequence[str], first: str, second: str) -> bool:
    return first in order and second in order and order.index(first) < order.index(second)


def _trace(classifier: Classifier) -> dict[str, Layout]:
    """Every layer whose output has a grid, in the order in which they finish."""
    model, size = classifier.model, (classifier.image_size, classifier.image_size)
    found: dict[str, Layout] = {}

    def look(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            try:
                layout = find_layout(name, module, output, size, prefix=prefix_tokens(model))
            except LayerError:
                return
            found.pop(name, None)
            found[name] = layout

        return hook

    with classifier.lock, evaluation_mode(model), torch.inference_mode():
        hooks = [module.register_forward_hook(look(name)) for name, module in model.named_modules() if name]
        try:
            model(torch.zeros(1, len(classifier.mean), *size, device=classifier.device, dtype=classifier.dtype))
        finally:
            for hook in hooks:
                hook.remove()
    return found


def reshape_transform_for(classifier: Classifier, layer: str) -> Callable[[Tensor], Tensor]:
    """A `reshape_transform` for pytorch-grad-cam: the layer's output or gradient as `(B, C, h, w)`.

    The grid is found at each call from the output itself, for images of the classifier's size.
    """
    return layer_arrangement(classifier.model, layer, (classifier.image_size, classifier.image_size))


def layer_arrangement(model: nn.Module, layer: str, size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """From a layer's output or gradient to `(B, C, h, w)`, for inputs of `size` pixels, `(H, W)`.

    Raises:
        LayerError: the model has no such layer; and at a call, what `find_layout` raises.
    """
    module = target_modules(model, [layer])[layer]

    def arrange(output: Tensor) -> Tensor:
        return find_layout(layer, module, output, size, len(output), prefix_tokens(model)).channels_first(output)

    return arrange
