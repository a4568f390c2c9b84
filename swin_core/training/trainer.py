"""The training loop: one config in, one run folder out, on one device or several.

The global batch, the order of images and all random numbers depend on the seed, the epoch and the step alone. So a run
of two ranks gives the losses of the same run on one, and a run that was stopped at any step and resumed gives the
losses of one that never stopped. `run_writer` writes the run's folder.
"""

import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from swin_core import runs
from swin_core.errors import ConfigError, RunError, WeightsError
from swin_core.evaluation.metrics import Metrics, evaluate
from swin_core.models.config import VARIANTS
from swin_core.models.precision import uses_bfloat16
from swin_core.models.swin import DropPath, Swin
from swin_core.runs.files import FINDINGS
from swin_core.system.atomic import atomic_write
from swin_core.system.distributed import SINGLE, Ranks, device_name, gradient_sync, machine, peer_errors
from swin_core.system.memory import keep_freed_memory
from swin_core.training.checkpoint import newest_checkpoint
from swin_core.training.config import TrainConfig
from swin_core.training.data import TrainingData, normalisation_of
from swin_core.training.data_contents import check_data
from swin_core.training.objective import Objective, Teacher, balanced_weights
from swin_core.training.optim import build_optimizers, freeze, learning_rate, moving_average
from swin_core.training.position import Position
from swin_core.training.random_draws import Draws, seeded, split_batch
from swin_core.training.recipes import marks
from swin_core.training.run_writer import OnMetrics, RunWriter, failures_written
from swin_core.training.without import Without
from swin_core.weights.files import load_weights

MAX_LINES_PER_EPOCH = 20
"""Most lines of an epoch in steps.jsonl."""


def train(
    config: TrainConfig,
    folder: Path,
    *,
    init: Path | None = None,
    teacher: Callable[[tuple[str, ...]], Teacher] | None = None,
    root: str | Path | None = None,
    ranks: Ranks = SINGLE,
    stopping: Callable[[], bool] = lambda: False,
    on_metrics: OnMetrics | None = None,
    accept_changed_data: bool = False,
) -> str:
    """Train a model in a run's folder, from its newest intact checkpoint if there is one.

    Args:
        config: all settings.
        folder: the run's folder, as `runs.create` makes it.
        init: the weights file that `config.init` names.
        teacher: makes the model that `config.teacher` names, for the class names it is called with.
        root: data root, as for `swin_core.data.dataset.data_root`.
        ranks: the processes that train together, and this one's device.
        stopping: called after each step; if true, the run saves and stops.
        on_metrics: called in rank 0 after each step and each epoch with a dictionary of metrics.
        accept_changed_data: go on although the data are not those that the run was trained on.

    Returns:
        "finished" or "stopped".

    Raises:
        SwinError: data, weights or settings do not fit, the loss is not finite, or the disk is full. The run's status
            has the reason.
    """
    writer = RunWriter(folder, config, on_metrics, ranks.stalled) if ranks.is_main else None
    with failures_written(writer):
        trainer = Trainer.prepare(config, folder, init, teacher, root, ranks, writer, accept_changed_data)
        state = trainer.run(stopping)
    if writer is not None:
        early = f"no better validation for {config.patience} epochs" if trainer.ends_early else ""
        writer.end(state, early)
    return state


