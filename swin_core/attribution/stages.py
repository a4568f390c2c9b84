"""Attribution maps at each stage of a model, from the finest grid to the coarsest."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from swin_core.attribution.defaults import default_method
from swin_core.attribution.explain import explain
from swin_core.attribution.explanation import Explanation
from swin_core.attribution.layers import stage_layers
from swin_core.attribution.lrp import relevance, relevance_layers
from swin_core.attribution.methods import METHODS
from swin_core.zoo.classifier import Classifier

__all__ = ["explain_stages", "has_stages", "spread_evenly", "strip_layers"]


def has_stages(method: str) -> bool:
    """Whether a method has a map at each stage."""
    return METHODS[method].kind == "layer" or METHODS[method].staged


def strip_layers(classifier: Classifier, method: str) -> tuple[str, ...]:
    """The layers that `explain_stages` explains: one per stage, for relevance also the input.

    Raises:
        LayerError: no layer of the model has a grid.
    """
    return relevance_layers(classifier.model) if METHODS[method].staged else stage_layers(classifier)


def explain_stages(
    classifier: Classifier,
    image: Image.Image,
    targets: Sequence[int | str] | int | str | None = None,
    method: str | None = None,
    *,
    against: Sequence[int | str] | int | str | None = None,
) -> Explanation:
    """Explain an image at each stage of a model.

    Args:
        classifier, image, targets, method, against: as for `explain`.

    Returns:
        An explanation at `strip_layers`. The relevance of a cell is spread evenly over its pixels, so that the sum of
        each map stays the logit minus the relevance absorbed by later biases.

    Raises:
        LayerError: a method without maps at stages, or a model that relevance does not support; and what `explain`
            raises.
    """
    method = method or default_method(classifier, at_layer=True)
    if not METHODS[method].staged:
        return explain(classifier, image, targets, method, stage_layers(classifier), against=against)
    base = explain(classifier, image, targets, method, against=against)
    contrast = None if base.against is None else torch.tensor(base.against, device=classifier.device)
    x = classifier.tensor(base.view).expand(len(base.targets), -1, -1, -1)
    result = relevance(classifier.logits_model, x, torch.tensor(base.targets, device=classifier.device), contrast)
    stages = [spread_evenly(cells.double().cpu().numpy(), (x.shape[2], x.shape[3])) for cells in result.stages]
    maps = np.stack([result.pixels.double().cpu().numpy(), *stages], axis=1)
    return replace(base, layers=strip_layers(classifier, method), maps=maps.astype(np.float32))


def spread_evenly(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Spread the value of each cell evenly over the pixels that it covers: `(..., h, w)` to `(..., H, W)`.

    Sums are kept; a pixel on the border of two cells gets a part of each.
    """
    return _shares(size[0], cells.shape[-2]) @ cells @ _shares(size[1], cells.shape[-1]).T


def _shares(pixels: int, cells: int) -> np.ndarray:
    """Share of each cell that lies in each pixel along one side, `(pixels, cells)`; columns sum to 1."""
    pixel, cell = np.linspace(0, 1, pixels + 1)[:, None], np.linspace(0, 1, cells + 1)[None]
    overlap = np.minimum(pixel[1:], cell[:, 1:]) - np.maximum(pixel[:-1], cell[:, :-1])
    return np.clip(overlap, 0, None) * cells
