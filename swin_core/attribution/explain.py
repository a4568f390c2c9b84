"""Explain a classifier's predictions: one image, several questions about one image, or many images."""

import operator
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from swin_core.attribution.defaults import default_method
from swin_core.attribution.dispatch import Layers, chosen_layers, chosen_method, run_method
from swin_core.attribution.explanation import Explanation
from swin_core.attribution.gradcam import SharedPasses, resize_maps, share_passes, shared_forward
from swin_core.attribution.layers import default_layer
from swin_core.attribution.targets import RUNNER_UP, Against, Attribution, Target, TargetSelector, image_targets
from swin_core.class_names import find_class
from swin_core.errors import ConfigError, ImageError, SwinError, TargetError, first_names
from swin_core.system.batches import images_at_once
from swin_core.zoo.classifier import Classifier
from swin_core.zoo.inputs import ImageInput, PreparedImage, as_classifier, is_normalised, prepare

FUSIONS = ("mean", "max")
"""Ways to fuse the maps of several layers into one."""

Targets: TypeAlias = "Sequence[int | str] | int | str | None"
ReshapeTransform: TypeAlias = Callable[[Tensor], Tensor]


def explain(
    classifier: Classifier | nn.Module,
    image: ImageInput,
    targets: Targets = None,
    method: str | None = None,
    layers: Layers = None,
    reshape_transform: ReshapeTransform | None = None,
    *,
    against: Against = None,
    fuse: str | None = None,
    device: str | torch.device | None = None,
) -> Explanation:
    """Return attribution maps of one image, for each target class and layer.

    Safe to call from several threads: calls on one model wait for each other. Hooks, gradients and modes of the model
    are left as they were.

    Args:
        classifier: a classifier, or a bare module. A model of timm brings its preprocessing; any other bare module
            takes normalised tensors only.
        image: a PIL image, path, bytes, array, uint8 tensor, or float tensor, which is taken as normalised; see
            `zoo.inputs.prepare` for shapes.
        targets: classes by index or name, one or K of them; None for the most likely class.
        method: a key of `METHODS`; None for the best one measured for the architecture.
        layers: target layers by name or module, one or L of them; None for the architecture's default. Methods that
            explain the pixels take none; relevance propagation also takes the stages of `Swin`.
        reshape_transform: from a layer's output to `(B, C, h, w)`, for layouts that are not detected.
        against: contrast classes, one for all targets or one for each, by index, name or "runner-up": explain
            `logit[target] - logit[against]`.
        fuse: fuse the maps of several layers into one by "mean" or "max". Each map is first divided by its own mean, so
            that layers of large values do not dominate.
        device: where to move the model first; None leaves it where it is.

    Returns:
        Maps `(K, L, h, w)`, not rescaled, non-negative unless the method is signed; of several layers on the finest of
        their grids, or `(K, 1, h, w)` if fused.

    Raises:
        ConfigError: an unknown method or fusion, or missing preprocessing.
        ImageError: not an image, or one of a single colour.
        TargetError: a class that the model does not have.
        LayerError: a layer that does not exist or has no grid.
    """
    with explaining(classifier, image, device=device) as session:
        return session.explain(targets, method, layers, reshape_transform, against=against, fuse=fuse)


@contextmanager
def explaining(
    classifier: Classifier | nn.Module,
    image: ImageInput,
    layers: Layers = None,
    *,
    device: str | torch.device | None = None,
) -> Iterator["ExplanationSession"]:
    """Open a session that explains one image several times from one forward pass.

    CAM methods share the forward pass for all targets and for the layers named here; another layer, and methods that
    explain the pixels, need passes of their own. The activations are freed when the block ends. No hook outlasts the
    forward pass.

    Args:
        classifier: as in `explain`.
        image: as in `explain`.
        layers: layers to capture in every pass, beside those of the request; name all that the session will explain.
        device: where to move the model first.

    Raises:
        As `explain`.
    """
    model = as_classifier(classifier, image)
    if device is not None:
        model.to(device)
    session = ExplanationSession(model, prepare(model, image), layers)
    try:
        yield session
    finally:
        session.close()


