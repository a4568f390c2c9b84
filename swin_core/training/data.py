"""The images of a run: decoded once and kept in memory if they fit, else decoded ahead by worker processes.

An image that cannot be decoded is found only when it is read, perhaps in the middle of an epoch and by one rank alone.
So which images a step uses depends on the files alone: in training, the next readable image of its class takes its
place; in validation it is left out.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from swin_core.data.dataset import DataSet, SkippedFile, limited
from swin_core.data.registry import splits
from swin_core.errors import ConfigError, DataError
from swin_core.evaluation.metrics import batch_size
from swin_core.images.preprocessing import IMAGENET, normalise, to_float
from swin_core.system.distributed import available_cores
from swin_core.training.config import TrainConfig
from swin_core.training.data_contents import DataContents
from swin_core.weights.files import read_metadata

MEAN = (0.5071, 0.4866, 0.4409)
"""Channel means of CIFAR-100's training images; all runs from random weights use them."""
STD = (0.2673, 0.2564, 0.2762)
"""Standard deviations of the same."""

_SHARE_OF_MEMORY = 0.4
"""Largest share of the free memory for decoded images."""
_MAX_WORKERS = 8
"""Most decoding processes of a rank."""


class LabelledImages:
    """Images of one size with their labels, in memory or decoded on demand.

    Args:
        dataset: the images.
        size: side in pixels.
        device: where batches go; images kept in memory are on it.
        fills: whether another image of its class takes the place of one that cannot be read; else it is left out.

    Attributes:
        unreadable: the images found so far that cannot be read, by index.

    Raises:
        DataError: no image of a class can be read, as far as it is needed.
    """

    def __init__(self, dataset: DataSet, size: int, device: torch.device, fills: bool):
        self.labels = torch.tensor(dataset.labels, device=device)
        self.device, self.size = device, size
        self.unreadable: dict[int, SkippedFile] = {}
        self._decoder = _Decoder(dataset, size, fills)
        self._kept: Tensor | None = None
        if kept_bytes(self, len(dataset)):
            decoded = self._decoder.decode(np.arange(len(dataset)))
            self.unreadable = decoded.unreadable
            self._kept = decoded.spread(len(dataset)).to(device)
            # The encoded images are not needed any more.
            self._decoder = _Decoder(dataset.subset([], dataset.split), size, fills)

    def __len__(self) -> int:
        return len(self.labels)

    def first(self) -> Tensor:
        """Return the first image that can be read, `(1, S, S, channels)`; if images are kept, the first one.

        Raises:
            DataError: none can be read.
        """
        if self._kept is not None:
            return self._kept[:1]
        decoder = replace(self._decoder, fills=False)
        for index in range(len(self)):
            decoded = decoder.decode(np.array([index]))
            if len(decoded.rows):
                return decoded.images
        raise DataError(f"no {decoder.dataset.split} image of {decoder.dataset.name} can be read; mend these images.")

    def batches(self, batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images `(B, S, S, channels)` and labels `(B,)` for each batch of indices."""
        if self._kept is not None:
            missing = torch.tensor([] if self._decoder.fills else list(self.unreadable), dtype=torch.int64)
            for indices in batches:
                on_device = indices[~torch.isin(indices, missing)].to(self.device)
                yield self._kept[on_device], self.labels[on_device]
            return
        on_gpu = self.device.type == "cuda"
        cores_per_rank = max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
        loader = DataLoader(
            _DecodedBatches(self._decoder, batches),
            batch_size=None,
            num_workers=min(_MAX_WORKERS, cores_per_rank, len(batches)),
            worker_init_fn=_ignore_signals,
            pin_memory=on_gpu and torch.cuda.is_available(),
        )
        for indices, decoded in zip(batches, loader, strict=True):
            if isinstance(decoded, DataError):
                raise decoded
            self.unreadable |= decoded.unreadable
            labels = self.labels[indices[decoded.rows].to(self.device)]
            yield decoded.images.to(self.device, non_blocking=on_gpu), labels

    def read_all(self) -> None:
        """Decode every image once, to find those that cannot be read."""
        for _ in self.batches(torch.arange(len(self)).split(64)):
            pass

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the mean and standard deviation of each channel, over at most about a thousand images."""
        indices = torch.arange(0, len(self), max(1, len(self) // 1000))
        kept = self._kept
        images = self._decoder.decode(indices.numpy()).images if kept is None else kept[indices.to(self.device)]
        values = to_float(images).double()
        mean, std = values.mean((0, 2, 3)), values.std((0, 2, 3)).clamp(min=1e-6)
        return tuple(mean.tolist()), tuple(std.tolist())


class _Decoded(NamedTuple):
    """The decoded images of a batch."""

    images: Tensor
    """`(B, S, S, channels)`, those that can be read or were filled in."""
    rows: Tensor
    """`(B,)` int64, their positions in the batch."""
    unreadable: dict[int, SkippedFile]
    """The images that cannot be read, by index."""

    def spread(self, count: int) -> Tensor:
        """Return the images at their positions among `count`, and black ones between them."""
        if len(self.rows) == count:
            return self.images
        return self.images.new_zeros(count, *self.images.shape[1:]).index_copy_(0, self.rows, self.images)


@dataclass(frozen=True)
class _Decoder:
    """Decodes images by index; see `LabelledImages`."""

    dataset: DataSet
    size: int
    fills: bool

    def decode(self, indices: np.ndarray) -> _Decoded:
        """Decode the images at `indices`, `(B,)`.

        Raises:
            DataError: no image of the class of one can be read, or images have different shapes.
        """
        is_whole = np.array_equal(indices, np.arange(len(self.dataset)))
        part = self.dataset if is_whole else self.dataset.subset(indices, self.dataset.split)
        images = part.rows(self.size)
        unreadable: dict[int, SkippedFile] = {}
        for row, index in enumerate(indices.tolist()):
            image = images[row]
            if isinstance(image, DataError):
                unreadable[index] = self.dataset.why_unreadable(index, image)
                if self.fills:
                    images[row] = self._another(index, unreadable)
        readable = {row: image for row, image in enumerate(images) if isinstance(image, np.ndarray)}
        if not readable:
            shape = (0, self.size, self.size, 3)
            return _Decoded(torch.zeros(shape, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), unreadable)
        shapes = {image.shape for image in readable.values()}
        if len(shapes) > 1:
            listed = ", ".join(str(shape) for shape in sorted(shapes)[:3])
            raise DataError(f"{self.dataset.name} has images of different shapes ({listed}); give them one shape.")
        return _Decoded(torch.from_numpy(np.stack([*readable.values()])), torch.tensor([*readable]), unreadable)

    def _another(self, index: int, unreadable: dict[int, SkippedFile]) -> np.ndarray:
        """Return the next readable image of the same class; add those that are not to `unreadable`."""
        labels = self.dataset.labels
        members = np.flatnonzero(labels == labels[index])
        for other in np.roll(members, -int(np.searchsorted(members, index)))[1:].tolist():
            image = self.dataset.subset([other], self.dataset.split).rows(self.size)[0]
            if isinstance(image, np.ndarray):
                return image
            unreadable[other] = self.dataset.why_unreadable(other, image)
        name = self.dataset.classes[int(labels[index])]
        raise DataError(f"no training image of the class {name} can be read: {unreadable[index]}; mend these images.")


class _DecodedBatches(Dataset[_Decoded | DataError]):
    """Decoded batches by number, for the workers of a `DataLoader`.

    An error is returned as a value: the loader would add the worker's stack trace to the message of a raised one.
    """

    def __init__(self, decoder: _Decoder, batches: Sequence[Tensor]):
        self._decoder, self._batches = decoder, batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> _Decoded | DataError:
        try:
            return self._decoder.decode(self._batches[number].numpy())
        except DataError as error:
            return error


def _ignore_signals(worker: int) -> None:
    """Leave signals to the trainer, which needs its workers until the step is finished."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def kept_bytes(images: LabelledImages, count: int) -> int:
    """Return the bytes of `count` decoded images of this size; 0 if they do not fit in memory."""
    needed = images.first().nbytes * count
    # While decoding, each image is in memory twice: alone, and in the array of all.
    free = psutil.virtual_memory().available * _SHARE_OF_MEMORY / 2
    if images.device.type == "cuda":
        free = min(free, torch.cuda.mem_get_info(images.device)[0] * _SHARE_OF_MEMORY)
    return needed if needed <= free else 0


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Training and validation images of a run, and the mean and standard deviation that normalise them."""

    classes: tuple[str, ...]
    train: LabelledImages
    validation: LabelledImages
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    skipped: tuple[SkippedFile, ...]
    """Files of a folder that are not used, as their first bytes tell."""
    contents: DataContents

    @classmethod
    def load(
        cls,
        config: TrainConfig,
        root: str | os.PathLike[str] | None,
        device: torch.device,
        normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> "TrainingData":
        """Read the images of a config.

        Args:
            config: data, sizes and limits.
            root: data root, as for `swin_core.data.dataset.data_root`.
            device: where batches go.
            normalisation: mean and standard deviation that the initial weights were trained with; None for `MEAN` and
                `STD`, or for the statistics of arrays.

        Raises:
            DataError: images are missing, no image of a class can be read, or `config.strict` and a file is skipped.
            ConfigError: a setting does not fit the images.
        """
        train_set, validation_set = splits(config.data, config.holdout, config.seed, root)
        train_set, validation_set = (limited(part, config.limit, config.seed) for part in (train_set, validation_set))
        if not len(train_set) or not len(validation_set):
            raise DataError(f"{config.data}: too few images for training and validation; add some.")
        # Random resized crops gain from larger images; validation uses the model's size.
        crop_from = round(config.image_size * 1.15) if config.crop_scale < 1 else config.image_size
        train = LabelledImages(train_set, crop_from, device, fills=True)
        validation = LabelledImages(validation_set, config.image_size, device, fills=False)
        first = train.first()
        channels = first.shape[3]
        if channels != 3 and (config.randaugment or config.colour_jitter):
            raise ConfigError(
                f"{config.data} has arrays of {channels} channels, which randaugment and colour_jitter cannot change; "
                "set both to 0."
            )
        if normalisation is None or len(normalisation[0]) != channels:
            is_rgb = channels == 3 and first.dtype == torch.uint8
            normalisation = (MEAN, STD) if is_rgb else train.statistics()
        mean, std = normalisation
        contents = DataContents.of(train_set, validation_set)
        data = cls(train_set.classes, train, validation, channels, tuple(mean), tuple(std), train_set.skipped, contents)
        if config.strict:
            train.read_all()
            validation.read_all()
            if files := [*data.skipped, *data.unreadable()]:
                named = "; ".join(map(str, files))
                raise DataError(f"{len(files)} files cannot be used: {named}; mend them, or leave --strict out.")
        return data

    def unreadable(self) -> list[SkippedFile]:
        """Return the images found so far that cannot be read."""
        return [*self.train.unreadable.values(), *self.validation.unreadable.values()]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the numbers of training and validation images of each class, without those that cannot be read."""
        columns = {}
        for name, part in (("train", self.train), ("validation", self.validation)):
            labels = np.delete(part.labels.cpu().numpy(), list(part.unreadable))
            columns[name] = np.bincount(labels, minlength=len(self.classes)).tolist()
        return {label: {name: columns[name][index] for name in columns} for index, label in enumerate(self.classes)}

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise images `(B, channels, H, W)` for the model."""
        return normalise(images, self.mean, self.std)

    def validation_batches(self, rank: int, ranks: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this rank's share of the validation batches: normalised images and labels."""
        step = batch_size(self.validation.device, self.validation.size)
        batches = list(torch.arange(len(self.validation)).split(step))[rank::ranks]
        for images, labels in self.validation.batches(batches):
            if len(images):
                yield self.normalise(to_float(images)), labels


def normalisation_of(weights: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation that weights were trained with: the file's own, else ImageNet's."""
    metadata = read_metadata(weights)
    try:
        return tuple(map(float, metadata["mean"])), tuple(map(float, metadata["std"]))
    except (KeyError, TypeError, ValueError):
        return IMAGENET
