"""The contract of a classifier: from images `(B, channels, S, S)` to logits `(B, classes)`, settled by a trial image.

Models return tensors, tuples, dictionaries or objects; some end in a softmax, some have a single logit. One forward
pass of a trial image finds out, and `LogitsModel` turns the output into logits, so that everything else sees one form.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from swin_core.errors import ConfigError, ModelError
from swin_core.models.modes import evaluation_mode
from swin_core.models.swin import Swin

ACTIVATIONS = ("softmax", "sigmoid", "none")
"""How logits become the values that are shown: probabilities of one class of all, of each class on its own, or the
outputs themselves, as in a regression."""

_CALLS: dict[Any, Literal["softmax", "sigmoid"]] = {
    **dict.fromkeys((torch.softmax, Tensor.softmax, F.softmax), "softmax"),
    **dict.fromkeys((torch.log_softmax, Tensor.log_softmax, F.log_softmax), "softmax"),
    **dict.fromkeys((torch.sigmoid, Tensor.sigmoid, F.sigmoid, torch.special.expit, F.logsigmoid), "sigmoid"),
}
"""Functions that turn logits into probabilities or their logarithms."""

_SIGMOID_VALUES: set[Any] = {torch.sigmoid_, Tensor.sigmoid_, F.hardsigmoid}
"""Functions whose values are probabilities of each class on its own, and whose argument is lost or is no logit."""

_RESHAPING: set[Any] = {torch.squeeze, torch.flatten, torch.reshape, torch.clone}
_RESHAPING |= {Tensor.squeeze, Tensor.flatten, Tensor.reshape, Tensor.view, Tensor.clone, Tensor.contiguous}
_RESHAPING |= {Tensor.to, Tensor.float, Tensor.double, torch.unsqueeze, Tensor.unsqueeze}
"""Functions that a model may apply to its probabilities, and that are then applied to the logits instead."""

_SELECTING: set[Any] = {Tensor.__getitem__, torch.select, Tensor.select, torch.narrow, Tensor.narrow}
"""The same, but a part of a softmax is no softmax."""

_CLAMPING: set[Any] = {torch.clamp, Tensor.clamp, torch.clip, Tensor.clip, torch.clamp_min, Tensor.clamp_min}
_CLAMPING |= {torch.clamp_max, Tensor.clamp_max}
"""Functions that keep probabilities away from 0 and 1; the logits stay."""


def activate(logits: Tensor, activation: str) -> Tensor:
    """Return the values to show of logits `(..., classes)`, float32 or float64: probabilities, or the outputs."""
    values = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return {"softmax": lambda: values.softmax(-1), "sigmoid": values.sigmoid, "none": lambda: values}[activation]()


def activation_of(model: nn.Module) -> str:
    """Return the activation of a classifier's `logits_model`."""
    return model.activation if isinstance(model, LogitsModel) else "softmax"


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside `DataParallel`, `AveragedModel` and compiled models, whose layers take hooks."""
    wrappers = nn.DataParallel, nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel
    while isinstance(model, wrappers) or isinstance(getattr(model, "_orig_mod", None), nn.Module):
        model = model.module if isinstance(model, wrappers) else model._orig_mod  # type: ignore[assignment]
    return model


def inner_model(model: nn.Module) -> nn.Module:
    """Return the model inside a `LogitsModel`, whose layers have the names that users know; others as they are."""
    return model.module if isinstance(model, LogitsModel) else model


class LogitsModel(nn.Module):
    """A model whose output is turned into logits `(B, classes)`.

    Args:
        module: the model.
        output: key or index of the logits in its output; None if the output is the logits.
        removes: how to undo a softmax or sigmoid at the end: "call" takes what went into it, "log" the logarithm of the
            probabilities, "logit" their log odds.
        pair: turn the single logit z of two classes into the logits (-z, z).
        activation: one of `ACTIVATIONS`.
    """

    def __init__(
        self,
        module: nn.Module,
        output: str | int | None,
        removes: Literal["", "call", "log", "logit"],
        pair: bool,
        activation: str,
    ) -> None:
        super().__init__()
        self.module, self.output, self.removes, self.pair = module, output, removes, pair
        self.activation = activation
        self.training = module.training
        # A module that was compiled in place ignores hooks that are added later, unless it runs eagerly.
        self.compiled = _is_compiled(module)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, channels, S, S)` to logits `(B, classes)`."""
        activation = _LastActivation()
        with ExitStack() as stack:
            if self.compiled:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            if self.removes == "call":
                stack.enter_context(activation)
            output = self.module(x)
        logits = _entry(output, self.output)
        if self.removes == "call":
            if activation.result is not logits:
                raise ModelError("the model ended in a softmax or sigmoid on a trial image, and now does not.")
            logits = activation.logits
        elif self.removes == "log":
            logits = logits.clamp_min(torch.finfo(logits.dtype).tiny).log()
        elif self.removes == "logit":
            logits = logits.logit(torch.finfo(logits.dtype).eps)
        return self.as_classes(logits, x.shape[0])

    def as_classes(self, logits: Tensor, batch: int) -> Tensor:
        """Return logits of any shape for a batch as `(B, classes)`; a single logit of two classes becomes two."""
        logits = logits.reshape(batch, -1)
        return torch.cat([-logits, logits], 1) if self.pair else logits


