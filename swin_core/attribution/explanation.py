"""The result of an explanation, from which figures, pages and exports are drawn."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from swin_core.attribution.overlay import Look, enlarged, overlay, scale_top
from swin_core.attribution.regions import Region
from swin_core.class_names import find_class
from swin_core.errors import ConfigError, TargetError, first_names
from swin_core.system.atomic import write_file
from swin_core.system.renderers import RENDERERS

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Attribution maps of K target classes at L target layers, for one model and one image.

    Attributes:
        model: the classifier's name.
        method: the attribution method, for instance "gradcam".
        labels: the model's class names, one per logit.
        weights_hash: hash of the weights.
        view: the pixels that the model saw, `(H, W, 3)` uint8.
        image: the same crop at the image's resolution, `(h0, w0, 3)` uint8, longest side at most 512 pixels.
        logits: `(classes,)`, float32.
        probabilities: of the classes, `(classes,)`, float32; of a regression the outputs themselves.
        targets: class indices, K of them.
        layers: names of the L target layers; "input" for methods that explain the pixels. Maps fused of several layers
            have all names, joined by " + ".
        maps: `(K, L, h, w)`, float32, not rescaled. Only signed methods go below zero, where a pixel lowers the score.
        completeness: distance of each map's sum from its theoretical value, `(K,)`, or None. At the last norm
            |sum of the signed map + bias - logit|; for integrated gradients |sum of the map - change of the logit|.
        region: the part of the given image that the model saw, in pixels: left, top, right, bottom.
        against: contrast class of each target, K of them, or None.
        fused: how the maps of several layers were fused, "mean" or "max"; empty if they were not.
        activation: "softmax", "sigmoid" for classes with probabilities of their own, or "none" for a regression.
    """

    model: str
    method: str
    labels: tuple[str, ...]
    weights_hash: str
    view: np.ndarray
    image: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray
    targets: tuple[int, ...]
    layers: tuple[str, ...]
    maps: np.ndarray
    completeness: np.ndarray | None = None
    region: Region = (0, 0, 1, 1)
    against: tuple[int, ...] | None = None
    fused: str = ""
    activation: str = "softmax"

    def __repr__(self) -> str:
        """Return one line: method, model, layers, targets with their probabilities, shape of the maps."""
        targets = ", ".join(f"{self.label(k)} {self._value(i)}" for k, i in enumerate(self.targets))
        shape = " x ".join(map(str, self.maps.shape))
        return f"<Explanation: {self.method} of {self.model} at {', '.join(self.layers)}: {targets}; maps {shape}>"

    def _value(self, index: int) -> str:
        value = float(self.probabilities[index])
        return f"{value:.4g}" if self.activation == "none" else f"{value:.1%}"

    def label(self, k: int) -> str:
        """Return the class name of the k-th target."""
        return self.labels[self.targets[k]]

    def top_classes(self, count: int = 5) -> list[tuple[str, float]]:
        """Return the most probable classes with their probabilities, in descending order."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.labels[index], float(self.probabilities[index])) for index in order]

    def magnitude(self, k: int, layer: int = 0) -> float:
        """Return the largest absolute value of the k-th target's map at a layer, in the map's own units."""
        return float(np.abs(self.maps[k, layer]).max())

    def overlay(self, target: int | str = 0, layer: int | str = 0, look: Look | None = None) -> Image.Image:
        """Return the image with the map of one target and layer drawn over it.

        Args:
            target: index into `targets`, or the name of one of these classes.
            layer: index into `layers`, or one of these names.
            look: colour map, opacity and threshold.

        Raises:
            TargetError: no such target or layer.
        """
        targets = [self.label(k) for k in range(len(self.targets))]
        k: Any = find_class(targets, target) if isinstance(target, str) else target
        number: Any = self.layers.index(layer) if layer in self.layers else layer
        if k not in range(len(targets)) or number not in range(len(self.layers)):
            raise TargetError(
                f"there is no map of target {target!r} at layer {layer!r}: this explanation has the targets "
                f"{first_names(targets)} and the layers {first_names(self.layers)}; name them, or count from 0."
            )
        values = self.maps[k, number]
        signed = bool((self.maps < 0).any())
        return Image.fromarray(overlay(enlarged(self.image), values, scale_top(values), look or Look(), signed))

    def save(self, path: str | Path, target: int | str = 0, layer: int | str = 0) -> None:
        """Write the overlay as an image (.png, .jpg, .webp), or the arrays of all targets and layers (.npz).

        Args:
            path: the file; its suffix selects the format.
            target: of the overlay, as for `overlay`.
            layer: of the overlay, as for `overlay`.

        Raises:
            ConfigError: another suffix, or the file cannot be written.
            TargetError: no such target or layer.
        """
        suffix, stream = Path(path).suffix.lower(), io.BytesIO()
        if suffix in _FORMATS:
            self.overlay(target, layer).save(stream, _FORMATS[suffix])
        elif suffix == ".npz":
            names = ("maps", "view", "logits", "probabilities", "targets", "layers", "labels", "model", "method")
            arrays: dict[str, Any] = {name: np.asarray(getattr(self, name)) for name in names}
            np.savez_compressed(stream, **arrays)
        else:
            raise ConfigError(f"an explanation is saved as {', '.join(_FORMATS)} or .npz, not as {Path(path).name!r}.")
        write_file(path, stream.getvalue())

    def _repr_png_(self) -> bytes:
        """Return the overlay of the first target at the first layer, for notebooks."""
        stream = io.BytesIO()
        self.overlay().save(stream, "PNG")
        return stream.getvalue()

    def _repr_html_(self) -> str:
        """Return the viewer with the maps of all targets and layers, for notebooks; images where no script runs."""
        return RENDERERS["Explanation"](self)
