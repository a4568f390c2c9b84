"""What a run leaves on the disk while it goes on: figures, status, weights and checkpoints.

Rank 0 alone writes. Each file is replaced whole or grows by whole lines, so that a page can read at any moment and a
crash at any byte leaves something that loads.
"""

import json
import logging
import math
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from swin_core import runs
from swin_core.errors import RunError
from swin_core.evaluation.metrics import Metrics
from swin_core.models.swin import Swin
from swin_core.system.atomic import atomic_write
from swin_core.training.checkpoint import write_checkpoint
from swin_core.training.config import TrainConfig
from swin_core.weights.files import save_weights

__all__ = ["Progress", "Recorder"]

Progress = Callable[[dict[str, Any]], None]

HEARTBEAT = 2.0
"""Seconds between two signs of life."""

log = logging.getLogger(__name__)


class Recorder:
    """Writes a run's folder.

    Args:
        folder: the run's folder, which `runs.create` made.
        config: the run's settings.
        progress: called after each step and each epoch with a dictionary of figures.
    """

    def __init__(self, folder: Path, config: TrainConfig, progress: Progress | None = None):
        self.folder, self.config = folder, config
        self._metadata: dict[str, Any] = {}
        self._progress = progress or (lambda figures: None)
        self._status: dict[str, Any] = {"state": "starting", "epochs": config.epochs}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._log = logging.FileHandler(folder / "log.txt", delay=True)
        self._log.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        self._board: Any = None
        for draft in (*folder.glob(".*.tmp"), *folder.glob("checkpoints/.*.tmp")):
            draft.unlink(missing_ok=True)  # a kill in the middle of saving leaves one
        (folder / "checkpoints").mkdir(exist_ok=True)

    # The run's life

    def describe(self, **metadata: Any) -> None:
        """Set what goes into the weights beside the tensors: labels, mean, standard deviation, size."""
        self._metadata = metadata

    def start(self, **facts: Any) -> None:
        """Say that the run goes on, and keep saying so.

        Raises:
            RunError: the run is to write for TensorBoard, which is not installed.
        """
        if self.config.tensorboard:
            self._board = _board(self.folder)
        self._set(state="running", **facts)
        threading.Thread(target=self._beat, daemon=True).start()

    def end(self, state: str, reason: str = "") -> None:
        """Say how the run ended: "finished", "stopped" or "failed"."""
        self._over.set()
        self.say(f"{state}: {reason}" if reason else state)
        self._set(state=state, reason=reason)
        self._log.close()
        if self._board is not None:
            self._board.close()

    def say(self, line: str) -> None:
        """Add a line to the run's log."""
        self._log.emit(logging.LogRecord(__name__, logging.INFO, __file__, 0, line, None, None))

    def _beat(self) -> None:
        memory = psutil.Process()
        while not self._over.wait(HEARTBEAT):
            self._set(memory_bytes=memory.memory_info().rss)

    def _set(self, **facts: Any) -> None:
        with self._lock:
            self._status |= facts
            try:
                runs.write_status(self.folder, **self._status)
            except OSError as error:  # the training is worth more than a sign of life
                log.warning("the status of %s could not be written: %s", self.folder.name, error)

    # Metrics

    def step(self, facts: dict[str, Any]) -> None:
        """Take in a step's figures; they reach the disk with the next sign of life."""
        with self._lock:
            self._status |= {"step": facts["step"], "steps": facts["steps"]}
        self._progress(facts)

    def interval(self, line: runs.StepMetrics, seconds_left: float) -> None:
        """Write the figures of some steps."""
        with self._lock:
            self._status |= {
                "loss": line["loss"],
                "images_per_second": line["images_per_second"],
                "seconds_left": seconds_left,
            }
        _append(self.folder / "steps.jsonl", line)
        if self._board is not None:
            self._board.add_scalar("steps/loss", line["loss"], line["step"])
            self._board.add_scalar("steps/lr", line["lr"], line["step"])

    def epoch(self, line: runs.EpochMetrics, best: bool, figures: Metrics, model: Swin) -> None:
        """Write the figures and weights of an epoch that is over."""
        number = line["epoch"]
        line["saved"] = f"epoch-{number:04}.safetensors" if self._is_kept(number) else ""
        metadata = {**self._metadata, "training": {**self.config.to_dict(), "epochs_done": number}}
        metadata["figures"] = {
            "train_loss": line["train_loss"],
            "loss": line["loss"],
            "top1": line["top1"],
            "top5": line["top5"],
        }
        kept = [self.folder / "model.safetensors"]
        kept += [self.folder / "checkpoints" / "best.safetensors"] if best else []
        kept += [self.folder / "checkpoints" / line["saved"]] if line["saved"] else []
        for path in kept:
            save_weights(model, path, metadata)
        with atomic_write(self.folder / "validation.json") as file:
            file.write(json.dumps({"epoch": number, **figures.to_dict()}).encode())
        _append(self.folder / "metrics.jsonl", line)
        top5 = "" if line["top5"] is None else f"  top-5 {line['top5']:.2%}"
        self.say(
            f"epoch {number}: training loss {line['train_loss']:.4f}  validation loss {line['loss']:.4f}  "
            f"top-1 {line['top1']:.2%}{top5}  {line['images_per_second']:.0f} images/s"
        )
        if self._board is not None:
            for key, value in line.items():
                if key in ("train_loss", "loss", "top1", "top5", "lr", "images_per_second") and value is not None:
                    self._board.add_scalar(f"epochs/{key}", value, number)
        self._progress(dict(line))

    def _is_kept(self, epoch: int) -> bool:
        every = self.config.keep_every
        return bool(every) and (epoch % every == 0 or epoch == self.config.epochs)

    def checkpoint(self, state: dict[str, Any], **facts: Any) -> None:
        """Write the whole state of the run."""
        write_checkpoint(self.folder / "checkpoints" / "last.pt", state)
        self._set(**facts)

    def drop_after(self, epoch: int, step: int) -> None:
        """Forget figures that a resumed run will give again: a crash may come between them and the checkpoint."""
        for name, key, last in (("metrics.jsonl", "epoch", epoch), ("steps.jsonl", "step", step)):
            path = self.folder / name
            lines = path.read_text().splitlines() if path.is_file() else []
            with atomic_write(path) as file:
                file.write("".join(f"{line}\n" for line in lines if _is_until(line, key, last)).encode())


def _is_until(line: str, key: str, last: int) -> bool:
    try:
        return bool(json.loads(line)[key] <= last)
    except (ValueError, KeyError, TypeError):  # half a line
        return False


def _append(path: Path, line: Mapping[str, Any]) -> None:
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in line.items()
    }
    # One write to a file that is opened for appending: a reader sees the whole line or an earlier end.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, (json.dumps(finite) + "\n").encode())
    finally:
        os.close(descriptor)


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RunError("tensorboard is not installed; pip install tensorboard, or leave --tensorboard out.") from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=None)
