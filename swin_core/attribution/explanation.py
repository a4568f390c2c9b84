"""What one model says about one image: the result that every figure, page and export is drawn from."""

from dataclasses import dataclass

import numpy as np

__all__ = ["WHOLE", "Explanation", "Region", "bilinear", "common_parts"]


Region = tuple[float, float, float, float]


WHOLE = (0.0, 0.0, 1.0, 1.0)
"""All of a map, as a part of it: left, top, right and bottom, as shares of its sides."""


def bilinear(values: np.ndarray, height: int, width: int, part: Region = WHOLE) -> np.ndarray:
    """Values of shape `(h, w)`, or a part of them, resized to `(height, width)`, float32.

    Cell centres keep their value, edges extend it. The same interpolation as `F.interpolate(mode="bilinear",
    align_corners=False)` when it enlarges, and as the browser's smooth heat map, so that page and export
    agree.
    """
    rows, row_weight = _neighbours(values.shape[0], height, part[1], part[3])
    columns, column_weight = _neighbours(values.shape[1], width, part[0], part[2])
    values = values.astype(np.float32)
    upper = values[rows[0]] * (1 - row_weight)[:, None] + values[rows[1]] * row_weight[:, None]
    return upper[:, columns[0]] * (1 - column_weight) + upper[:, columns[1]] * column_weight


def _neighbours(
    source: int, target: int, start: float, stop: float
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """For each of `target` samples the two nearest of `source` cell centres, and the second's weight."""
    place = start + (np.arange(target) + 0.5) * (stop - start) / target
    position = np.clip(place * source - 0.5, 0, source - 1)
    first = np.floor(position).astype(int)
    second = np.minimum(first + 1, source - 1)
    return (first, second), (position - first).astype(np.float32)


def common_parts(first: Region, second: Region) -> tuple[Region, Region] | None:
    """What two regions of one image have in common, as a part of each: left, top, right and bottom as shares.

    None where they have nothing in common.
    """
    left, top = max(first[0], second[0]), max(first[1], second[1])
    right, bottom = min(first[2], second[2]), min(first[3], second[3])
    if left >= right or top >= bottom:
        return None
    parts = []
    for region in (first, second):
        width, height = region[2] - region[0], region[3] - region[1]
        parts.append(
            (
                (left - region[0]) / width,
                (top - region[1]) / height,
                (right - region[0]) / width,
                (bottom - region[1]) / height,
            )
        )
    return parts[0], parts[1]


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