class Contract(NamedTuple):
    """What a trial image settled."""

    model: nn.Module
    """From images to logits `(B, classes)`: the model itself, or a `LogitsModel` around it."""
    classes: int | None
    """Number of classes; None if no trial image can pass, as on the meta device."""
    activation: str


@dataclass(frozen=True)
class Trial:
    """What is asked of a model."""

    name: str
    channels: int
    size: int
    """Side of the image in pixels."""
    labels: int | None
    """Number of labels, if they are given."""
    activation: str | None
    output: str | int | None


def settle(model: nn.Module, trial: Trial) -> Contract:
    """Pass one image through a model and settle how its output becomes logits.

    The image passes in evaluation mode, without gradients; modes are restored. Our own Swin needs no image.

    Raises:
        ModelError: the model does not take the image, or returns no logits.
        ConfigError: `activation` does not fit the model.
    """
    if type(model) is Swin and trial.output is None:
        channels, single = model.config.in_chans, model.config.num_classes == 1
        if channels != trial.channels:
            raise ModelError(f"{trial.name} takes {_count(channels, 'channel')}; mean and std have {trial.channels}.")
        activation = _activation(trial, single, "")
        pair = single and activation == "sigmoid"
        plain = activation == "softmax" and not _is_compiled(model)
        own = model if plain else LogitsModel(model, None, "", pair, activation)
        return Contract(own, 2 if pair else model.config.num_classes, activation)
    tensors = [*model.parameters(), *model.buffers()]
    if any(tensor.is_meta or isinstance(tensor, torch._subclasses.FakeTensor) for tensor in tensors):
        activation = trial.activation or "softmax"
        return Contract(LogitsModel(model, trial.output, "", False, activation), None, activation)
    output, last = _pass_image(model, trial)
    key = _find_logits(output, trial)
    logits = _entry(output, key)
    ends_in = last.kind if last.result is logits else ""
    single = logits.numel() == 1
    log = not ends_in and not single and _are_probabilities(logits)
    activation = _activation(trial, single, "softmax" if log else ends_in)
    pair = single and activation == "sigmoid"
    removes: Literal["", "call", "log", "logit"] = ""
    if activation != "none":
        removes = ("logit" if last.by_value else "call") if ends_in else "log" if log else ""
    plain = key is None and not removes and activation == "softmax" and not _is_compiled(model) and logits.dim() == 2
    adapted = model if plain else LogitsModel(model, key, removes, pair, activation)
    return Contract(adapted, 2 if pair else logits.numel(), activation)


def expected_channels(model: nn.Module) -> int | None:
    """Return the channels of a model's first convolution, or None."""
    return next((part.in_channels for part in model.modules() if isinstance(part, nn.Conv2d)), None)


def expected_size(model: nn.Module) -> int | None:
    """Return the image size that a model states, as those of timm, torchvision and transformers do, or None."""
    for owner, attribute in (
        ("patch_embed", "img_size"),
        ("", "img_size"),
        ("", "image_size"),
        ("config", "image_size"),
    ):
        size = getattr(getattr(model, owner, None) if owner else model, attribute, None)
        sides = {size} if isinstance(size, int) else set(size) if isinstance(size, list | tuple) else set()
        if len(sides) == 1 and isinstance(side := sides.pop(), int):
            return side
    return None


def _activation(trial: Trial, single: bool, ends_in: str) -> str:
    """Return the activation that was asked for, or the one that fits a model's output."""
    asked = trial.activation
    if asked == "softmax" and single:
        raise ConfigError(
            f"{trial.name} has a single output, whose softmax is always 1: use activation='sigmoid' for two classes, "
            "or 'none' for a regression."
        )
    if ends_in and asked not in (None, "none", ends_in):
        raise ConfigError(f"{trial.name} ends in a {ends_in}, so activation={asked!r} does not fit; leave it out.")
    return asked or ends_in or ("sigmoid" if single else "softmax")


