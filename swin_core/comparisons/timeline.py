"""How a model's gaze formed: one image and one class, explained by the checkpoints of a run."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from swin_core.attribution.explain import explain
from swin_core.attribution.explanation import Explanation
from swin_core.attribution.overlay import Look, overlay
from swin_core.errors import ConfigError, ModelError
from swin_core.figures.grid import Cell
from swin_core.trust.similarity import agreement
from swin_core.weights.files import read_metadata
from swin_core.zoo.load import load

__all__ = ["CHECKPOINTS_AT_MOST", "Checkpoint", "Timeline", "checkpoints_of", "timeline"]

CHECKPOINTS_AT_MOST = 24
"""Moments of one timeline: of a run that kept more, as many are taken, evenly spaced."""

_KEPT = re.compile(r"epoch-(\d+)\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """Weights that a run kept."""

    epoch: int
    """Epochs that were done."""
    file: Path
    """The weights, as `swin_core.load` takes them."""


def checkpoints_of(run: str | os.PathLike[str]) -> list[Checkpoint]:
    """The weights that a run kept, by epoch: those kept on the way, its best ones, and its newest ones.

    Args:
        run: the run's folder.

    Raises:
        WeightsError: the best or the newest weights are damaged.
    """
    folder = Path(run)
    found: dict[int, Path] = {}
    for file in (folder / "model.safetensors", folder / "checkpoints" / "best.safetensors"):
        done = _epochs_done(file) if file.is_file() else None
        if done is not None:
            found.setdefault(done, file)
    for file in (folder / "checkpoints").glob("epoch-*.safetensors"):
        if name := _KEPT.fullmatch(file.name):
            found[int(name[1])] = file
    return [Checkpoint(epoch, file) for epoch, file in sorted(found.items())]


def _epochs_done(file: Path) -> int | None:
    training = read_metadata(file).get("training")
    done = training.get("epochs_done") if isinstance(training, dict) else None
    return done if isinstance(done, int) else None


@dataclass(frozen=True, eq=False)
class Timeline:
    """What N checkpoints of a run looked at in one image, for one class, in the order of their epochs."""

    epochs: tuple[int, ...]
    """Epochs done at each checkpoint, N of them."""
    explanations: tuple[Explanation, ...]
    """One a checkpoint, of one target and one map each."""
    likeness: np.ndarray
    """Spearman's rank correlation of each map with the last one, `(N,)`, -1 to 1; NaN where a map is constant."""

    @property
    def label(self) -> str:
        """The explained class."""
        return self.explanations[-1].label(0)

    @property
    def probabilities(self) -> np.ndarray:
        """The class's probability at each checkpoint, `(N,)`."""
        target = self.explanations[-1].targets[0]
        return np.array([found.probabilities[target] for found in self.explanations])

    def drawn(self, look: Look, side: int) -> list[np.ndarray]:
        """The image with each checkpoint's heat map, N of `(side, side, 3)` uint8, as a strip of small images."""
        picture = np.asarray(Image.fromarray(self.explanations[-1].picture).resize((side, side)))
        maps = [found.maps[0, 0] for found in self.explanations]
        signed = any(values.min() < 0 for values in maps)
        tops = [Cell(found).top for found in self.explanations]
        if look.scale == "shared":
            tops = [max(tops)] * len(tops)
        return [overlay(picture, values, top, look, signed) for values, top in zip(maps, tops, strict=True)]


def timeline(
    checkpoints: Sequence[Checkpoint],
    image: Image.Image,
    target: int | str | None = None,
    method: str | None = None,
    layer: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Timeline:
    """Explain one class of an image by each checkpoint, one model in memory at a time.

    Args:
        checkpoints: as `checkpoints_of` lists them; more than `CHECKPOINTS_AT_MOST` are thinned out evenly.
        image: an image, RGB, as `read_image` gives it.
        target: the class by index or name; None for the last checkpoint's own first choice.
        method, layer: as for `explain`.
        progress: called with the checkpoints done and their number.

    Raises:
        ModelError: fewer than two checkpoints, or one that is gone.
        ConfigError: checkpoints of different classes.
        WeightsError: a damaged file; and what `explain` raises.
    """
    if len(checkpoints) < 2:
        raise ModelError("a timeline needs two checkpoints or more; train with keep_every so that a run keeps them.")
    places = np.linspace(0, len(checkpoints) - 1, min(len(checkpoints), CHECKPOINTS_AT_MOST))
    chosen = [checkpoints[int(place)] for place in np.rint(places)]
    tick = progress or (lambda done, count: None)
    # The last one goes first: it says which class and which layer are asked of all.
    last = _explained(chosen[-1], image, target, method, layer)
    tick(1, len(chosen))
    found = []
    for checkpoint in chosen[:-1]:
        one = _explained(checkpoint, image, last.targets[0], last.method, last.layers[0])
        if one.labels != last.labels:
            raise ConfigError(f"{checkpoint.file.name!r} knows other classes than the run's last checkpoint.")
        # All of them see the same pixels: they are kept once.
        found.append(replace(one, view=last.view, picture=last.picture))
        tick(1 + len(found), len(chosen))
    found.append(last)
    return Timeline(
        epochs=tuple(checkpoint.epoch for checkpoint in chosen),
        explanations=tuple(found),
        likeness=np.array([agreement(one.maps[0, 0], last.maps[0, 0]) for one in found]),
    )


def _explained(
    checkpoint: Checkpoint, image: Image.Image, target: int | str | None, method: str | None, layer: str | None
) -> Explanation:
    return explain(load(checkpoint.file), image, target, method, layer)
