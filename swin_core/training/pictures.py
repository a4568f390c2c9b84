"""The images of a run: read once and kept in memory where they fit, else decoded ahead by worker processes."""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from swin_core.data import DataSet, array_folder, cifar100, data_root, flower_photos, holdout, image_folder
from swin_core.errors import ConfigError, DataError, listed
from swin_core.preprocessing import normalise, to_float
from swin_core.training.config import TrainConfig
from swin_core.training.evaluation import batch_size

__all__ = ["MEAN", "STD", "Pictures", "TrainingData", "has_own_split", "kept_bytes", "open_folder", "splits"]

MEAN = (0.5071, 0.4866, 0.4409)
"""Mean of CIFAR-100's training pictures by channel; runs from random weights share it, whatever the pictures."""
STD = (0.2673, 0.2564, 0.2762)
"""Standard deviation of the same."""

_SHARE_OF_MEMORY = 0.4
"""Share of the free memory that decoded pictures may take; beyond it they are read when they are needed."""

_HELD = ("val", "valid", "validation", "test")
"""Names of the folder of pictures that validate, where a data set brings one."""

_MOST_WORKERS = 8
"""Decoding processes of a rank at most."""


def splits(config: TrainConfig, root: str | os.PathLike[str] | None = None) -> tuple[DataSet, DataSet]:
    """The pictures that a config trains on, and those that validate it.

    A folder with `train` and `val` in it (or `valid`, `validation`, `test`) brings its own split.
    """
    if config.data == "cifar100":
        return holdout(cifar100(data_root(root), "train"), config.holdout, config.seed)
    if config.data == "flowers":
        place = data_root(root)
        return flower_photos(place, "train"), flower_photos(place, "val")
    if not config.data:
        raise ConfigError("there is no data set to train on; name cifar100, flowers or a folder with --data.")
    folder = Path(config.data)
    if has_own_split(folder):
        name = next(name for name in _HELD if (folder / name).is_dir())
        train, held = open_folder(folder / "train"), open_folder(folder / name)
        if train.classes != held.classes:
            different = sorted(set(train.classes) ^ set(held.classes))
            raise DataError(f"train and {name} of {folder} have different classes: {listed(different)}.")
        return replace(train, name=folder.name, split="train"), replace(held, name=folder.name, split="val")
    return holdout(open_folder(folder), config.holdout, config.seed)


def has_own_split(folder: Path) -> bool:
    """Whether a folder holds one folder for training and one for validation, each with the classes in it."""
    return (folder / "train").is_dir() and any((folder / name).is_dir() for name in _HELD)


def open_folder(folder: Path) -> DataSet:
    """A folder of class folders, with pictures or else with arrays."""
    try:
        return image_folder(folder)
    except DataError:
        if not folder.is_dir():
            raise
        try:
            return array_folder(folder)
        except DataError as error:
            raise DataError(f"{folder} has no class folders with pictures or arrays in them.") from error


class Pictures:
    """Pictures of one size and their labels, in memory or read when they are asked for.

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
        """The first picture, `(1, S, S, channels)`."""
        return self._read(torch.tensor([0]))

    def batches(self, batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Some batches, each given by its indices: pictures `(B, S, S, channels)` and labels `(B,)`."""
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
        """Mean and standard deviation of each channel, over a thousand pictures at most."""
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
    """Bytes of `count` decoded pictures like these that would be kept in memory; 0 where there is no room for them."""
    wanted = pictures.first().nbytes * count
    # Decoding holds the pictures twice for a moment: each alone, and all together.
    free = psutil.virtual_memory().available * _SHARE_OF_MEMORY / 2
    if pictures.device.type == "cuda":
        free = min(free, torch.cuda.mem_get_info(pictures.device)[0] * _SHARE_OF_MEMORY)
    return wanted if wanted <= free else 0


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Training and validation pictures of a run, with what they are normalised by."""

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
        """Read the pictures of a config.

        Args:
            config: data, sizes and limits.
            root: data root, as for `swin_core.data.data_root`.
            device: where batches are wanted.
            scale: mean and standard deviation that the first weights were trained with; None for the project's own,
                or for those of the arrays.

        Raises:
            DataError: pictures are missing, or cannot be read.
            ConfigError: a setting that does not fit them.
        """
        parts = splits(config, root)
        if config.limit:
            parts = (_first(parts[0], config), _first(parts[1], config))
        train_set, held_set = parts
        if not len(train_set) or not len(held_set):
            raise DataError(f"{config.data}: too few pictures for training and validation; add some.")
        # A random crop finds more in a larger picture; validation sees exactly the size of the model.
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
        """Pictures `(B, channels, H, W)` as the model takes them."""
        return normalise(pictures, self.mean, self.std)

    def held_batches(self, rank: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The validation batches that are this process's share."""
        batches = list(torch.arange(len(self.held)).split(batch_size(self.held.device)))[rank::size]
        for pictures, labels in self.held.batches(batches):
            yield self.normalise(to_float(pictures)), labels


def _first(part: DataSet, config: TrainConfig) -> DataSet:
    order = np.random.default_rng(config.seed).permutation(len(part))
    return part.subset(order[: config.limit], part.split)
