"""The strip of stages: what each stage of a model says about an image, from the finest grid to the coarsest."""

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
from swin_core.attribution.methods import METHOD_FACTS
from swin_core.zoo.classifier import Classifier

__all__ = ["explain_stages", "has_stages", "spread_evenly", "strip_layers"]


def has_stages(method: str) -> bool:
    """Whether a method has a map at each stage."""
    return METHOD_FACTS[method].kind == "layer" or METHOD_FACTS[method].staged


def strip_layers(classifier: Classifier, method: str) -> tuple[str, ...]:
    """The layers of the strip; relevance has the pixels before them.

    Raises:
        LayerError: no layer of the model has a grid.
    """
    return relevance_layers(classifier.model) if METHOD_FACTS[method].staged else stage_layers(classifier)


def explain_stages(
    classifier: Classifier,
    image: Image.Image,
    targets: Sequence[int | str] | int | str | None = None,
    method: str | None = None,
    *,
    against: Sequence[int | str] | int | str | None = None,
) -> Explanation:
    """What each stage of a model says about an image, as one explanation with a layer for each stage.

    Args:
        classifier, image, targets, method, against: as for `explain`.

    Returns:
        An explanation at `strip_layers`. Relevance is spread evenly over the pixels that a cell stands for, so that the
        sum of each map stays what the stage handed back: the logit, less what the biases behind that stage keep.

    Raises:
        LayerError: a method that has no map at a stage, or a model that relevance does not know; and what `explain`
            raises.
    """
    method = method or default_method(classifier, at_layer=True)
    if not METHOD_FACTS[method].staged:
        return explain(classifier, image, targets, method, stage_layers(classifier), against=against)
    base = explain(classifier, image, targets, method, against=against)
    others = None if base.against is None else torch.tensor(base.against, device=classifier.device)
    x = classifier.tensor(base.view).expand(len(base.targets), -1, -1, -1)
    found = relevance(classifier.model, x, torch.tensor(base.targets, device=classifier.device), others)
    size = (x.shape[2], x.shape[3])
    stages = [spread_evenly(one.double().cpu().numpy(), size) for one in found.stages]
    maps = np.stack([found.pixels.double().cpu().numpy(), *stages], axis=1)
    return replace(base, layers=strip_layers(classifier, method), maps=maps.astype(np.float32))


def spread_evenly(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mass of a grid's cells spread evenly over the pixels that they cover: `(..., h, w)` to `(..., H, W)`.

    Sums stay; a pixel on the edge of two cells takes a part of each.
    """
    return _shares(size[0], cells.shape[-2]) @ cells @ _shares(size[1], cells.shape[-1]).T


def _shares(pixels: int, cells: int) -> np.ndarray:
    """Which share of each cell's mass lies in each pixel along one side, `(pixels, cells)`; columns sum to 1."""
    pixel, cell = np.linspace(0, 1, pixels + 1)[:, None], np.linspace(0, 1, cells + 1)[None]
    overlap = np.minimum(pixel[1:], cell[:, 1:]) - np.maximum(pixel[:-1], cell[:, :-1])
    return np.clip(overlap, 0, None) * cells
