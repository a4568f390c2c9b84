"""Train without what an audit found: regions, contents and statistics of a findings file become an augmentation.

What was found must tell nothing about the class any more. A region is exchanged with that of another image, or cut out.
Content of one class is pasted into most images of the other classes. A statistic is shifted in half of
the images, of the class back and of the others towards the class.
"""

import base64
import binascii
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from swin_core.class_names import match_classes
from swin_core.errors import ConfigError, ImageError, SwinError
from swin_core.images.preprocessing import to_float
from swin_core.images.read import read_image
from swin_core.images.statistics import BORDER, STATISTICS, shifted
from swin_core.training.data import TrainingData
from swin_core.training.random_draws import Draws

_RGB_ONLY = "contents and statistics can be trained away in RGB images only; keep the regions."

PASTED = 0.8
"""Share of the images of other classes that get the content of a class. Not all images of the class need have it."""


@dataclass(frozen=True, eq=False)
class _Region:
    """One region of all images."""

    edges: tuple[float, float, float, float]
    """Left, top, right and bottom, as fractions."""
    frame: bool
    """Whether it is only the border."""

    def mask(self, side: int) -> Tensor:
        """Return the pixels whose centres lie in the region, `(side, side)` bool."""
        centres = (torch.arange(side) + 0.5) / side
        left, top, right, bottom = self.edges
        rows, columns = (centres >= top) & (centres < bottom), (centres >= left) & (centres < right)
        inside = rows[:, None] & columns[None]
        if self.frame:
            within = (centres > BORDER) & (centres < 1 - BORDER)
            inside &= ~(within[:, None] & within[None])
        return inside

    def apply(self, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """Exchange the region of neighbours in the batch, or replace it by the mean colour, each in half of the pairs.

        The batch is in random order, so that the neighbour's class is random too.
        """
        mask = self.mask(images.shape[2]).to(images.device)
        index = torch.arange(len(images), device=images.device)
        neighbours = torch.where(index ^ 1 < len(images), index ^ 1, index)
        exchanged = (draws.uniform_pairs() < 0.5) & (neighbours != index)
        mean = images.mean((2, 3), keepdim=True).expand_as(images)
        content = torch.where(exchanged[:, None, None, None], images[neighbours], mean)
        return torch.where(mask, content, images)


@dataclass(frozen=True, eq=False)
class _Content:
    """Content of one class at changing places."""

    label: int
    patches: Tensor
    """`(n, 3, p, p)`, 0 to 1."""
    size: float
    """Side of a patch over that of the image."""

    def apply(self, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """Paste a patch at a random place of images of other classes."""
        side = images.shape[2]
        length = max(1, round(self.size * side))
        patches = F.interpolate(self.patches.to(images), (length, length), mode="bilinear", antialias=True)
        pasted = draws.chance(PASTED) & (labels != self.label)
        which = draws.integers(0, len(patches))
        top, left = draws.integers(0, side - length + 1), draws.integers(0, side - length + 1)
        result = images.clone()
        for row in pasted.nonzero()[:, 0].tolist():
            down, right = int(top[row]), int(left[row])
            result[row, :, down : down + length, right : right + length] = patches[which[row]]
        return result


@dataclass(frozen=True, eq=False)
class _Shift:
    """A statistic of the whole image that tells one class from the others."""

    label: int
    statistic: str
    by: tuple[float, ...]

    def apply(self, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """Shift half of the images: those of the class back, the others towards the class."""
        sign = torch.where(labels == self.label, -1.0, 1.0).to(images)
        by = sign[:, None] * torch.tensor(self.by).to(images)
        chosen = draws.chance(0.5)[:, None, None, None]
        return torch.where(chosen, shifted(images, self.statistic, by), images)


@dataclass(frozen=True, eq=False)
class Without:
    """An augmentation of whole batches that makes findings useless for a model."""

    findings: tuple[_Region | _Content | _Shift, ...]

    @classmethod
    def read(cls, file: str, data: TrainingData) -> "Without":
        """Read the findings of an audit, as `swinlens audit --json` and the Audit page write them.

        Args:
            file: the file.
            data: the data of the run.

        Raises:
            ConfigError: the file is missing or none of findings, or one does not fit the data.
        """
        try:
            values = json.loads(Path(file).read_bytes())["findings"]
            findings = tuple(_read(finding, data.classes) for finding in values)
        except SwinError:  # some are ValueErrors too
            raise
        except FileNotFoundError:
            raise ConfigError(
                f"there is no findings file {file[:200]!r}; swinlens audit MODEL --data FOLDER --json FILE writes one."
            ) from None
        except (OSError, ValueError, KeyError, TypeError, binascii.Error) as error:
            raise ConfigError(
                f"{file[:200]!r} is no findings file of an audit; swinlens audit MODEL --data FOLDER --json FILE "
                "writes one."
            ) from error
        if not findings:
            raise ConfigError(f"{file[:200]!r} has no findings, so there is nothing to train without; leave it out.")
        is_rgb = data.channels == 3 and data.train.first().dtype == torch.uint8
        if not is_rgb and not all(isinstance(finding, _Region) for finding in findings):
            raise ConfigError(_RGB_ONLY)
        return cls(findings)

    def apply(self, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """Apply all findings to a batch.

        Args:
            images: `(B, S, S, channels)`, uint8 or float.
            labels: `(B,)`.
            draws: the random numbers.

        Returns:
            `(B, S, S, channels)`, float32; uint8 becomes 0 to 1.
        """
        batch = to_float(images)
        for finding in self.findings:
            batch = finding.apply(batch, labels, draws)
        return batch.permute(0, 2, 3, 1)


def _read(finding: dict[str, Any], classes: Sequence[str]) -> _Region | _Content | _Shift:
    """Read one finding.

    Raises:
        ConfigError: the data lack its class, or the finding is of arrays of other channels.
        ValueError, KeyError, TypeError: it is no finding of an audit.
    """
    kind = finding["kind"]
    if kind == "place":
        left, top, right, bottom = map(float, finding["region"])
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError("the region")
        return _Region((left, top, right, bottom), bool(finding["frame"]))
    if kind not in ("content", "global"):
        raise ValueError("the kind")
    label = _label(str(finding["class"]), classes)
    if kind == "content":
        if not finding["patches"]:  # of arrays of other channels
            raise ConfigError(_RGB_ONLY)
        size = float(finding["patch_size"])
        patches = [_decode(uri) for uri in finding["patches"]]
        if not 0 < size <= 1 or len({patch.shape for patch in patches}) > 1:
            raise ValueError("the patches")
        return _Content(label, torch.stack(patches), size)
    by = tuple(map(float, finding["by"]))
    statistic = STATISTICS[finding["statistic"]]
    width = 1 if statistic.measure is None else statistic.measure(torch.zeros(1, 3, 2, 2)).shape[1]
    if len(by) != width or not all(map(math.isfinite, by)):
        raise ValueError("the shift")
    return _Shift(label, finding["statistic"], by)


def _label(name: str, classes: Sequence[str]) -> int:
    """Return the class of the data that a finding is of; the model or the data may know it by more names.

    Raises:
        ConfigError: the data lack it, or several of their classes fit.
        TargetError: several of their classes have the name.
    """
    (label,) = match_classes([name], classes)
    if label is not None:
        return label
    fits = [index for index, match in enumerate(match_classes(classes, [name])) if match is not None]
    if not fits:
        raise ConfigError(f"a finding is of the class {name[:80]!r}, which the data lack; train on its classes.")
    if len(fits) > 1:
        known = ", ".join(repr(classes[index]) for index in fits)
        raise ConfigError(f"a finding is of the class {name[:80]!r}, which fits {known}; give these other names.")
    return fits[0]


def _decode(uri: str) -> Tensor:
    """Return the pixels of a data URI, `(3, h, w)`, 0 to 1.

    Raises:
        ValueError: it holds no image.
    """
    try:
        image = read_image(base64.b64decode(str(uri).partition(",")[2], validate=True))
    except ImageError as error:
        raise ValueError(str(error)) from None
    return to_float(torch.from_numpy(np.array(image)[None]))[0]
