"""Measure the memory and time of a run on a few steps before it starts, in a child process."""

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.shared.formatting import duration, rate, size
from swin_core import runs
from swin_core.errors import SwinError
from swin_core.runs.read_only import refuse_if_read_only
from swin_core.training import TrainConfig
from swin_core.training.recipes import changed_settings

TIMEOUT_SECONDS = 600
"""A check that takes longer is stopped."""

ABANDONED_SECONDS = 150
"""Time without a call of `result` after which a check is stopped, since its tab was closed.

The page calls it every second; browsers slow the timers of hidden tabs down to one a minute.
"""


@dataclass(frozen=True)
class Estimate:
    """Time and memory of a run."""

    seconds: float
    """Duration of the whole run; 0 if the memory was not enough for one step."""
    images_per_second: float
    memory_bytes: float
    memory_free_bytes: float
    fits: bool

    def __str__(self) -> str:
        if not self.seconds:
            return f"Out of memory in the first step; {size(self.memory_free_bytes)} were free."
        return (
            f"About {duration(self.seconds)} at {rate(self.images_per_second)}; "
            f"{size(self.memory_bytes)} of memory, {size(self.memory_free_bytes)} are free."
        )


def command_line(recipe: str, config: TrainConfig) -> list[str]:
    """Return a recipe and the settings that differ from it as arguments of the trainer."""
    words = [recipe]
    for name, value in changed_settings(config.to_dict(), recipe, ignored=()).items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words.append(f"--{option}={value}")  # one argument, so that no value is read as an option
    return words


class PreflightCheck:
    """A running check. It ends by itself, by `stop`, or `ABANDONED_SECONDS` after the last call of `result`."""

    def __init__(self, recipe: str, config: TrainConfig, devices: Sequence[str], processes: int):
        refuse_if_read_only()
        self.asked: tuple[Any, ...] = (config, tuple(devices), processes)
        """Config, devices and number of processes; the result holds for these only."""
        self._began = time.monotonic()
        self._output, self._errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._program = subprocess.Popen(
            [
                *runs.TRAINER,
                *command_line(recipe, config),
                "--check",
                "--devices",
                *devices,
                f"--processes={processes}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._errors,
        )
        self._asked_at = self._began
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Stop the child when its result is no longer asked for, and collect its exit status."""
        while self.under_way:
            if time.monotonic() - self._asked_at > ABANDONED_SECONDS:
                self.stop()
            time.sleep(0.5)

    @property
    def seconds(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._began

    @property
    def under_way(self) -> bool:
        """Whether it is still running."""
        return self._program.poll() is None

    def result(self) -> Estimate | None:
        """Return the estimate, or None while it is under way; never wait.

        Raises:
            SwinError: it failed, or took longer than `TIMEOUT_SECONDS`.
        """
        self._asked_at = time.monotonic()
        code = self._program.poll()
        if code is None:
            if self.seconds <= TIMEOUT_SECONDS:
                return None
            self.stop()
            raise SwinError(f"the check took longer than {duration(TIMEOUT_SECONDS)}: try a smaller batch.")
        if code:
            raise SwinError(_last_line(_content(self._errors)) or f"The check ended with code {code}.")
        try:
            metrics = json.loads(_last_line(_content(self._output)))
            return Estimate(
                seconds=float(metrics["seconds"]),
                images_per_second=float(metrics["images_per_second"]),
                memory_bytes=float(metrics["memory_bytes"]),
                memory_free_bytes=float(metrics["memory_free_bytes"]),
                fits=bool(metrics["fits"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise SwinError("the check returned no metrics; run swinlens train --check in a shell.") from error

    def stop(self) -> None:
        """Stop it if it is under way."""
        self._program.terminate()


def _content(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", "replace"))


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