class ExplanationSession:
    """Explanations of one image that share a forward pass; see `explaining`."""

    def __init__(self, classifier: Classifier, image: PreparedImage, layers: Layers = None):
        self._classifier, self._image = classifier, image
        names = () if layers is None else chosen_layers(classifier, chosen_method("gradcam"), layers)
        self._passes: SharedPasses | None = SharedPasses(image.x, names)

    @property
    def probabilities(self) -> np.ndarray:
        """Class probabilities of the image, `(classes,)` float32."""
        passes = self._open()
        if not passes.passes:
            layers = passes.layers or (default_layer(self._classifier),)
            with (
                self._classifier.lock,
                share_passes(passes),
                shared_forward(self._classifier.logits_model, passes.x, layers),
            ):
                pass
        return self._classifier.probabilities(passes.passes[0].logits[0].detach()).cpu().numpy()

    def explain(
        self,
        targets: Targets = None,
        method: str | None = None,
        layers: Layers = None,
        reshape_transform: ReshapeTransform | None = None,
        *,
        against: Against = None,
        fuse: str | None = None,
    ) -> Explanation:
        """Return attribution maps; arguments, result and errors as in the function `explain`."""
        call = _Call(self._classifier, method, layers, reshape_transform, against, fuse)
        select = image_targets(call.indices(targets), call.against(against), self._classifier.labels)
        attribution = call.run(self._image.x, select, self._open())
        return call.explanation(attribution, 0, self._image)

    def close(self) -> None:
        """Free the activations; the session cannot be used any more."""
        self._passes = None

    def _open(self) -> SharedPasses:
        if self._passes is None:
            raise ConfigError("the session is closed; explain inside its `with` block.")
        return self._passes


def explain_batch(
    classifier: Classifier | nn.Module,
    images: Sequence[ImageInput] | Tensor,
    targets: Targets = None,
    method: str | None = None,
    layers: Layers = None,
    reshape_transform: ReshapeTransform | None = None,
    *,
    against: Against = None,
    fuse: str | None = None,
    batch_size: int = 16,
    device: str | torch.device | None = None,
) -> list[Explanation]:
    """Return an explanation of one target class for each of several images, computed in batches.

    Args:
        classifier: as in `explain`.
        images: images as in `explain`, or a tensor `(N, C, H, W)`.
        targets: one class for all images, or one for each; None for the most likely class of each.
        method: as in `explain`.
        layers: as in `explain`.
        reshape_transform: as in `explain`.
        against: one contrast class for all images, or one for each.
        fuse: as in `explain`.
        batch_size: most images in one forward pass; a CPU takes fewer where a larger batch is no faster.
        device: as in `explain`.

    Returns:
        N explanations with maps `(1, L, h, w)`; they equal those of `explain` within rounding.

    Raises:
        As `explain`; TargetError also if the number of classes is not that of the images.
    """
    if isinstance(images, str | bytes | os.PathLike | Image.Image) or not isinstance(images, Iterable):
        raise ImageError("explain_batch takes a list of images; explain takes one.")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {batch_size}.")
    images = images if isinstance(images, Tensor) else list(images)
    if not len(images):
        return []
    # A bare module without preprocessing is refused if any of the images needs some.
    unprepared = () if isinstance(images, Tensor) else (image for image in images if not is_normalised(image))
    model = as_classifier(classifier, images if isinstance(images, Tensor) else next(iter(unprepared), images[0]))
    if device is not None:
        model.to(device)
    call = _Call(model, method, layers, reshape_transform, against, fuse)
    chosen = _one_each(call.indices(targets), len(images))
    contrasts = _one_each(call.against(against), len(images))
    explanations = []
    step = images_at_once(model.device, model.image_size, batch_size, gradients=True)
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        prepared = [prepare(model, image) for image in images[part]]
        if len(sizes := {tuple(image.x.shape[2:]) for image in prepared}) > 1:
            raise ImageError(f"the tensors of a batch must have one size, not {' and '.join(map(str, sorted(sizes)))}.")
        select = _select_each(chosen[part], contrasts[part], model.labels)
        attribution = call.run(torch.cat([image.x for image in prepared]), select)
        explanations += [call.explanation(attribution, index, image) for index, image in enumerate(prepared)]
    return explanations


def _is_single(classes: object) -> bool:
    """Return whether this names one class: a text, or a number, also of NumPy or PyTorch."""
    return isinstance(classes, str | bytes | int | float) or getattr(classes, "ndim", None) == 0


def _listed(classes: Any) -> list[Any]:
    """Return classes as a list, also if there is only one."""
    if not _is_single(classes) and not isinstance(classes, Iterable):
        raise TargetError(f"name a class by its index or its name, not by {classes!r}.")
    return [classes] if _is_single(classes) else list(classes)


def _one_each(classes: Against, count: int) -> list[int | str | None]:
    """Return one class for each of `count` images."""
    if classes is None or isinstance(classes, int | str):
        return [classes] * count
    if len(classes) not in (1, count):
        raise TargetError(f"{len(classes)} classes for {count} images: name one, or one for each.")
    return [*classes] * (count if len(classes) == 1 else 1)


def _select_each(
    targets: Sequence[int | str | None], contrasts: Sequence[int | str | None], labels: Sequence[str]
) -> TargetSelector:
    """Return a selector of one target for each image of a batch."""

    def select(logits: Tensor) -> list[Target]:
        single = [
            image_targets(None if target is None else [int(target)], contrast, labels)(row)[0]
            for target, contrast, row in zip(targets, contrasts, logits.split(1), strict=True)
        ]
        others = [target.against for target in single if target.against is not None]
        return [Target(torch.cat([target.classes for target in single]), torch.cat(others) if others else None)]

    return select


