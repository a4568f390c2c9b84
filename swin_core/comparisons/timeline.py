"""One image and one class, explained by the checkpoints of a run: how the map developed during training."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from swin_core import runs
from swin_core.attribution.explain import explain
from swin_core.attribution.explanation import Explanation
from swin_core.attribution.overlay import Look, overlay, scale_top
from swin_core.errors import ConfigError, ModelError
from swin_core.system.progress import Progress
from swin_core.trust.similarity import agreement
from swin_core.zoo.load import load

CHECKPOINTS_AT_MOST = 24
"""Maximum number of checkpoints of a timeline; of more, this many are chosen at even distances."""


def checkpoints_of(run: str | os.PathLike[str]) -> list[runs.SavedWeights]:
    """List a run's saved weights by epoch, one file for each.

    Files whose epoch is unknown, such as damaged ones, are left out.

    Args:
        run: the run's folder.

    Raises:
        RunError: the folder is not that of a run.
    """
    folder = Path(run)
    saved = runs.find(folder.name, folder.parent).checkpoints()
    # Of one epoch's files, one that was kept comes last: the best and the newest weights may be replaced any time.
    saved.sort(key=lambda weights: weights.file.name.startswith("epoch-"))
    by_epoch = {weights.epoch: weights for weights in saved if weights.epoch is not None}
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


@dataclass(frozen=True, eq=False)
class Timeline:
    """Maps of N checkpoints of a run for one image and one class, in the order of their epochs."""

    epochs: tuple[int, ...]
    """Epochs of training at each checkpoint, N of them."""
    explanations: tuple[Explanation, ...]
    """One for each checkpoint, with one target and one map."""
    similarity: np.ndarray
    """Spearman's rank correlation of each map with the last one, `(N,)`, -1 to 1; NaN where a map is constant."""

    @property
    def label(self) -> str:
        """The explained class."""
        return self.explanations[-1].label(0)

    @property
    def probabilities(self) -> np.ndarray:
        """The class's probability at each checkpoint, `(N,)`."""
        target = self.explanations[-1].targets[0]
        return np.array([explanation.probabilities[target] for explanation in self.explanations])

    def draw(self, look: Look, side: int) -> list[np.ndarray]:
        """Draw each checkpoint's map over the image: N arrays `(side, side, 3)` uint8."""
        image = np.asarray(Image.fromarray(self.explanations[-1].image).resize((side, side)))
        maps = [explanation.maps[0, 0] for explanation in self.explanations]
        signed = any(values.min() < 0 for values in maps)
        tops = list(map(scale_top, maps))
        if look.scale == "shared":
            tops = [max(tops)] * len(tops)
        return [overlay(image, values, top, look, signed) for values, top in zip(maps, tops, strict=True)]


def timeline(
    checkpoints: Sequence[runs.SavedWeights],
    image: Image.Image,
    target: int | str | None = None,
    method: str | None = None,
    layer: str | None = None,
    progress: Progress | None = None,
) -> Timeline:
    """Explain one class of an image by each checkpoint, with one model in memory at a time.

    Args:
        checkpoints: as `checkpoints_of` lists them; more than `CHECKPOINTS_AT_MOST` are thinned out evenly.
        image: an image, RGB, as `read_image` returns it.
        target: the class by index or name; None for the last checkpoint's top-1 class.
        method, layer: as for `explain`.
        progress: called with the number of checkpoints done and of all.

    Raises:
        ModelError: fewer than two checkpoints, or a missing file.
        ConfigError: checkpoints of different classes.
        WeightsError: a damaged file; and the errors of `explain`.
    """
    if len(checkpoints) < 2:
        raise ModelError("a timeline needs two checkpoints or more; train with keep_every so that a run keeps them.")
    indices = np.linspace(0, len(checkpoints) - 1, min(len(checkpoints), CHECKPOINTS_AT_MOST))
    chosen = [checkpoints[int(index)] for index in np.rint(indices)]
    tick = progress or (lambda done, count: None)
    # The last checkpoint comes first, because it determines the class, method and layer of all.
    last = explain(load(chosen[-1].file), image, target, method, layer)
    tick(1, len(chosen))
    explanations = []
    for done, checkpoint in enumerate(chosen[:-1], 2):
        explanation = explain(load(checkpoint.file), image, last.targets[0], last.method, last.layers[0])
        if explanation.labels != last.labels:
            raise ConfigError(f"{checkpoint.file.name!r} knows other classes than the run's last checkpoint.")
        # All checkpoints see the same pixels, so these are kept once.
        explanations.append(replace(explanation, view=last.view, image=last.image))
        tick(done, len(chosen))
    explanations.append(last)
    return Timeline(
        epochs=tuple(checkpoint.epoch or 0 for checkpoint in chosen),
        explanations=tuple(explanations),
        similarity=np.array([agreement(explanation.maps[0, 0], last.maps[0, 0]) for explanation in explanations]),
    )
