"""The training loop: one config in, one run folder out, on one device or several.

`recorder` says what lies in a run's folder. The global batch, the order of images and everything random depend on the
seed, the epoch and the step alone. So a run on two processes gives the losses of the same run on one, and a run that
was stopped at any step and resumed gives the losses of one that never stopped.
"""

import errno
import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from swin_core import runs
from swin_core.errors import ConfigError, RunError, SwinError, WeightsError
from swin_core.evaluation.metrics import Metrics, evaluate
from swin_core.models.config import VARIANTS
from swin_core.models.swin import DropPath, Swin, build
from swin_core.system.distributed import SINGLE, Ranks, device_name, gradient_sync, machine, peer_errors
from swin_core.system.memory import keep_freed_memory
from swin_core.training.checkpoint import read_checkpoint
from swin_core.training.config import TrainConfig
from swin_core.training.data import TrainingData
from swin_core.training.muon import has_bfloat16
from swin_core.training.objective import Objective, Teacher
from swin_core.training.optim import build_optimizers, freeze, learning_rate, moving_average
from swin_core.training.random_draws import Draws, pieces, seeded
from swin_core.training.run_writer import Progress, Recorder
from swin_core.weights.files import load_weights, read_metadata

__all__ = ["Trainer", "train"]

LINES_AN_EPOCH = 20
"""Metrics of steps that reach the disk in an epoch, at most."""

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def train(
    config: TrainConfig,
    folder: Path,
    *,
    init: Path | None = None,
    teacher: Callable[[tuple[str, ...]], Teacher] | None = None,
    root: str | Path | None = None,
    ranks: Ranks = SINGLE,
    stopping: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
) -> str:
    """Train a model in a run's folder, from its last checkpoint if there is one.

    Args:
        config: all settings.
        folder: the run's folder, as `runs.create` makes it.
        init: the weights file that `config.init` stands for, if it names one.
        teacher: makes the model that `config.teacher` stands for, given the names of the classes.
        root: data root, as for `swin_core.data.dataset.data_root`.
        ranks: the processes that train together, and this one's device.
        stopping: asked after each step: whether the run shall stop, after having saved.
        progress: called in rank 0 after each step and each epoch with a dictionary of figures.

    Returns:
        "finished" or "stopped".

    Raises:
        SwinError: data, weights or settings do not fit, the loss is not finite, or there is no space left. The run's
            status says so too.
    """
    recorder = Recorder(folder, config, progress) if ranks.is_main else None
    with _telling(recorder):
        trainer = Trainer.prepare(config, folder, init, teacher, root, ranks, recorder)
        state = trainer.go(stopping)
    if recorder is not None:
        recorder.end(state)
    return state


@contextmanager
def _telling(recorder: Recorder | None) -> Iterator[None]:
    """Say in the run's status what went wrong."""
    try:
        yield
    except BaseException as error:
        reason = str(error) if isinstance(error, SwinError) else f"{type(error).__name__}: {error}"
        cause = error if isinstance(error, OSError) else error.__cause__
        full = isinstance(cause, OSError) and cause.errno == errno.ENOSPC
        if full:
            reason = "no space is left on the disk; free some and resume the run, its last checkpoint is intact."
        if recorder is not None:
            recorder.end("failed", reason)
        if full:
            raise RunError(reason) from error
        raise