class Trainer:
    """The state of a run: the model, its optimizers, and how far it has come.

    `findings` is the run's own copy of the findings file that `config.without` names, if there is one.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        model: Swin,
        ranks: Ranks = SINGLE,
        writer: RunWriter | None = None,
        teacher: Teacher | None = None,
        findings: Path | None = None,
    ):
        self.config, self.data, self.ranks, self.writer = config, data, ranks, writer
        self.model = model
        freeze(model, config.freeze)
        model.set_checkpointing(config.checkpointing)
        self.optimizers = build_optimizers(model, config)
        self.average = moving_average(model, config.ema, lambda: self.step) if config.ema else None
        self.position = Position()
        self.steps_per_epoch = steps_per_epoch(len(data.train), config, ranks.size)
        self._learner = ranks.data_parallel(_compiled(model) if config.compile else model)
        self.uses_bfloat16 = uses_bfloat16(config.precision, ranks.device)
        drop_paths = tuple(module for module in model.modules() if isinstance(module, DropPath) and module.rate)
        weights = balanced_weights(data.train.labels, len(data.classes)) if config.class_weights == "balanced" else None
        without = Without.read(str(findings or config.without), data) if config.without else None
        self._objective = Objective(
            config, data, self._learner, drop_paths, ranks.device, self.uses_bfloat16, teacher, weights, without
        )

    @classmethod
    def prepare(
        cls,
        config: TrainConfig,
        folder: Path,
        init: Path | None,
        teacher: Callable[[tuple[str, ...]], Teacher] | None,
        root: str | Path | None,
        ranks: Ranks,
        writer: RunWriter | None,
        accept_changed_data: bool,
    ) -> "Trainer":
        """Read images and weights, and restore the newest intact checkpoint if there is one."""
        checkpoint = newest_checkpoint(folder / "checkpoints")
        data = TrainingData.load(config, root, ranks.device, None if init is None else normalisation_of(init))
        change = check_data(data.contents, checkpoint.state, folder, accept_changed_data) if checkpoint else {}
        model = new_model(config, data, None if checkpoint else init)
        findings = folder / FINDINGS  # the file that the settings name may be another one by now
        trainer = cls(
            config,
            data,
            model.to(ranks.device),
            ranks,
            writer,
            teacher(data.classes) if teacher else None,
            findings if findings.is_file() else None,
        )
        if checkpoint:
            trainer.restore(checkpoint.state)
        if change:  # the epoch has other batches
            trainer.position = replace(trainer.position, index=0, loss=0.0, pictures=0, seconds=0.0)
        if writer is not None:
            if config.without and not findings.is_file():
                with atomic_write(findings) as stream:
                    stream.write(Path(config.without).read_bytes())
            if change:
                runs.add_change(folder, trainer.position.epoch, change)
            marked = marks(config.to_dict(), runs.read_changes(folder))
            writer.metadata = {
                "labels": data.classes,
                "mean": data.mean,
                "std": data.std,
                "image_size": config.image_size,
                "description": "; ".join([f"trained on {Path(config.data).name}", *marked]),
            }
            if checkpoint is None:
                writer.set_metrics_aside()
            else:
                writer.drop_after(trainer.step / trainer.steps_per_epoch)
                if checkpoint.remark:
                    writer.remark(checkpoint.remark)
        return trainer

    @property
    def step(self) -> int:
        """Finished steps."""
        return self.position.epoch * self.steps_per_epoch + self.position.index

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.config.epochs * self.steps_per_epoch

    def run(self, stopping: Callable[[], bool]) -> str:
        """Train to the last epoch, or until `ends_early` or `stopping`; return "finished" or "stopped"."""
        keep_freed_memory()
        gathered = machine(self.ranks.all_gather(device_name(self.ranks.device)))  # a collective: call it on every rank
        if self.writer is not None:
            facts = {"processes": self.ranks.size, "pictures": len(self.data.train), "machine": gathered}
            self.writer.start(epoch=self.position.epoch, step=self.step, steps=self.steps, **facts)
        if not self.position.epoch:
            self._record_files()
        while self.position.epoch < self.config.epochs and not self.ends_early:
            if not self.train_epoch(stopping):
                self._save()
                return "stopped"
            self._end_epoch()
        return "finished"

    @property
    def ends_early(self) -> bool:
        """Whether validation has not improved for `patience` epochs."""
        return 0 < self.config.patience <= self.position.stale

    def _record_files(self) -> None:
        """Record which files are not used, as all ranks found."""
        gathered = self.ranks.all_gather(self.data.unreadable())
        unreadable = list(dict.fromkeys(file for files in gathered for file in files))
        if self.writer is not None:
            self.writer.files(self.data.counts(), self.data.skipped, unreadable)

    def _batches(self) -> list[Tensor]:
        """Return the image indices of each batch of this epoch; batches differ by one image at most in size."""
        count = len(self.data.train)
        order = torch.randperm(count, generator=seeded(self.config.seed, self.position.epoch))
        bounds = [step * count // self.steps_per_epoch for step in range(self.steps_per_epoch + 1)]
        return [order[start:stop] for start, stop in itertools.pairwise(bounds)]

    def train_epoch(self, stopping: Callable[[], bool]) -> bool:
        """Train to the end of the epoch; return false if the run is to stop before."""
        position, ranks = self.position, self.ranks
        batches = self._batches()[position.index :]
        parts_of_batches = [self.rows(len(batch)) for batch in batches]
        pieces = [batch[rows] for batch, parts in zip(batches, parts_of_batches, strict=True) for rows in parts]
        images_and_labels = self.data.train.batches(pieces)
        interval = -(-self.steps_per_epoch // MAX_LINES_PER_EPOCH)
        loss_sum = torch.zeros((), dtype=torch.float64, device=ranks.device)
        image_count, start = 0, time.perf_counter()
        self._learner.train()
        for batch, parts in zip(batches, parts_of_batches, strict=True):
            loss = self.train_step(len(batch), parts, images_and_labels)
            loss_sum += loss
            image_count += len(batch)
            position.index += 1
            if self.writer is not None:
                mean_loss = loss / (parts[-1].stop - parts[0].start)
                self.writer.step({"epoch": position.epoch, "step": self.step, "steps": self.steps, "loss": mean_loss})
            is_last = position.index == self.steps_per_epoch
            stop = ranks.any(stopping()) and not is_last
            if position.index % interval == 0 or is_last or stop:
                ranks.synchronise()
                self._end_interval(loss_sum, image_count, time.perf_counter() - start)
                loss_sum, image_count, start = torch.zeros_like(loss_sum), 0, time.perf_counter()
            if stop:
                return False
        return True

    def rows(self, count: int) -> list[slice]:
        """Return the rows of a batch of `count` images that this rank computes, one slice per micro-batch."""
        micro_batches = self.config.accumulate
        first = self.ranks.rank * micro_batches
        return split_batch(count, self.ranks.size * micro_batches)[first : first + micro_batches]

    def train_step(self, count: int, parts: Sequence[slice], read: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
        """Train on one batch in micro-batches.

        Args:
            count: images of the global batch.
            parts: this rank's rows of the batch, one slice per micro-batch.
            read: yields the images and labels of each micro-batch.

        Returns:
            The sum of the losses of this rank's images, float64, on the device.
        """
        config, position, device = self.config, self.position, self.ranks.device
        rate = learning_rate(self.step, self.steps, config)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            optimizer.zero_grad()
        total = torch.zeros((), dtype=torch.float64, device=device)
        for number, rows in enumerate(parts, 1):
            images, labels = next(read)
            draws = Draws((config.seed, position.epoch, position.index), count, rows, device)
            # The gradients are exchanged once per step, during the backward pass of the last micro-batch.
            with gradient_sync(self._learner, number == len(parts)):
                loss = self._objective.loss(images, labels, draws)
                # The exchange averages over ranks; times their number, the sum over the batch is divided by its size.
                with peer_errors():
                    (loss * (self.ranks.size / count)).backward()
            total += loss.detach().double()
        if config.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        if self.average:
            self.average.update_parameters(self.model)
        return total

    def _end_interval(self, loss: Tensor, count: int, seconds: float) -> None:
        """Add the metrics of some steps to those of the epoch, and write them."""
        position = self.position
        total = float(self.ranks.sum(loss))
        if not total < float("inf"):
            raise RunError(
                f"the loss is not a finite number after step {self.step}; lower --lr, or raise --warmup or --clip."
            )
        position.loss += total
        position.pictures += count
        position.seconds += seconds
        position.elapsed += seconds
        if self.writer is not None:
            line: runs.StepMetrics = {
                "step": self.step,
                "epoch": self.step / self.steps_per_epoch,
                "loss": total / count,
                "lr": learning_rate(self.step - 1, self.steps, self.config),
                "images_per_second": count / seconds,
                "elapsed": position.elapsed,
            }
            self.writer.interval(line, position.elapsed / self.step * (self.steps - self.step))

    def _end_epoch(self) -> None:
        """Validate, write the epoch's metrics and weights, and save a checkpoint."""
        position = self.position
        metrics = self.validate()
        self._record_files()
        line: runs.EpochMetrics = {
            "epoch": position.epoch + 1,
            "train_loss": position.loss / position.pictures,
            "loss": metrics.loss,
            "top1": metrics.top1,
            "top5": metrics.top5,
            "balanced": metrics.balanced if metrics.is_uneven else None,
            "lr": learning_rate(self.step - 1, self.steps, self.config),
            "seconds": position.seconds,
            "images_per_second": position.pictures / position.seconds,
            "elapsed": position.elapsed,
            "saved": "",
        }
        rating = [metrics.top1, -metrics.loss]
        is_best = rating > position.best
        best, stale = max(rating, position.best), 0 if is_best else position.stale + 1
        self.position = Position(position.epoch + 1, elapsed=position.elapsed, best=best, stale=stale)
        if self.writer is not None:
            self.writer.epoch(line, is_best, metrics, self.validated)
        self._save(epoch=self.position.epoch, top1=metrics.top1, best_top1=self.position.best[0])

    @property
    def validated(self) -> Swin:
        """The model that is validated and saved: the moving average if there is one, else the model."""
        return cast(Swin, self.average.module) if self.average else self.model

    def validate(self) -> Metrics:
        """Return the metrics of `validated` on the validation images."""
        batches = self.data.validation_batches(self.ranks.rank, self.ranks.size)
        if self.writer is not None:
            batches = self.writer.watched(batches)
        fast = self.uses_bfloat16 and self.ranks.device.type == "cuda"  # on a CPU the last digit counts more than time
        return evaluate(self.validated, batches, self.ranks, bfloat16=fast)

    def _save(self, **facts: Any) -> None:
        if self.writer is not None:
            state = {
                "place": asdict(self.position),
                "data": self.data.contents.to_dict(),
                "model": self.model.state_dict(),
                "average": [value.detach() for value in self.average.module.parameters()] if self.average else [],
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "metadata": {
                    **self.writer.metadata,
                    "config": self.model.config.to_dict(),
                },  # the file loads on its own
            }
            self.writer.checkpoint(state, step=self.step, **facts)

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint.

        Raises:
            WeightsError: it is of a run with other settings, or damaged.
        """
        try:
            self.position = Position.from_dict(state["place"])
            self.model.load_state_dict(state["model"])
            # Checkpoints of older versions have no metadata.
            if windows := state.get("metadata", {}).get("config", {}).get("pretrained_window_sizes"):
                self.model.set_trained_windows(windows)
                if self.average:
                    cast(Swin, self.average.module).set_trained_windows(windows)
            if self.average:
                with torch.no_grad():
                    for average, value in zip(self.average.module.parameters(), state["average"], strict=True):
                        average.copy_(value)
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise WeightsError("the checkpoint is of a run with other settings, or damaged; start anew.") from error


def steps_per_epoch(images: int, config: TrainConfig, ranks: int) -> int:
    """Return the number of steps in which each image is seen once.

    Raises:
        ConfigError: a batch is too small to be divided among the ranks and micro-batches.
    """
    steps = -(-images // config.batch_size)
    smallest = images // steps
    if smallest < 2 * ranks * config.accumulate:
        raise ConfigError(
            f"a batch of {smallest} images is too small for {ranks} processes with {config.accumulate} micro-batches: "
            "each micro-batch needs at least two images."
        )
    return steps


def new_model(config: TrainConfig, data: TrainingData, init: Path | None = None) -> Swin:
    """Return a model of the config's shape for the data's classes and channels, from the file `init` or the seed.

    Shift and bias stay off if the variant has none; its absolute embedding stays on.

    Raises:
        WeightsError: the weights do not fit.
    """
    torch.manual_seed(config.seed)
    variant = VARIANTS[config.variant]
    config_of_model = replace(
        variant,
        num_classes=len(data.classes),
        in_chans=data.channels,
        image_size=config.image_size,
        patch_size=config.patch_size,
        window_size=config.window_size,
        shift=config.shift and variant.shift,
        relative_position_bias=config.relative_position_bias and variant.relative_position_bias,
        absolute_embedding=config.absolute_embedding or variant.absolute_embedding,
        drop_path=config.drop_path,
    )
    model = Swin(config_of_model)
    if init is not None:
        try:
            load_weights(model, init)
        except WeightsError as error:
            hint = "choose other weights to start from (--init), or the variant that they were made for"
            raise WeightsError(f"{str(error).rstrip('.')}; {hint}.") from error
    return model


def _compiled(model: Swin) -> nn.Module:
    if not torch.cuda.is_available() and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise ConfigError(
            "torch.compile needs a C++ compiler, and none was found; install g++, or leave --compile out."
        )
    return cast(nn.Module, torch.compile(model))
