"""The training loop: one config in, one run folder out.

A run's folder holds `config.json`, `metrics.jsonl` (a line an epoch), `model.safetensors` (the validated weights, with
labels and preprocessing, so that the zoo can load it alone) and `checkpoints/last.pt` (everything needed to go on).
"""

import ctypes
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from swin_core.atomic import replacing
from swin_core.data import DataSet, cifar100, data_root, flower_photos, holdout, image_folder
from swin_core.errors import ConfigError, DataError, WeightsError
from swin_core.model import Swin, build
from swin_core.preprocessing import normalise, to_float
from swin_core.training.augment import augment
from swin_core.training.checkpoint import read_checkpoint, write_checkpoint
from swin_core.training.config import TrainConfig
from swin_core.training.evaluation import BATCH_SIZE, Figures, evaluate
from swin_core.training.optim import MovingAverage, build_optimizers, learning_rate
from swin_core.weights import load_weights, save_weights

__all__ = ["MEAN", "STD", "resume", "splits", "train"]

MEAN = (0.5071, 0.4866, 0.4409)
"""Mean of CIFAR-100's training pictures by channel; all recipes share it, so that fine-tuning keeps the first layer."""
STD = (0.2673, 0.2564, 0.2762)
"""Standard deviation of the same."""

Progress = Callable[[dict[str, Any]], None]


def train(
    config: TrainConfig,
    *,
    init: Path | None = None,
    root: str | os.PathLike[str] | None = None,
    runs_root: str | os.PathLike[str] = "runs",
    progress: Progress | None = None,
) -> Path:
    """Train a model.

    Args:
        config: all settings.
        init: the weights file that `config.init` names, if it names one.
        root: data root, as for `swin_core.data.data_root`.
        runs_root: folder in which the run's own folder is made.
        progress: called after each step and each epoch with a dictionary of figures.

    Returns:
        The run's folder.

    Raises:
        SwinError: data or weights are missing or do not fit.
    """
    data = _Data.load(config, root)
    torch.manual_seed(config.seed)
    model = build(config.variant, **_shape(config, data))
    if init is not None:
        load_weights(model, init)
    folder = _new_folder(config, Path(runs_root))
    _Run(config, data, model, folder, progress).go()
    return folder


