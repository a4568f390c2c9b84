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
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from swin_core.errors import LayerError, first_names
from swin_core.models.modes import evaluation_mode, frozen_parameters, watch_outputs
from swin_core.zoo.classifier import Classifier
from swin_core.zoo.contract import inner_model

_PREFIXES = (0, 1, 2, 4, 5)
"""Possible numbers of prefix tokens: none, class token, with distillation token, four registers, these with a class
token."""

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
    return {name: _module(inner_model(model), name) for name in names}


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
    count = getattr(inner_model(model), "num_prefix_tokens", None)
    return count if isinstance(count, int) else None


def default_layer(classifier: Classifier) -> str:
    """The default target layer: the first of `offered_layers`."""
    return offered_layers(classifier)[0]


def offered_layers(classifier: Classifier) -> tuple[str, ...]:
    """Target layers to choose from: the default, the last layer of each resolution, and the norms of the last block.

    A layer is offered if its output is a map of the image, and if the logits depend on the cells of that map. One
    forward and backward pass of a trial image finds them, whatever their names.

    The default is the last layer with a grid, such as the last stage of a ResNet or ConvNeXt. In transformers whose
    blocks start with a norm it is that norm of the last block: on mosaics its Grad-CAM locates the target class far
    better than that of the last norm (`swinlens trust` measures it). The last norm is offered too, as the
    layer where the map sums to the logit. Where only a class token is pooled, as in most ViTs, patches have no gradient
    behind that norm; the first norms of the other blocks are offered instead.

    Raises:
        LayerError: no layer of the model has a grid.
    """
    offered = _trace(classifier).offered
    if not offered:
        raise LayerError(f"no layer of {classifier.name} has the image's grid; pass a layer and a reshape_transform.")
    return offered


def stage_layers(classifier: Classifier) -> tuple[str, ...]:
    """One layer per stage, from the finest grid to the coarsest.

    These are the outermost numbered layers of a model, such as `layers.0` to `layers.3` or `layer1` to `layer4`, that
    pass through the most resolutions; the last of each resolution. In a model with one resolution, such as a ViT, four
    evenly spaced blocks take the place of stages.

    Raises:
        LayerError: no layer of the model has a grid.
    """
    found = _trace(classifier)
    if stages := _stages(found.layouts):
        return tuple(stages)
    blocks = found.first_norms or [default_layer(classifier)]
    indices = {max(round((stage + 1) * len(blocks) / _STAGES) - 1, 0) for stage in range(_STAGES)}
    return tuple(blocks[index] for index in sorted(indices))


def _stages(layouts: dict[str, Layout]) -> list[str]:
    """Return the last layer of each resolution of the family that passes through the most; none if that is one."""
    families: dict[str, dict[tuple[int, int], str]] = {}
    for name, layout in layouts.items():
        family = re.sub(r"\d+", "#", name)
        if family != name:
            families.setdefault(family, {})[layout.grid] = name
    best = max(families, key=lambda family: (len(families[family]), -family.count("."), -len(family)), default="")
    stages = families.get(best, {})
    return sorted(stages.values(), key=list(layouts).index) if len(stages) > 1 else []


@dataclass(frozen=True)
class LayerPosition:
    """Where a layer lies in its model."""

    grid: tuple[int, int]
    """Cells, `(h, w)`."""
    number: int
    """Number of its stage, or of its block in a model with a single resolution; from 1."""
    count: int
    """Stages or blocks of the model."""


def layer_positions(classifier: Classifier) -> dict[str, LayerPosition]:
    """Return where each of `offered_layers` lies.

    Raises:
        LayerError: no layer of the model has a grid.
    """
    offered = offered_layers(classifier)
    found = _trace(classifier)
    grids = list(dict.fromkeys(found.layouts[name].grid for name in _stages(found.layouts)))
    order = list(found.layouts)
    positions = {}
    for name in offered:
        grid = found.layouts[name].grid
        if grid in grids:
            number, count = grids.index(grid) + 1, len(grids)
        else:
            started = sum(order.index(norm) <= order.index(name) for norm in found.first_norms)
            number, count = max(started, 1), max(len(found.first_norms), 1)
        positions[name] = LayerPosition(grid, number, count)
    return positions


@dataclass(frozen=True)
class _Trace:
    """What a trial image found out about the layers of a model, in the order in which they finish."""

    layouts: dict[str, Layout]
    """Layers whose output is a map of the image that the logits depend on."""
    norms: list[str]
    """Layer norms of `layouts`."""
    first_norms: list[str]
    """Norms that a numbered block starts with: pre-norm transformers, not post-norm ones or convolutional blocks."""
    class_token: bool
    """Whether behind some layer only tokens before the grid reach the logits."""

    @cached_property
    def offered(self) -> tuple[str, ...]:
        """What `offered_layers` returns; empty if no layer has a grid."""
        layouts = self.layouts
        order = list(layouts)
        if self.class_token and self.first_norms:
            return tuple(reversed(self.first_norms))
        if any(max(layouts[name].grid) > 1 for name in order):
            order = [name for name in order if max(layouts[name].grid) > 1]
        if not order:
            return ()
        stages = [name for name in _stages(layouts) if name in order]
        at_last_grid = [name for name in order if layouts[name].grid == layouts[order[-1]].grid]
        last = min(reversed(at_last_grid), key=lambda name: name.count("."))  # the outermost, and among those the last
        if stages and stages[-1].rpartition(".")[0] == last:  # a container, which returns what its last stage does
            last = stages[-1]
        earlier = [name for name in reversed(stages) if name not in at_last_grid]
        # The norms of the last block, and its output.
        blocks = [name.rpartition(".")[0] for name in self.norms if name in order]
        block = next((block for block in reversed(blocks) if re.search(r"\d$", block) and blocks.count(block) > 1), "")
        norms = [name for name in self.norms if block and name in order and name.rpartition(".")[0] == block]
        first = [name for name in norms if name in self.first_norms]
        norms += [block] if block in order else []
        return tuple(dict.fromkeys([*first, last, *norms, *earlier]))