class _Call:
    """A request that has been checked: a classifier, a method and its layers."""

    def __init__(
        self,
        classifier: Classifier,
        method: str | None,
        layers: Layers,
        reshape_transform: ReshapeTransform | None,
        against: Against,
        fuse: str | None,
    ):
        if method is None:
            method = default_method(classifier, at_layer=layers is not None or reshape_transform is not None)
        self.classifier = classifier
        self.method = chosen_method(method, compares=against is not None)
        if fuse is not None and fuse not in FUSIONS:
            raise ConfigError(f"maps can be fused by {' or '.join(FUSIONS)}, not {fuse!r}.")
        self.fuse = fuse
        self.layers = chosen_layers(classifier, self.method, layers)
        self.reshape_transform = reshape_transform

    def indices(self, targets: Targets) -> list[int] | None:
        """Return the indices of target classes; None for the most likely one."""
        if targets is None:
            return None
        return [self._index(target) for target in _listed(targets)]

    def against(self, against: Against) -> Against:
        """Return the contrast classes by index; the runner-up is known only with the logits."""
        if against is None or against == RUNNER_UP:
            return against
        others = [other if other == RUNNER_UP else self._index(other) for other in _listed(against)]
        return others[0] if _is_single(against) else others

    def _index(self, target: object) -> int:
        if not isinstance(target, str):
            try:
                if isinstance(target, bool) or getattr(target, "dtype", None) == torch.bool:
                    raise TypeError("a truth value is no index, although Python counts it among the integers")
                return operator.index(target)  # type: ignore[arg-type]
            except TypeError as error:
                raise TargetError(f"name a class by its index or its name, not by {target!r}.") from error
        labels = self.classifier.labels
        index = find_class(labels, target)
        if (
            index is None and target.isdecimal() and len(target) < 10
        ):  # a shell has no numbers; a class named by one was found above
            index = int(target)
        if index is not None:
            return index
        raise TargetError(
            f"{self.classifier.name} has no class {target[:80]!r}; it knows {first_names(labels)}, or use an index."
        )

    def run(self, x: Tensor, select: TargetSelector, passes: SharedPasses | None = None) -> Attribution:
        """Run the method, with the forward passes of a session if it has some."""
        classifier = self.classifier
        with classifier.lock, share_passes(passes):
            try:
                return run_method(classifier.logits_model, x, select, self.method, self.layers, self.reshape_transform)
            except (AssertionError, RuntimeError, ValueError) as error:
                height, width = x.shape[2:]
                fits = height == width == classifier.image_size and not isinstance(error, AssertionError)
                if fits or isinstance(error, SwinError | torch.OutOfMemoryError):
                    raise
                reason = " ".join(str(error).split())[:160].rstrip(".") or type(error).__name__
                raise ImageError(f"{classifier.name} cannot take {height} x {width} pixels: {reason}.") from error

    def explanation(self, attribution: Attribution, index: int, image: PreparedImage) -> Explanation:
        """Return the explanation of one image of the batch."""
        classifier = self.classifier
        logits = attribution.logits[index].float()
        maps = torch.stack([resize_maps([layer[index].float() for layer in row]) for row in attribution.maps])
        contrasts = [int(target.against[index]) for target in attribution.targets if target.against is not None]
        completeness = attribution.completeness
        return Explanation(
            model=classifier.name,
            method=self.method.name,
            labels=classifier.labels,
            weights_hash=classifier.weights_hash,
            view=image.view,
            image=image.image,
            logits=logits.cpu().numpy(),
            probabilities=classifier.probabilities(logits).cpu().numpy(),
            activation=classifier.activation,
            targets=tuple(int(target.classes[index]) for target in attribution.targets),
            layers=self.layers if self.fuse is None else (" + ".join(self.layers),),
            maps=(maps if self.fuse is None else _fused(maps, self.fuse)).cpu().numpy(),
            region=image.region,
            completeness=None
            if completeness is None
            else torch.stack([distance[index] for distance in completeness]).float().cpu().numpy(),
            against=tuple(contrasts) or None,
            fused=self.fuse or "",
        )


def _fused(maps: Tensor, fuse: str) -> Tensor:
    """Fuse the maps of several layers, `(K, L, h, w)` to `(K, 1, h, w)`; empty maps stay empty."""
    means = maps.abs().mean((2, 3), keepdim=True)
    scaled = torch.where(means > 0, maps / means, 0)
    return scaled.mean(1, keepdim=True) if fuse == "mean" else scaled.amax(1, keepdim=True)
