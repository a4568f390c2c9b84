"""Methods of pytorch-grad-cam behind our call: on any layout, without a trace, and with their maps as they come.

Its maps are taken before it stretches each to its own maximum and resizes it; hooks, modes, parameters and their
gradients are as before when a call ends, however it ends; its progress bars stay silent. Two methods are mended where
they fail or say nothing on tokens, Ablation-CAM and ShapleyCAM, each where it is defined below.
"""

import threading
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from swin_core.errors import TargetError
from swin_core.explain.cam import layer_maps
from swin_core.explain.layers import layer_arrangement, target_modules
from swin_core.explain.questions import Answer, Ask, Question
from swin_core.explain.weighting import RULES, peak_up
from swin_core.modes import evaluation_mode, frozen_parameters

__all__ = ["WRAPPED", "wrapped_maps"]

# pytorch_grad_cam is imported where it is needed: it brings pyplot and scikit-learn along.

Arrange = Callable[[Tensor], Tensor]
Target = Callable[[Tensor], Tensor]

_CLOSEST = 3
"""Classes that Finer-CAM compares with, as in pytorch-grad-cam."""
_SCALES = 6
"""Scales of SESS, 31 crops of a square picture: pytorch-grad-cam's twelve would be 122."""

_second_order = threading.Lock()
"""Which attention kernel PyTorch takes is set for the whole process."""


@dataclass(frozen=True)
class _Call:
    """One question at one layer."""

    model: nn.Module
    module: nn.Module
    """The target layer."""
    arrange: Arrange
    """From the layer's output to `(B, C, h, w)`."""
    x: Tensor
    """`(B, channels, H, W)`."""
    question: Question
    logits: Tensor
    """`(B, classes)`."""

    @property
    def targets(self) -> list[Target]:
        """The question of each picture as pytorch-grad-cam has it: from `(..., classes)` to the score `(...)`."""
        pictures = torch.arange(len(self.x), device=self.question.targets.device)
        return [partial(_score, self.question.of(picture)) for picture in pictures[:, None]]


def _score(question: Question, logits: Tensor) -> Tensor:
    rows = logits.reshape(-1, logits.shape[-1])
    same = torch.zeros(len(rows), dtype=torch.long, device=question.targets.device)
    return question.of(same).score(rows).view(logits.shape[:-1])


def wrapped_maps(
    model: nn.Module,
    x: Tensor,
    ask: Ask,
    layers: Sequence[str],
    method: str,
    reshape_transform: Arrange | None = None,
) -> Answer:
    """Maps of one of pytorch-grad-cam's methods for each question and layer.

    Args:
        model: any classifier.
        x: normalised pictures, `(B, channels, H, W)`.
        ask: what to ask of the logits.
        layers: target layers by name.
        method: a key of `WRAPPED`.
        reshape_transform: from a layer's output to `(B, C, h, w)`; None finds the layout.

    Raises:
        TargetError: a class outside the model's.
        LayerError: a layer that cannot be explained.
    """
    # Ours first: it refuses what cannot be explained with one clear line, and says what the questions are.
    found = layer_maps(model, x, ask, layers, RULES["gradcam"], reshape_transform)
    modules = target_modules(model, layers)
    wrap, by_class = WRAPPED[method]
    rows: list[list[Tensor]] = []
    for question in found.questions:
        if rows and not by_class:
            rows.append(rows[0])
            continue
        row = []
        for name in layers:
            arrange = reshape_transform or layer_arrangement(model, name, (x.shape[2], x.shape[3]))
            with _traceless(model, name):
                values = wrap(_Call(model, modules[name], arrange, x.clone(), question, found.logits))
            row.append(torch.from_numpy(np.asarray(values, np.float32)).to(x.device).relu())
        rows.append(row)
    return Answer(found.logits, found.questions, rows)


@contextmanager
def _traceless(model: nn.Module, name: str) -> Iterator[None]:
    """Restore whatever pytorch-grad-cam changes in a model, and give it the modes of PyTorch that it counts on."""
    parent, _, leaf = name.rpartition(".")
    holder = model.get_submodule(parent)
    module = holder._modules[leaf]
    device = next((parameter.device.type for parameter in model.parameters()), "cpu")
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device, enabled=False),
        evaluation_mode(model),
        frozen_parameters(model),
    ):
        try:
            yield
        finally:
            holder._modules[leaf] = module  # Ablation-CAM puts another one in its place