def _pass_image(model: nn.Module, trial: Trial) -> tuple[Any, "_LastActivation"]:
    """Return the model's output for a trial image, and the last softmax or sigmoid that ran."""
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    shape = (1, trial.channels, trial.size, trial.size)
    values = trial.channels * trial.size**2
    # Not constant, since some models divide by the image's variance.
    image = torch.linspace(-1, 1, values, device=parameter.device).view(shape).to(parameter.dtype)
    last = _LastActivation()
    with ExitStack() as stack:
        # Not in inference mode, since some models keep tensors for later passes, which may need gradients.
        for context in (evaluation_mode(model), torch.inference_mode(False), torch.no_grad(), last):
            stack.enter_context(context)
        stack.enter_context(torch.autocast(image.device.type, enabled=False))
        if _is_compiled(model):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            return model(image), last
        except Exception as error:  # a model may raise anything
            raise ModelError(_refusal(model, trial, error)) from error


def _refusal(model: nn.Module, trial: Trial, error: Exception) -> str:
    channels, size = expected_channels(model), expected_size(model)
    if channels not in (None, trial.channels):
        hint = f"its first layer takes {_count(channels or 0, 'channel')}, so mean and std need as many numbers"
    elif size not in (None, trial.size):
        hint = f"it is made for image_size={size}"
    else:
        hint = "a classifier takes images (B, channels, height, width) and returns logits (B, classes)"
    reason = (" ".join(str(error).split()) or type(error).__name__)[:160]
    return (
        f"{trial.name} does not take an image of {_count(trial.channels, 'channel')} and {trial.size} x {trial.size} "
        f"pixels: {hint} ({reason})."
    )


def _is_compiled(model: nn.Module) -> bool:
    """Return whether a part of the model was compiled in place."""
    return any(part._compiled_call_impl is not None for part in model.modules())


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _entries(output: Any) -> Iterator[tuple[str | int | None, Any]]:
    """Yield the keys and entries of a model's output for one image."""
    if isinstance(output, Tensor):
        yield None, output
    elif isinstance(output, Mapping):
        yield from output.items()
    elif isinstance(output, list | tuple):
        yield from enumerate(output)
    elif is_dataclass(output) and not isinstance(output, type):  # one with slots has no __dict__
        yield from ((field.name, getattr(output, field.name)) for field in fields(output))
    elif hasattr(output, "__dict__"):
        yield from vars(output).items()


def _entry(output: Any, key: str | int | None) -> Tensor:
    if key is None:
        return output
    if isinstance(output, Mapping):
        return output[key]
    return output[int(key)] if isinstance(output, list | tuple) else getattr(output, str(key))


def _find_logits(output: Any, trial: Trial) -> str | int | None:
    """Return the key of the logits in the output for one image: `output` if given, or the first that fits.

    Raises:
        ModelError: no entry holds logits `(B, classes)`.
    """
    entries = dict(_entries(output))
    if trial.output is not None:
        if trial.output not in entries:
            known = ", ".join(map(repr, entries)) or "none"
            raise ModelError(f"{trial.name} returns no output {trial.output!r}; its outputs are {known}.")
        entries = {trial.output: entries[trial.output]}
    fitting = {key: value for key, value in entries.items() if _is_logits(value)}
    if "logits" in fitting:
        return "logits"
    widths = {key: value.numel() for key, value in fitting.items()}
    for key, width in widths.items():
        if width == trial.labels:
            return key
    if not widths:
        shapes = ", ".join(
            (f"{key}: " if key is not None else "")
            + (str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__)
            for key, value in entries.items()
        )
        raise ModelError(
            f"{trial.name} returns {shapes or type(output).__name__}, not logits (B, classes); give a model with a "
            "classification head, or name the right output by output=."
        )
    return next(iter(widths))


def _is_logits(value: Any) -> bool:
    """Whether this is one number per class of one image; models may squeeze the batch away."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or not value.numel():
        return False
    return value.dim() < 2 or (len(value) == 1 and value.numel() == value.shape[1])


def _are_probabilities(values: Tensor) -> bool:
    return bool((values >= 0).all()) and abs(float(values.double().sum()) - 1) < 1e-3


class _LastActivation(TorchFunctionMode):
    """Remembers the last softmax or sigmoid of this thread and what went into it."""

    def __init__(self) -> None:
        super().__init__()
        self.kind: Literal["", "softmax", "sigmoid"] = ""
        self.logits = self.result = torch.empty(0)
        self.by_value = False
        """Whether the logits have to be computed from the probabilities."""

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a PyTorch function that this thread calls."""
        named = kwargs or {}
        result = call(*args, **named)
        if call in _CALLS:
            self.kind, self.result, self.by_value = _CALLS[call], result, False
            self.logits = args[0] if args else named["input"]
        elif call in _SIGMOID_VALUES:
            self.kind, self.result, self.by_value = "sigmoid", result, True
        elif self.kind and args and args[0] is self.result:
            if call in _SELECTING and self.kind == "softmax":
                self.kind, self.by_value = "sigmoid", True
            if call in _RESHAPING | _SELECTING:
                self.logits = self.logits if self.by_value else call(self.logits, *args[1:], **named)
                self.result = result
            elif call in _CLAMPING:
                self.result = result
        return result