def resume(folder: Path, *, root: str | os.PathLike[str] | None = None, progress: Progress | None = None) -> Path:
    """Go on with a run from its last checkpoint; its config is the run's own.

    Raises:
        SwinError: no run, or its data or checkpoint are missing or do not fit.
    """
    try:
        config = TrainConfig.from_dict(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{str(folder)!r} is no run that can be resumed: {error}") from error
    data = _Data.load(config, root)
    run = _Run(config, data, build(config.variant, **_shape(config, data)), folder, progress)
    run.restore(read_checkpoint(folder / "checkpoints" / "last.pt"))
    run.go()
    return folder


def splits(config: TrainConfig, root: str | os.PathLike[str] | None = None) -> tuple[DataSet, DataSet]:
    """The pictures that a config trains on, and those that validate it."""
    if config.data == "cifar100":
        return holdout(cifar100(data_root(root), "train"), config.holdout, config.seed)
    if config.data == "flowers":
        place = data_root(root)
        return flower_photos(place, "train"), flower_photos(place, "val")
    return holdout(image_folder(config.data), config.holdout, config.seed)


def _new_folder(config: TrainConfig, runs_root: Path) -> Path:
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{config.name}"
    for number in itertools.count(1):
        folder = runs_root / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
            (folder / "checkpoints").mkdir()
            with replacing(folder / "config.json") as file:
                file.write(json.dumps(config.to_dict(), indent=2).encode())
            return folder
        except FileExistsError:  # a run of that name started within the same second
            continue
        except OSError as error:
            raise ConfigError(f"no run can be made in {str(runs_root)!r}: {error.strerror}; choose another.") from error
    raise AssertionError("the count has no end")


def _shape(config: TrainConfig, data: "_Data") -> dict[str, Any]:
    return {
        "num_classes": len(data.classes),
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "window_size": config.window_size,
        "drop_path": config.drop_path,
    }


@dataclass(frozen=True, eq=False)
class _Data:
    """Training and validation pictures in memory, as bytes."""

    classes: tuple[str, ...]
    pictures: Tensor  # (N, S, S, 3) uint8
    labels: Tensor
    held_pictures: Tensor
    held_labels: Tensor

    @classmethod
    def load(cls, config: TrainConfig, root: str | os.PathLike[str] | None) -> "_Data":
        train_set, held = splits(config, root)
        if config.limit:
            train_set, held = (_first(part, config) for part in (train_set, held))
        if not len(train_set) or not len(held):
            raise DataError(f"{config.data}: too few pictures for training and validation; add some.")
        # A random crop finds more in a larger picture; validation sees exactly the size of the model.
        larger = round(config.image_size * 1.15) if config.crop_scale < 1 else config.image_size
        return cls(
            train_set.classes,
            torch.tensor(train_set.array(larger)),
            torch.tensor(train_set.labels),
            torch.tensor(held.array(config.image_size)),
            torch.tensor(held.labels),
        )

    def held_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        for pictures, labels in zip(
            self.held_pictures.split(BATCH_SIZE), self.held_labels.split(BATCH_SIZE), strict=True
        ):
            yield normalise(to_float(pictures), MEAN, STD), labels


def _first(part: DataSet, config: TrainConfig) -> DataSet:
    order = np.random.default_rng(config.seed).permutation(len(part))
    return part.subset(order[: config.limit], part.split)


class _Run:
    """A run under way: the model, its optimizers, and where it stands."""

    def __init__(self, config: TrainConfig, data: _Data, model: Swin, folder: Path, progress: Progress | None):
        self.config, self.data, self.folder = config, data, folder
        self._metrics = folder / "metrics.jsonl"
        self.progress = progress or (lambda figures: None)
        self.model = model
        self.averaged = deepcopy(model)
        self.optimizers = build_optimizers(model, config)
        self.average = MovingAverage(model.parameters(), config.ema) if config.ema else None
        self.epoch = 0
        self.steps_an_epoch = -(-len(data.labels) // config.batch_size)

    def go(self) -> None:
        """Train until the last epoch is done."""
        _keep_freed_memory()
        while self.epoch < self.config.epochs:
            started = time.perf_counter()
            loss = self._train_epoch()
            seconds = time.perf_counter() - started
            figures = self._validate()
            self.epoch += 1
            self._record(figures, loss, seconds)

    def _train_epoch(self) -> float:
        config, data = self.config, self.data
        count = len(data.labels)
        order = torch.randperm(count, generator=_generator(config.seed, self.epoch))
        self.model.train()
        total = 0.0
        for index in range(self.steps_an_epoch):
            step = self.epoch * self.steps_an_epoch + index
            chosen = order[index * config.batch_size : (index + 1) * config.batch_size]
            generator = _generator(config.seed, self.epoch, index)
            pictures = normalise(augment(data.pictures[chosen], config, generator), MEAN, STD)
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))  # drop path draws from it
            loss = self._step(pictures, data.labels[chosen], step)
            total += loss * len(chosen)
            self.progress({"epoch": self.epoch, "step": step, "steps": self._steps, "loss": loss})
        return total / count

    @property
    def _steps(self) -> int:
        return self.config.epochs * self.steps_an_epoch

    def _step(self, pictures: Tensor, labels: Tensor, step: int) -> float:
        config = self.config
        rate = learning_rate(step, self._steps, config)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
            logits = self.model(pictures)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
        loss.backward()
        if config.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        if self.average:
            self.average.update(self.model.parameters(), step)
        return loss.item()

    def _validate(self) -> Figures:
        if self.average:
            self.average.copy_to(self.averaged.parameters())
        else:
            self.averaged.load_state_dict(self.model.state_dict())
        return evaluate(self.averaged, self.data.held_batches())

    def _record(self, figures: Figures, loss: float, seconds: float) -> None:
        line = {
            "epoch": self.epoch,
            "train_loss": loss,
            "loss": figures.loss,
            "top1": figures.top1,
            "top5": figures.top5,
            "lr": learning_rate(self.epoch * self.steps_an_epoch - 1, self._steps, self.config),
            "seconds": seconds,
            "images_per_second": len(self.data.labels) / seconds,
        }
        with self._metrics.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        save_weights(self.averaged, self.folder / "model.safetensors", self._metadata())
        write_checkpoint(
            self.folder / "checkpoints" / "last.pt",
            {
                "epoch": self.epoch,
                "model": self.model.state_dict(),
                "average": self.average.values if self.average else [],
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            },
        )
        self.progress(line)

    def _metadata(self) -> dict[str, Any]:
        return {
            "labels": self.data.classes,
            "mean": MEAN,
            "std": STD,
            "image_size": self.config.image_size,
            "training": {**self.config.to_dict(), "epochs_done": self.epoch},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the state of a checkpoint.

        Raises:
            WeightsError: it is of a run with other settings, or damaged.
        """
        try:
            self.epoch = int(state["epoch"])
            self.model.load_state_dict(state["model"])
            if self.average:
                self.average.restore(state["average"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise WeightsError("the checkpoint is of a run with other settings, or damaged; start anew.") from error
        self._drop_lines_after(self.epoch)

    def _drop_lines_after(self, epoch: int) -> None:
        """Keep the figures of the first `epoch` epochs: a crash may leave half a line, or an epoch that is repeated."""
        lines = self._metrics.read_text().splitlines(keepends=True) if self._metrics.is_file() else []
        with replacing(self._metrics) as file:
            file.write("".join(lines[:epoch]).encode())


def _generator(*key: int) -> Generator:
    """A generator that depends on the key alone, so that a step draws the same whether or not a run was resumed."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
    return Generator().manual_seed(seed)


def _keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks instead of returning them to the system.

    Every step allocates the same large tensors; by default each comes as fresh pages that the kernel must clear, which
    costs up to half of the time of a step on a CPU.
    """
    if sys.platform.startswith("linux") and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 2**31 - 1)