def _run(cam: Any, call: _Call, targets: Sequence[Target]) -> np.ndarray:
    """The map of a method before it is stretched and resized, `(B, h, w)`."""
    base = getattr(cam, "base_cam", cam)
    # What follows a layer may work in place: what was captured must not change with it.
    hook = call.module.register_forward_hook(lambda _module, _inputs, output: output.clone())
    try:
        cam.compute_input_gradient = base.compute_input_gradient = base.uses_gradients  # parameters are frozen
        cam.forward(call.x, targets)
        return base.raw
    finally:
        hook.remove()
        _release(base, call.module)


def _release(base: Any, module: nn.Module) -> None:
    """Remove the hooks of a method; its own `release` fails before that where a captured tensor is a view."""
    base.activations_and_grads.activations, base.activations_and_grads.gradients = [], []
    base.activations_and_grads.release()
    for key, hook in list(module._forward_hooks.items()):
        if getattr(hook, "__self__", None) is base:  # Ablation-CAM's own, if the model failed meanwhile
            del module._forward_hooks[key]


def _recording(base: type) -> type:
    """A method of pytorch-grad-cam that keeps the map which it is about to stretch."""

    def get_cam_image(self: Any, *arguments: Any) -> np.ndarray:
        self.raw = base.get_cam_image(self, *arguments)  # type: ignore[attr-defined]
        return self.raw

    return type(f"Recording{base.__name__}", (base,), {"get_cam_image": get_cam_image})