@dataclass
class _Place:
    """Where a run stands; the sums are of the images since the epoch began, over all processes."""

    epoch: int = 0
    """Epochs that are over."""
    index: int = 0
    """Steps that are done in the epoch that is under way."""
    loss: float = 0.0
    pictures: int = 0
    seconds: float = 0.0
    elapsed: float = 0.0
    """Seconds of training since the first step, over all sittings of the run."""
    best: list[float] = field(default_factory=lambda: [-1.0, 0.0])
    """Top-1 and negative loss of the best epoch."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "_Place":
        return cls(**{key: type(getattr(cls(), key))(value) for key, value in values.items()})


class Trainer:
    """A run under way: the model, its optimizers, and where it stands."""

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        model: Swin,
        ranks: Ranks = SINGLE,
        recorder: Recorder | None = None,
        teacher: Teacher | None = None,
    ):
        self.config, self.data, self.ranks, self.recorder = config, data, ranks, recorder
        self.model = model
        freeze(model, config.freeze)
        model.set_checkpointing(config.checkpointing)
        self.optimizers = build_optimizers(model, config)
        self.average = moving_average(model, config.ema, lambda: self.step) if config.ema else None
        self.place = _Place()
        self.steps_an_epoch = steps_an_epoch(len(data.train), config, ranks.size)
        self._learner = ranks.data_parallel(_compiled(model) if config.compile else model)
        self.is_narrow = config.precision == "bfloat16" or (config.precision == "auto" and has_bfloat16(ranks.device))
        """Whether matrix products are in bfloat16."""
        drop_paths = tuple(module for module in model.modules() if isinstance(module, DropPath) and module.rate)
        self._objective = Objective(config, data, self._learner, drop_paths, ranks.device, self.is_narrow, teacher)

    @classmethod
    def prepare(
        cls,
        config: TrainConfig,
        folder: Path,
        init: Path | None,
        teacher: Callable[[tuple[str, ...]], Teacher] | None,
        root: str | Path | None,
        ranks: Ranks,
        recorder: Recorder | None,
    ) -> "Trainer":
        """Read images and weights, and take up the last checkpoint if there is one."""
        checkpoint = folder / "checkpoints" / "last.pt"
        resumed = checkpoint.is_file()
        data = TrainingData.load(config, root, ranks.device, None if init is None else _scale(init))
        model = new_model(config, data)
        if init is not None and not resumed:
            load_weights(model, init)
        taught = teacher(data.classes) if teacher is not None else None
        trainer = cls(config, data, model.to(ranks.device), ranks, recorder, taught)
        if resumed:
            trainer.restore(read_checkpoint(checkpoint))
        if recorder is not None:
            recorder.describe(labels=data.classes, mean=data.mean, std=data.std, image_size=config.image_size)
            if resumed:
                recorder.drop_after(trainer.place.epoch, trainer.step)
        return trainer

    @property
    def step(self) -> int:
        """Steps that are done."""
        return self.place.epoch * self.steps_an_epoch + self.place.index

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.config.epochs * self.steps_an_epoch

    def go(self, stopping: Callable[[], bool]) -> str:
        """Train until the last epoch is over or `stopping` says so; "finished" or "stopped"."""
        keep_freed_memory()
        where = self._where()  # in every rank: it gathers the devices
        if self.recorder is not None:
            self.recorder.start(epoch=self.place.epoch, step=self.step, steps=self.steps, **where)
        while self.place.epoch < self.config.epochs:
            if not self.train_epoch(stopping):
                self._save()
                return "stopped"
            self._end_epoch()
        return "finished"

    def _where(self) -> dict[str, Any]:
        return {
            "processes": self.ranks.size,
            "pictures": len(self.data.train),
            "machine": machine(self.ranks.all_gather(device_name(self.ranks.device))),
        }

    def _batches(self) -> list[Tensor]:
        """The batches of this epoch, nearly equal in size; the order depends on the seed and the epoch alone."""
        count = len(self.data.train)
        order = torch.randperm(count, generator=seeded(self.config.seed, self.place.epoch))
        bounds = [step * count // self.steps_an_epoch for step in range(self.steps_an_epoch + 1)]
        return [order[start:stop] for start, stop in itertools.pairwise(bounds)]

    def train_epoch(self, stopping: Callable[[], bool]) -> bool:
        """Train to the end of the epoch; false if the run is to stop before that."""
        place, ranks = self.place, self.ranks
        batches = self._batches()[place.index :]
        mine = [self.rows(len(chosen)) for chosen in batches]
        read = self.data.train.batches(
            [chosen[rows] for chosen, parts in zip(batches, mine, strict=True) for rows in parts]
        )
        every = -(-self.steps_an_epoch // LINES_AN_EPOCH)
        loss_since = torch.zeros((), dtype=torch.float64, device=ranks.device)
        count_since, since = 0, time.perf_counter()
        self._learner.train()
        for chosen, parts in zip(batches, mine, strict=True):
            loss = self.train_step(len(chosen), parts, read)
            loss_since += loss
            count_since += len(chosen)
            place.index += 1
            if self.recorder is not None:
                part = loss / (parts[-1].stop - parts[0].start)
                self.recorder.step({"epoch": place.epoch, "step": self.step, "steps": self.steps, "loss": part})
            over = place.index == self.steps_an_epoch
            stop = ranks.any(stopping()) and not over
            if place.index % every == 0 or over or stop:
                ranks.synchronise()
                self._take_in(loss_since, count_since, time.perf_counter() - since)
                loss_since, count_since, since = torch.zeros_like(loss_since), 0, time.perf_counter()
            if stop:
                return False
        return True

    def rows(self, count: int) -> list[slice]:
        """The rows of a batch that this process computes, in the pieces in which it does."""
        pieces_each = self.config.accumulate
        return pieces(count, self.ranks.size * pieces_each)[self.ranks.rank * pieces_each :][:pieces_each]

    def train_step(self, count: int, parts: Sequence[slice], read: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
        """One step: a batch in pieces, then the optimizers.

        Args:
            count: images of the global batch.
            parts: this process's rows of it, piece by piece.
            read: gives images and labels of these pieces, one after the other.

        Returns:
            The sum of the losses of this process's images, float64, on the device.
        """
        config, place, device = self.config, self.place, self.ranks.device
        rate = learning_rate(self.step, self.steps, config)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            optimizer.zero_grad()
        total = torch.zeros((), dtype=torch.float64, device=device)
        for number, rows in enumerate(parts, 1):
            pictures, labels = next(read)
            draws = Draws((config.seed, place.epoch, place.index), count, rows, device)
            # Gradients are exchanged once a step, while the last piece's backward pass goes on.
            with gradient_sync(self._learner, number == len(parts)):
                loss = self._objective.loss(pictures, labels, draws)
                # Several processes' gradients are averaged; what is wanted is the mean over the batch.
                with peer_errors():  # the backward pass exchanges the gradients
                    (loss * (self.ranks.size / count)).backward()
            total += loss.detach().double()
        if config.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        if self.average:
            self.average.update_parameters(self.model)
        return total

    def _take_in(self, loss: Tensor, count: int, seconds: float) -> None:
        """Add up the figures of some steps and write them."""
        place = self.place
        total = float(self.ranks.sum(loss))
        if not total < float("inf"):
            raise RunError(
                f"the loss is not a finite number after step {self.step}; lower --lr, or raise --warmup or --clip."
            )
        place.loss += total
        place.pictures += count
        place.seconds += seconds
        place.elapsed += seconds
        if self.recorder is not None:
            line: runs.StepMetrics = {
                "step": self.step,
                "epoch": self.step / self.steps_an_epoch,
                "loss": total / count,
                "lr": learning_rate(self.step - 1, self.steps, self.config),
                "images_per_second": count / seconds,
                "elapsed": place.elapsed,
            }
            self.recorder.interval(line, place.elapsed / self.step * (self.steps - self.step))

    def _end_epoch(self) -> None:
        place = self.place
        figures = self.validate()
        line: runs.EpochMetrics = {
            "epoch": place.epoch + 1,
            "train_loss": place.loss / place.pictures,
            "loss": figures.loss,
            "top1": figures.top1,
            "top5": figures.top5,
            "lr": learning_rate(self.step - 1, self.steps, self.config),
            "seconds": place.seconds,
            "images_per_second": place.pictures / place.seconds,
            "elapsed": place.elapsed,
            "saved": "",
        }
        rating = [figures.top1, -figures.loss]
        best = rating > place.best
        self.place = _Place(place.epoch + 1, elapsed=place.elapsed, best=max(rating, place.best))
        if self.recorder is not None:
            self.recorder.epoch(line, best, figures, self.validated)
        self._save(epoch=self.place.epoch, top1=figures.top1, best_top1=self.place.best[0])

    @property
    def validated(self) -> Swin:
        """The model that is validated and saved: the moving average of the weights, or the model itself without one."""
        return cast(Swin, self.average.module) if self.average else self.model

    def validate(self) -> Metrics:
        """Metrics of `validated` on the validation images."""
        return evaluate(self.validated, self.data.held_batches(self.ranks.rank, self.ranks.size), self.ranks)

    def _save(self, **facts: Any) -> None:
        if self.recorder is not None:
            state = {
                "place": asdict(self.place),
                "model": self.model.state_dict(),
                "average": [value.detach() for value in self.average.module.parameters()] if self.average else [],
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            }
            self.recorder.checkpoint(state, step=self.step, **facts)

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the state of a checkpoint.

        Raises:
            WeightsError: it is of a run with other settings, or damaged.
        """
        try:
            self.place = _Place.from_dict(state["place"])
            self.model.load_state_dict(state["model"])
            if self.average:
                with torch.no_grad():
                    for average, value in zip(self.average.module.parameters(), state["average"], strict=True):
                        average.copy_(value)
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise WeightsError("the checkpoint is of a run with other settings, or damaged; start anew.") from error


