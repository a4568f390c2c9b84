"""Write a run's folder during training: metrics, status, weights and checkpoints.

Only rank 0 writes. Each file is replaced whole or grows by whole lines, so that it can be read at any moment, and a
crash at any byte leaves files that load.
"""

import errno
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

from swin_core import runs
from swin_core.data.dataset import SkippedFile
from swin_core.errors import RunError, SwinError
from swin_core.evaluation.metrics import Metrics
from swin_core.models.swin import Swin
from swin_core.runs.files import data_lines, read_data, write_object
from swin_core.system.atomic import atomic_write
from swin_core.training.checkpoint import LAST, PREVIOUS, is_complete, write_checkpoint
from swin_core.training.config import TrainConfig
from swin_core.weights.files import save_weights

T = TypeVar("T")
OnMetrics = Callable[[dict[str, Any]], None]
"""A function that is called with the metrics of each step and each epoch."""

STATUS_SECONDS = 2.0
"""Seconds between two status updates."""
STILL_SECONDS = 40.0
"""Seconds without any work done after which a run is reported to stand still, or more if its steps are slow."""
SLOWER = 1.5
"""A step or batch may take so many times as long as the longest so far before that. After one of 30 s, a run that
stands still is reported within a minute."""

log = logging.getLogger(__name__)


class RunWriter:
    """Writes a run's folder.

    Args:
        folder: the run's folder, as `runs.create` makes it.
        config: the run's settings.
        on_metrics: called after each step and each epoch with a dictionary of metrics.
        stalled: returns which rank stands still, in one line; empty if all is well.

    Attributes:
        metadata: what goes into the weights files: labels, mean, standard deviation, image size.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        on_metrics: OnMetrics | None = None,
        stalled: Callable[[], str] = lambda: "",
    ):
        self.folder, self.config = folder, config
        self.metadata: dict[str, Any] = {}
        self._on_metrics = on_metrics or (lambda metrics: None)
        self._stalled = stalled
        self._status: dict[str, Any] = {"state": "starting", "epochs": config.epochs}
        self._worked, self._longest = time.monotonic(), 0.0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._log = logging.FileHandler(folder / "log.txt", delay=True)
        self._log.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        self._tensorboard: Any = None
        for draft in (*folder.glob(".*.tmp"), *folder.glob("checkpoints/.*.tmp")):
            draft.unlink(missing_ok=True)  # left by a kill during saving
        (folder / "checkpoints").mkdir(exist_ok=True)
        # From the start: reading the images may stand still too.
        threading.Thread(target=self._keep_updating, daemon=True).start()

    def start(self, **facts: Any) -> None:
        """Write that the run is running.

        Raises:
            RunError: TensorBoard logs are asked for, and the package is not installed.
        """
        if self.config.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise RunError(
                    "tensorboard is not installed; pip install tensorboard, or leave --tensorboard out."
                ) from error
            self._tensorboard = SummaryWriter(str(self.folder / "tensorboard"))
        self._note_work()
        self._longest = 0.0
        self._update_status(state="running", **facts)

    def end(self, state: str, reason: str = "") -> None:
        """Write how the run ended: "finished", "stopped" or "failed"."""
        self._ended.set()
        self._write_log(f"{state}: {reason}" if reason else state)
        self._update_status(state=state, reason=reason, stalled="")
        self._log.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def _write_log(self, line: str) -> None:
        self._log.emit(logging.LogRecord(__name__, logging.INFO, "", 0, line, None, None))

    def _keep_updating(self) -> None:
        process = psutil.Process()
        while not self._ended.wait(STATUS_SECONDS):
            stalled = self._stalled() or self._still()
            self._update_status(memory_bytes=process.memory_info().rss, stalled=stalled)

    def _note_work(self) -> None:
        """Note that something was done just now: a step, a batch of the validation, a save."""
        now = time.monotonic()
        self._worked, self._longest = now, max(self._longest, now - self._worked)

    def _still(self) -> str:
        """Return since when nothing was done, in one line; empty if all is well."""
        silent = time.monotonic() - self._worked
        if silent < max(STILL_SECONDS, SLOWER * self._longest):
            return ""
        since = time.strftime("%H:%M:%S", time.localtime(time.time() - silent))
        work = "a step" if self._status["state"] == "running" else "reading its images"
        return f"stands still since {since}: wait if {work} may take this long, or stop it at once"

    def watched(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items; each one counts as work done."""
        for item in items:
            self._note_work()
            yield item

    def _update_status(self, **facts: Any) -> None:
        with self._lock:
            self._status |= facts
            try:
                runs.write_status(self.folder, **self._status)
            except OSError as error:  # no reason to end the training
                log.warning("the status of %s could not be written: %s", self.folder.name, error)

    def step(self, metrics: dict[str, Any]) -> None:
        """Record a step; its number appears in the next status update."""
        self._note_work()
        with self._lock:
            self._status |= {"step": metrics["step"], "steps": metrics["steps"]}
        self._on_metrics(metrics)

    def interval(self, line: runs.StepMetrics, seconds_left: float) -> None:
        """Write a line of steps.jsonl."""
        with self._lock:
            self._status |= {
                "loss": line["loss"],
                "images_per_second": line["images_per_second"],
                "seconds_left": seconds_left,
            }
        _append(self.folder / "steps.jsonl", line)
        if self._tensorboard is not None:
            self._tensorboard.add_scalar("steps/loss", line["loss"], line["step"])
            self._tensorboard.add_scalar("steps/lr", line["lr"], line["step"])

    def epoch(self, line: runs.EpochMetrics, is_best: bool, metrics: Metrics, model: Swin) -> None:
        """Write the metrics and weights of a finished epoch; set `line["saved"]`."""
        number, every = line["epoch"], self.config.keep_every
        is_kept = every and (number % every == 0 or number == self.config.epochs)
        line["saved"] = f"epoch-{number:04}.safetensors" if is_kept else ""
        metadata = {**self.metadata, "training": {**self.config.to_dict(), "epochs_done": number}}
        metadata["metrics"] = {
            "train_loss": line["train_loss"],
            "loss": line["loss"],
            "top1": line["top1"],
            "top5": line["top5"],
        }
        files = ["model.safetensors"]
        files += ["checkpoints/best.safetensors"] if is_best else []
        files += [f"checkpoints/{line['saved']}"] if is_kept else []
        for file in files:
            save_weights(model, self.folder / file, metadata)
        with atomic_write(self.folder / "validation.json") as draft:
            draft.write(json.dumps({"epoch": number, "labels": self.metadata["labels"], **metrics.to_dict()}).encode())
        _append(self.folder / "metrics.jsonl", line)
        top5 = "" if line["top5"] is None else f"  top-5 {line['top5']:.2%}"
        balanced = "" if line["balanced"] is None else f"  balanced {line['balanced']:.2%}"
        self._write_log(
            f"epoch {number}: training loss {line['train_loss']:.4f}  validation loss {line['loss']:.4f}  "
            f"top-1 {line['top1']:.2%}{top5}{balanced}  {line['images_per_second']:.0f} images/s"
        )
        if self._tensorboard is not None:
            for key, value in line.items():
                if (
                    key in ("train_loss", "loss", "top1", "top5", "balanced", "lr", "images_per_second")
                    and value is not None
                ):
                    self._tensorboard.add_scalar(f"epochs/{key}", value, number)
        self._on_metrics(dict(line))

    def files(
        self,
        counts: Mapping[str, Mapping[str, int]],
        skipped: Sequence[SkippedFile],
        unreadable: Sequence[SkippedFile],
    ) -> None:
        """Write `data.json`: images of each class, and the files that are not used; report these when they change.

        Args:
            counts: for each class the numbers of images for "train" and "validation".
            skipped: files that are no images, as their first bytes tell.
            unreadable: images that could not be decoded so far.
        """
        files = [*skipped, *unreadable]
        entries = [{"name": file.name, "class": file.class_name, "reason": file.reason} for file in files]
        content = {"classes": counts, "skipped": entries}
        if content == read_data(self.folder):
            return
        write_object(self.folder / "data.json", content)
        lines = data_lines(content)
        for line in lines:
            self._write_log(line)
        if lines:
            self._on_metrics({"data": lines})

    def remark(self, text: str) -> None:
        """Report something about the start of the run: in its log, its status and to `on_metrics`."""
        self._write_log(text)
        self._on_metrics({"data": [text]})
        self._update_status(reason=text)

    def checkpoint(self, state: dict[str, Any], **facts: Any) -> None:
        """Write the whole state of the run, and `facts` to its status."""
        write_checkpoint(self.folder / "checkpoints", state)
        self._note_work()
        self._update_status(**facts)

    def set_metrics_aside(self) -> None:
        """Keep the metrics of a run that starts anew under other names, and report it; do nothing if it has none."""
        paths = [self.folder / name for name in ("metrics.jsonl", "steps.jsonl")]
        earlier = [path for path in paths if path.is_file()]
        if not earlier:
            return
        number = 1
        while any(path.with_stem(f"{path.stem}-{number}").exists() for path in paths):
            number += 1
        kept = [path.rename(path.with_stem(f"{path.stem}-{number}")).name for path in earlier]
        self.remark(f"no checkpoint is there, so the run starts anew; its earlier metrics are in {' and '.join(kept)}")

    def drop_after(self, epochs: float) -> None:
        """Drop metrics newer than the checkpoint, which the resumed run will write again.

        Args:
            epochs: finished epochs of the checkpoint with the finished part of the current one.
        """
        # Not by steps: after the data have changed, an epoch may have another number of them.
        for name in ("metrics.jsonl", "steps.jsonl"):
            path = self.folder / name
            if not path.is_file():
                continue
            text = path.read_text()
            kept = "".join(f"{line}\n" for line in text.splitlines() if _is_until(line, epochs))
            if kept != text:
                with atomic_write(path) as file:
                    file.write(kept.encode())