def _silent(method: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with another `tqdm`, one that prints nothing, among the names that it knows."""
    assert isinstance(method, types.FunctionType)
    names = {**method.__globals__, "tqdm": types.SimpleNamespace(tqdm=iter)}
    return types.FunctionType(method.__code__, names, method.__name__, method.__defaults__, method.__closure__)


@cache
def _score_cam() -> type:
    from pytorch_grad_cam import ScoreCAM

    return _recording(type("SilentScoreCAM", (ScoreCAM,), {"get_cam_weights": _silent(ScoreCAM.get_cam_weights)}))


def _scored(call: _Call) -> np.ndarray:
    """Score-CAM (Wang et al. 2020, eq. 5 to 7)."""
    return _run(_score_cam()(call.model, [call.module], call.arrange), call, call.targets)


@cache
def _ablation_cam() -> tuple[type, type]:
    from pytorch_grad_cam import AblationCAM
    from pytorch_grad_cam.ablation_layer import AblationLayer

    class Zeros(AblationLayer):
        """Sets one channel to 0, as in the paper, in any layout.

        pytorch-grad-cam's own layers set -10,000,000 where an activation is below 0, as they all are somewhere in a
        transformer: a LayerNorm behind it then gives the same whichever channel it was.
        """

        def __init__(self, replaced: nn.Module, arrange: Arrange) -> None:
            super().__init__()
            object.__setattr__(self, "replaced", replaced)  # not as a module of this one
            self.arrange = arrange

        def __getattr__(self, name: str) -> Any:
            """What else the model uses of the layer, such as the patch merging of a stage."""
            return getattr(object.__getattribute__(self, "replaced"), name)

        def set_next_batch(self, input_batch_index: int, activations: Tensor, num_channels_to_ablate: int) -> None:
            one = activations[input_batch_index : input_batch_index + 1]
            self.activations = one.repeat_interleave(num_channels_to_ablate, 0)

        def __call__(self, x: Tensor) -> Tensor:
            channels_first = self.arrange(self.activations)  # a view
            for picture, channel in enumerate(self.indices[: len(channels_first)]):
                channels_first[picture, channel] = 0
            return self.activations

    silent = _silent(AblationCAM.get_cam_weights)

    def get_cam_weights(self: Any, x: Tensor, layer: Any, targets: Any, activations: np.ndarray, grads: Any) -> Any:
        """The fall of the score (Desai and Ramaswamy 2020, eq. 3) without its division by the score.

        Divided by a negative score the map would be turned over; by a positive one only its strength changes.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = silent(self, x, layer, targets, activations, grads)
        scores = np.array([target(output).item() for target, output in zip(targets, self.outputs, strict=True)])
        return np.nan_to_num(shares * scores[:, None], posinf=0, neginf=0)

    return _recording(type("FallCAM", (AblationCAM,), {"get_cam_weights": get_cam_weights})), Zeros


def _ablated(call: _Call) -> np.ndarray:
    """Ablation-CAM (Desai and Ramaswamy 2020)."""
    cam, zeros = _ablation_cam()
    return _run(cam(call.model, [call.module], call.arrange, zeros(call.module, call.arrange)), call, call.targets)


def _finer(call: _Call) -> np.ndarray:
    """Finer-CAM (Zhang et al. 2025): Grad-CAM of the class less the closest ones, or the one that is asked for."""
    from pytorch_grad_cam import FinerCAM, GradCAM
    from pytorch_grad_cam.utils.model_targets import FinerWeightedTarget

    if call.logits.shape[1] < 2:
        raise TargetError("Finer-CAM compares classes and the model has a single one; choose another method.")
    targets = []
    for picture, target in enumerate(call.question.targets.tolist()):
        distance = (call.logits[picture] - call.logits[picture, target]).abs()
        distance[target] = float("inf")
        closest = distance.argsort()[: min(_CLOSEST, len(distance) - 1)].tolist()
        others = closest if call.question.against is None else [int(call.question.against[picture])]
        targets.append(FinerWeightedTarget(target, others, 1))
    return _run(FinerCAM(call.model, [call.module], call.arrange, _recording(GradCAM)), call, targets)


@cache
def _shapley_cam() -> type:
    from pytorch_grad_cam import ShapleyCAM

    class OnTokens(ShapleyCAM):
        """pytorch-grad-cam arranges the weights but not the activations, which fails on any layout but its own.

        It also fails where the score is linear in the activations, so that there is no second derivative.
        """

        def get_cam_image(
            self, x: Tensor, layer: Any, targets: Any, activations: Tensor, grads: Tensor, _: bool
        ) -> Any:
            arrange = self.activations_and_grads.reshape_transform
            if grads.requires_grad:
                weights = self.get_cam_weights(x, layer, targets, activations, grads)
            else:
                weights = arrange(grads).mean((2, 3)).cpu().numpy()
            self.raw = np.einsum("bchw,bc->bhw", arrange(activations).detach().cpu().numpy(), weights)
            return self.raw

    return OnTokens


def _shapley(call: _Call) -> np.ndarray:
    """ShapleyCAM (Cai 2025): Grad-CAM, with half of the Hessian times the activations taken from the gradient."""
    # The fused attention kernels have no second derivative.
    with _second_order, sdpa_kernel(SDPBackend.MATH):
        return _run(_shapley_cam()(call.model, [call.module], call.arrange), call, call.targets)


@cache
def _kernel_cam() -> type:
    from pytorch_grad_cam import KPCA_CAM

    return _recording(KPCA_CAM)


def _kernel(call: _Call) -> np.ndarray:
    """KPCA-CAM (Karmani et al. 2024); its component has no sign of its own, so its greatest magnitude is positive."""
    raw = _run(_kernel_cam()(call.model, [call.module], call.arrange), call, call.targets)
    return peak_up(torch.from_numpy(np.nan_to_num(raw))).numpy()


def _scales(call: _Call) -> np.ndarray:
    """SESS (Tursun et al. 2022): Grad-CAM of crops at several scales, put together; `(B, H, W)`, relative."""
    from pytorch_grad_cam import SESS

    cam = SESS(call.model, [call.module], call.arrange, num_scales=_SCALES)
    try:
        cam.base_cam.compute_input_gradient = True
        pairs = zip(call.x.split(1), call.targets, strict=True)
        return np.stack([cam.forward_single_image(picture, target) for picture, target in pairs])
    finally:
        _release(cam.base_cam, call.module)


WRAPPED: dict[str, tuple[Callable[[_Call], np.ndarray], bool]] = {
    "kpcacam": (_kernel, False),
    "finercam": (_finer, True),
    "shapleycam": (_shapley, True),
    "scorecam": (_scored, True),
    "ablationcam": (_ablated, True),
    "sess": (_scales, True),
}
"""What is wrapped, by the name of its method, and whether it depends on the class."""