_traces: "weakref.WeakKeyDictionary[nn.Module, dict[int, _Trace]]" = weakref.WeakKeyDictionary()
"""Cache of `_trace` by model and image size, since other sizes have other grids."""


def _trace(classifier: Classifier) -> _Trace:
    by_size = _traces.setdefault(classifier.model, {})
    if classifier.image_size not in by_size:
        by_size[classifier.image_size] = _pass_image(classifier)
    return by_size[classifier.image_size]


def _pass_image(classifier: Classifier) -> _Trace:
    """Run a model forward and backward on a trial image and note what its layers return."""
    model, size = classifier.model, (classifier.image_size, classifier.image_size)
    # TorchScript takes no hooks.
    modules = {
        name: module
        for name, module in model.named_modules()
        if name and not isinstance(module, torch.jit.ScriptModule)
    }
    layouts: dict[str, Layout] = {}
    shapes: dict[str, torch.Size] = {}
    reached: dict[str, bool] = {}  # whether a layer's gradient is not zero in some cell of the grid

    def watch_gradient(name: str, layout: Layout, output: Tensor) -> None:
        def note(gradient: Tensor | None) -> None:
            if gradient is None:
                raise LayerError(
                    f"no gradient comes back to {name!r}: quantised layers pass none; use the unquantised model."
                )
            at_grid = bool(layout.channels_first(gradient).any())
            if at_grid or gradient.any():
                reached[name] = at_grid

        output.register_hook(note)

    def record(name: str, output: object) -> None:
        # Tables of weights do not depend on the image.
        if not isinstance(output, Tensor) or not output.requires_grad:
            return
        if name in shapes:  # it runs more than once, so it has no map of its own
            layouts.pop(name, None)
            return
        shapes[name] = output.shape
        # The attention of a single window, (B, heads, N, N), has the shape of a map; auxiliary heads are no part of it.
        if _inside_attention(name, modules) or "head" in name or isinstance(modules[name], nn.Identity):
            return
        try:
            layouts[name] = find_layout(name, modules[name], output, size, prefix=prefix_tokens(model))
        except LayerError:
            return
        watch_gradient(name, layouts[name], output)

    with (
        classifier.lock,
        evaluation_mode(model),
        frozen_parameters(model),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(classifier.device.type, enabled=False),
    ):
        values = len(classifier.mean) * size[0] * size[1]
        ramp = torch.linspace(-1, 1, values, device=classifier.device).view(1, -1, *size)
        with watch_outputs(modules, record):
            logits = classifier.logits_model(ramp.to(classifier.dtype).requires_grad_())
        if logits.requires_grad:
            # Unequal weights, since logits of opposite sign would cancel.
            (logits[0] * torch.linspace(1, 2, logits.shape[1]).to(logits)).sum().backward()
    class_token = False
    if reached:  # else the head has zeros, before training
        at_layers = {name: at_grid for name, at_grid in reached.items() if name in layouts}
        class_token = any(layouts[name].kind == "tokens" and not at_grid for name, at_grid in at_layers.items())
        layouts = {name: layout for name, layout in layouts.items() if at_layers.get(name)}
    norms = [name for name in layouts if isinstance(modules[name], nn.LayerNorm | nn.RMSNorm)]
    return _Trace(layouts, norms, _first_norms(norms, shapes), class_token)


def _first_norms(norms: list[str], shapes: dict[str, torch.Size]) -> list[str]:
    """Return the norms that a numbered block starts with, by the shapes of all layers in the order of their calls."""
    first_child: dict[str, str] = {}
    for name in shapes:
        first_child.setdefault(name.rpartition(".")[0], name)
    found = []
    for name in norms:
        block = name.rpartition(".")[0]
        keeps_shape = shapes.get(block, shapes[name]) == shapes[name]  # else patches are merged behind the norm
        if re.search(r"\d$", block) and first_child[block] == name and keeps_shape:
            found.append(name)
    return found


def _inside_attention(name: str, modules: dict[str, nn.Module]) -> bool:
    parts = name.split(".")
    around = (modules[".".join(parts[:count])] for count in range(1, len(parts)))
    return bool(re.search(r"attn|attention", name)) or any(
        type(module).__name__.endswith(("Attention", "Attn")) for module in around
    )


def layer_arrangement(model: nn.Module, layer: str, size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """The function from a layer's output or gradient to `(B, C, h, w)`, for inputs of `size` pixels, `(H, W)`.

    Raises:
        LayerError: the model has no such layer. The function raises what `find_layout` raises.
    """
    module = target_modules(model, [layer])[layer]

    def arrange(output: Tensor) -> Tensor:
        return find_layout(layer, module, output, size, len(output), prefix_tokens(model)).channels_first(output)

    return arrange
