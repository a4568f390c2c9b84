"""What one model says about one picture: the result that every figure, page and export is drawn from."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Explanation"]


@dataclass(frozen=True)
class Explanation:
    """Attribution maps of K target classes at L target layers: one model, one picture, one forward pass.

    Attributes:
        model: the classifier's name.
        method: the attribution method, for instance "gradcam".
        labels: the model's class names, one per logit.
        weights_hash: hash of the weights that were explained.
        view: what the model saw, `(H, W, 3)`, uint8.
        picture: the same crop at native resolution, `(h0, w0, 3)`, uint8, longest side at most 512 pixels.
        logits: `(classes,)`, float32.
        probabilities: softmax of the logits, `(classes,)`, float32.
        targets: the explained class indices, K of them.
        layers: the names of the target layers, L of them.
        maps: `(K, L, h, w)`, float32, non-negative, not rescaled.
        completeness: `(K,)`, |sum of the signed map + bias - logit|, where that identity is exact; else None.
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

    def label(self, k: int) -> str:
        """Class name of the k-th target."""
        return self.labels[self.targets[k]]

    def magnitude(self, k: int, layer: int = 0) -> float:
        """Greatest value of the k-th target's map at the given layer, in the map's own units."""
        return float(self.maps[k, layer].max())
