"""What one model says about one image: the result that every figure, page and export is drawn from."""

from dataclasses import dataclass

import numpy as np

from swin_core.attribution.regions import Region


@dataclass(frozen=True, eq=False)
class Explanation:
    """Attribution maps of K target classes at L target layers: one model, one image.

    Attributes:
        model: the classifier's name.
        method: the attribution method, for instance "gradcam".
        labels: the model's class names, one per logit.
        weights_hash: hash of the weights that were explained.
        view: what the model saw, `(H, W, 3)`, uint8.
        image: the same crop at native resolution, `(h0, w0, 3)`, uint8, longest side at most 512 pixels.
        logits: `(classes,)`, float32.
        probabilities: softmax of the logits, `(classes,)`, float32.
        targets: the explained class indices, K of them.
        layers: the names of the target layers, L of them; "input" for a method that explains the pixels, and all names
            joined by " + " for a map that is fused of several layers.
        maps: `(K, L, h, w)`, float32, not rescaled; non-negative, but of methods with a sign below zero where something
            speaks against the class.
        completeness: `(K,)`, how far the maps' sum is from what theory says it is; else None. At the last norm
            |sum of the signed map + bias - logit|; of integrated gradients |sum of the map - change of the logit|.
        region: what the model saw of the image that it was given: left, top, right and bottom, in pixels.
        against: for each target the class rather than which it is explained, K of them; None for the targets alone.
        fused: how maps of several layers became one: "mean" or "max", or an empty string if they did not.
        threads: of PyTorch when this was computed; the last bits of the numbers depend on it.
    """

    model: str
    method: str
    labels: tuple[str, ...]
    weights_hash: str
    view: np.ndarray
    picture: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray
    targets: tuple[int, ...]
    layers: tuple[str, ...]
    maps: np.ndarray
    completeness: np.ndarray | None = None
    region: Region = (0, 0, 1, 1)
    against: tuple[int, ...] | None = None
    fused: str = ""
    threads: int = 1

    def __repr__(self) -> str:
        """One line: method, model, targets with their probabilities, layers and the shape of the maps."""
        targets = ", ".join(f"{self.label(k)} {self.probabilities[i]:.1%}" for k, i in enumerate(self.targets))
        shape = " x ".join(map(str, self.maps.shape))
        return f"<Explanation: {self.method} of {self.model} at {', '.join(self.layers)}: {targets}; maps {shape}>"

    def label(self, k: int) -> str:
        """Class name of the k-th target."""
        return self.labels[self.targets[k]]

    def magnitude(self, k: int, layer: int = 0) -> float:
        """Largest absolute value of the k-th target's map at the given layer, in the map's own units."""
        return float(np.abs(self.maps[k, layer]).max())