@contextmanager
def failures_written(writer: RunWriter | None) -> Iterator[None]:
    """Write an error to the run's status and raise it; a full disk becomes a `RunError`."""
    try:
        yield
    except BaseException as error:
        reason = str(error) if isinstance(error, SwinError) else f"{type(error).__name__}: {error}"
        cause = error if isinstance(error, OSError) else error.__cause__
        disk_full = isinstance(cause, OSError) and cause.errno == errno.ENOSPC
        if disk_full:
            reason = "no space is left on the disk; free some and resume the run"
            if writer is not None:
                folder = writer.folder / "checkpoints"
                intact = any(is_complete(folder / name) for name in (LAST, PREVIOUS))
                reason += ", its last checkpoint is intact" if intact else "; it has no checkpoint yet and starts anew"
            reason += "."
        if writer is not None:
            writer.end("failed", reason)
        if disk_full:
            raise RunError(reason) from error
        raise


def _is_until(line: str, epochs: float) -> bool:
    try:
        return bool(json.loads(line)["epoch"] <= epochs)
    except (ValueError, KeyError, TypeError):  # an incomplete line
        return False


def _append(path: Path, line: Mapping[str, Any]) -> None:
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in line.items()
    }
    # A single write with O_APPEND: a reader sees the whole line or none of it.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, (json.dumps(finite) + "\n").encode())
    finally:
        os.close(descriptor)
