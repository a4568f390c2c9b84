"""The images of a run: read once and kept in memory where they fit, else decoded ahead by worker processes."""

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

__all__ = ["MEAN", "STD", "Pictures", "TrainingData", "kept_bytes"]

MEAN = (0.5071, 0.4866, 0.4409)
"""Mean of CIFAR-100's training images by channel; runs from random weights share it, whatever the images."""
STD = (0.2673, 0.2564, 0.2762)
"""Standard deviation of the same."""

_SHARE_OF_MEMORY = 0.4
"""Share of the free memory that decoded images may take; beyond it they are read when they are needed."""

_MOST_WORKERS = 8
"""Decoding processes of a rank at most."""


class Pictures:
    """Images of one size and their labels, in memory or read when they are asked for.

    Args:
        dataset: what is read.
        size: side in pixels.
        device: where batches are wanted; what is kept in memory is kept there.
    """

    def __init__(self, dataset: DataSet, size: int, device: torch.device):
        self.labels = torch.tensor(dataset.labels, device=device)
        self._dataset, self._size, self._device = dataset, size, device
        self._kept: Tensor | None = None
        if kept_bytes(self, len(dataset)):
            self._kept = torch.tensor(dataset.array(size), device=device)
            self._dataset = dataset.subset([], dataset.split)  # or all that it has decoded would be in memory twice

    def __len__(self) -> int:
        return len(self.labels)

    def first(self) -> Tensor:
        """The first image, `(1, S, S, channels)`."""
        return self._read(torch.tensor([0]))

    def batches(self, batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Some batches, each given by its indices: images `(B, S, S, channels)` and labels `(B,)`."""
        if self._kept is not None:
            for chosen in batches:
                places = chosen.to(self._device)
                yield self._kept[places], self.labels[places]
            return
        on_gpu = self._device.type == "cuda"
        loader = DataLoader(
            _Batches(self._dataset, self._size, batches),
            batch_size=None,
            num_workers=min(_workers(), len(batches)),
            worker_init_fn=_ignore_signals,
            pin_memory=on_gpu and torch.cuda.is_available(),
        )
        for chosen, pictures in zip(batches, loader, strict=True):
            if isinstance(pictures, DataError):
                raise pictures
            yield pictures.to(self._device, non_blocking=on_gpu), self.labels[chosen.to(self._device)]

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, over a thousand images at most."""
        few = torch.arange(0, len(self), max(1, len(self) // 1000))
        values = to_float(self._read(few)).double()
        mean, std = values.mean((0, 2, 3)), values.std((0, 2, 3)).clamp(min=1e-6)
        return tuple(mean.tolist()), tuple(std.tolist())

    def _read(self, chosen: Tensor) -> Tensor:
        if self._kept is not None:
            return self._kept[chosen.to(self._device)]
        return torch.tensor(self._dataset.subset(chosen.numpy(), self._dataset.split).array(self._size))

    @property
    def device(self) -> torch.device:
        """Where batches are wanted."""
        return self._device


class _Batches(Dataset[Tensor | DataError]):
    """Decoded batches by number, for the workers of a `DataLoader`.

    An image that cannot be read gives its error as a value: a worker that raises it would add its stack to the message.
    """

    def __init__(self, dataset: DataSet, size: int, batches: Sequence[Tensor]):
        self._dataset, self._size, self._batches = dataset, size, batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Tensor | DataError:
        part = self._dataset.subset(self._batches[number].numpy(), self._dataset.split)
        try:
            return torch.tensor(part.array(self._size))
        except DataError as error:
            return error


def _workers() -> int:
    """Processes that decode for this rank: its share of the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def _ignore_signals(worker: int) -> None:
    """A signal to stop is for the trainer, which needs its workers until the step is done."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def kept_bytes(pictures: Pictures, count: int) -> int:
    """Bytes of `count` decoded images like these that would be kept in memory; 0 where there is no room for them."""
    wanted = pictures.first().nbytes * count
    # Decoding holds the images twice for a moment: each alone, and all together.
    free = psutil.virtual_memory().available * _SHARE_OF_MEMORY / 2
    if pictures.device.type == "cuda":
        free = min(free, torch.cuda.mem_get_info(pictures.device)[0] * _SHARE_OF_MEMORY)
    return wanted if wanted <= free else 0


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Training and validation images of a run, with what they are normalised by."""

    classes: tuple[str, ...]
    train: Pictures
    held: Pictures
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def load(
        cls,
        config: TrainConfig,
        root: str | os.PathLike[str] | None,
        device: torch.device,
        scale: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> "TrainingData":
        """Read the images of a config.

        Args:
            config: data, sizes and limits.
            root: data root, as for `swin_core.data.dataset.data_root`.
            device: where batches are wanted.
            scale: mean and standard deviation that the first weights were trained with; None for the project's own,
                or for those of the arrays.

        Raises:
            DataError: images are missing, or cannot be read.
            ConfigError: a setting that does not fit them.
        """
        parts = splits(config.data, config.holdout, config.seed, root)
        if config.limit:
            parts = (_first(parts[0], config), _first(parts[1], config))
        train_set, held_set = parts
        if not len(train_set) or not len(held_set):
            raise DataError(f"{config.data}: too few images for training and validation; add some.")
        # A random crop finds more in a larger image; validation sees exactly the size of the model.
        larger = round(config.image_size * 1.15) if config.crop_scale < 1 else config.image_size
        train = Pictures(train_set, larger, device)
        held = Pictures(held_set, config.image_size, device)
        first = train.first()
        channels, are_bytes = first.shape[3], first.dtype == torch.uint8
        if channels != 3 and (config.randaugment or config.colour_jitter):
            raise ConfigError(
                f"{config.data} has arrays of {channels} channels, which randaugment and colour_jitter cannot change; "
                "set both to 0."
            )
        if scale is None or len(scale[0]) != channels:
            scale = (MEAN, STD) if channels == 3 and are_bytes else train.statistics()
        return cls(train_set.classes, train, held, channels, tuple(scale[0]), tuple(scale[1]))

    def normalise(self, pictures: Tensor) -> Tensor:
        """Images `(B, channels, H, W)` as the model takes them."""
        return normalise(pictures, self.mean, self.std)

    def held_batches(self, rank: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The validation batches that are this process's share."""
        batches = list(torch.arange(len(self.held)).split(batch_size(self.held.device)))[rank::size]
        for pictures, labels in self.held.batches(batches):
            yield self.normalise(to_float(pictures)), labels


def _first(part: DataSet, config: TrainConfig) -> DataSet:
    order = np.random.default_rng(config.seed).permutation(len(part))
    return part.subset(order[: config.limit], part.split)
