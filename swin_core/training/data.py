"""The images of a run: decoded once and kept in memory if they fit, else decoded ahead by worker processes."""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from swin_core.data.dataset import DataSet
from swin_core.data.registry import splits
from swin_core.errors import ConfigError, DataError
from swin_core.evaluation.metrics import batch_size
from swin_core.images.preprocessing import normalise, to_float
from swin_core.training.config import TrainConfig

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
    """

    def __init__(self, dataset: DataSet, size: int, device: torch.device):
        self.labels = torch.tensor(dataset.labels, device=device)
        self.device = device
        self._dataset, self._size = dataset, size
        self._kept: Tensor | None = None
        if kept_bytes(self, len(dataset)):
            self._kept = torch.tensor(dataset.array(size), device=device)
            self._dataset = dataset.subset([], dataset.split)  # drops its own cache of decoded images

    def __len__(self) -> int:
        return len(self.labels)

    def first(self) -> Tensor:
        """Return the first image, `(1, S, S, channels)`."""
        return self._read(torch.tensor([0]))

    def batches(self, batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images `(B, S, S, channels)` and labels `(B,)` for each batch of indices."""
        if self._kept is not None:
            for indices in batches:
                on_device = indices.to(self.device)
                yield self._kept[on_device], self.labels[on_device]
            return
        on_gpu = self.device.type == "cuda"
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        cores_per_rank = max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
        loader = DataLoader(
            _DecodedBatches(self._dataset, self._size, batches),
            batch_size=None,
            num_workers=min(_MAX_WORKERS, cores_per_rank, len(batches)),
            worker_init_fn=_ignore_signals,
            pin_memory=on_gpu and torch.cuda.is_available(),
        )
        for indices, images in zip(batches, loader, strict=True):
            if isinstance(images, DataError):
                raise images
            yield images.to(self.device, non_blocking=on_gpu), self.labels[indices.to(self.device)]

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the mean and standard deviation of each channel, over at most about a thousand images."""
        values = to_float(self._read(torch.arange(0, len(self), max(1, len(self) // 1000)))).double()
        mean, std = values.mean((0, 2, 3)), values.std((0, 2, 3)).clamp(min=1e-6)
        return tuple(mean.tolist()), tuple(std.tolist())

    def _read(self, indices: Tensor) -> Tensor:
        if self._kept is not None:
            return self._kept[indices.to(self.device)]
        return torch.tensor(self._dataset.subset(indices.numpy(), self._dataset.split).array(self._size))


class _DecodedBatches(Dataset[Tensor | DataError]):
    """Decoded batches by number, for the workers of a `DataLoader`.

    An error is returned as a value: the loader would add the worker's stack trace to the message of a raised one.
    """

    def __init__(self, dataset: DataSet, size: int, batches: Sequence[Tensor]):
        self._dataset, self._size, self._batches = dataset, size, batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Tensor | DataError:
        batch = self._dataset.subset(self._batches[number].numpy(), self._dataset.split)
        try:
            return torch.tensor(batch.array(self._size))
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
            DataError: images are missing or cannot be read.
            ConfigError: a setting does not fit the images.
        """
        train_set, validation_set = splits(config.data, config.holdout, config.seed, root)
        if config.limit:
            train_set, validation_set = _limited(train_set, config), _limited(validation_set, config)
        if not len(train_set) or not len(validation_set):
            raise DataError(f"{config.data}: too few images for training and validation; add some.")
        # Random resized crops gain from larger images; validation uses the model's size.
        crop_from = round(config.image_size * 1.15) if config.crop_scale < 1 else config.image_size
        train = LabelledImages(train_set, crop_from, device)
        validation = LabelledImages(validation_set, config.image_size, device)
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
        return cls(train_set.classes, train, validation, channels, tuple(mean), tuple(std))

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise images `(B, channels, H, W)` for the model."""
        return normalise(images, self.mean, self.std)

    def validation_batches(self, rank: int, ranks: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this rank's share of the validation batches: normalised images and labels."""
        batches = list(torch.arange(len(self.validation)).split(batch_size(self.validation.device)))[rank::ranks]
        for images, labels in self.validation.batches(batches):
            yield self.normalise(to_float(images)), labels


def _limited(dataset: DataSet, config: TrainConfig) -> DataSet:
    order = np.random.default_rng(config.seed).permutation(len(dataset))
    return dataset.subset(order[: config.limit], dataset.split)