def steps_an_epoch(pictures: int, config: TrainConfig, processes: int) -> int:
    """Steps in which some images are seen once.

    Raises:
        ConfigError: a step is too small to be divided among the processes and pieces.
    """
    steps = -(-pictures // config.batch_size)
    smallest = pictures // steps
    if smallest < 2 * processes * config.accumulate:
        raise ConfigError(
            f"a step of {smallest} images is too small for {processes} processes of {config.accumulate} pieces: "
            "each piece needs two images at least."
        )
    return steps


def new_model(config: TrainConfig, data: TrainingData) -> Swin:
    """A model of the config's shape for the data's classes and channels, with the random weights of the seed.

    An ablation takes away from a variant or adds to it; what a variant does without, such as a ViT's shift, stays away.
    """
    torch.manual_seed(config.seed)
    usual = VARIANTS[config.variant]
    return build(
        config.variant,
        num_classes=len(data.classes),
        in_chans=data.channels,
        image_size=config.image_size,
        patch_size=config.patch_size,
        window_size=config.window_size,
        shift=config.shift and usual.shift,
        relative_position_bias=config.relative_position_bias and usual.relative_position_bias,
        absolute_embedding=config.absolute_embedding or usual.absolute_embedding,
        drop_path=config.drop_path,
    )


def _scale(weights: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that weights were trained with: the file's own, else ImageNet's."""
    metadata = read_metadata(weights)
    try:
        return tuple(map(float, metadata["mean"])), tuple(map(float, metadata["std"]))
    except (KeyError, TypeError, ValueError):
        return _IMAGENET


def _compiled(model: Swin) -> nn.Module:
    if not torch.cuda.is_available() and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise ConfigError(
            "torch.compile needs a C++ compiler, and none was found; install g++, or leave --compile out."
        )
    compiled = torch.compile(model)
    assert isinstance(compiled, nn.Module)
    return compiled
