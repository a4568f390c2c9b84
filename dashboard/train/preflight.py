"""Memory and time of a run, measured on a few of its steps before it starts, by a program of its own."""

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.shared.formatting import duration, rate, size
from swin_core import runs
from swin_core.errors import SwinError
from swin_core.training import RECIPES, TrainConfig

__all__ = ["PATIENCE", "Estimate", "Preflight", "arguments"]

PATIENCE = 600
"""Seconds after which a measurement is given up."""

UNASKED = 150
"""Seconds without a call of `result` after which a measurement is ended, since its tab is closed.

The page asks every second; browsers slow the timers of hidden tabs down to one a minute.
"""


@dataclass(frozen=True)
class Estimate:
    """What a run will take."""

    seconds: float
    """The whole run."""
    images_per_second: float
    memory_bytes: float
    memory_free_bytes: float
    fits: bool

    def __str__(self) -> str:
        if not self.seconds:
            return f"The memory was not enough for one step; {size(self.memory_free_bytes)} were free."
        return (
            f"About {duration(self.seconds)} at {rate(self.images_per_second)}; "
            f"{size(self.memory_bytes)} of memory, {size(self.memory_free_bytes)} are free."
        )


def arguments(recipe: str, config: TrainConfig) -> list[str]:
    """A recipe and the settings that differ from it, as a command line."""
    usual = RECIPES[recipe].config.to_dict()
    words = [recipe]
    for name, value in config.to_dict().items():
        if value == usual[name]:
            continue
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            # One word for both, so that a value is never taken for an option.
            words.append(f"--{option}={value}")
    return words


class Preflight:
    """A measurement under way; it ends by itself, by `stop`, or when nobody has asked for its result for a while."""

    def __init__(self, recipe: str, config: TrainConfig, devices: Sequence[str], processes: int):
        self.asked: tuple[Any, ...] = (config, tuple(devices), processes)
        """What it measures: a result is told only for these settings."""
        self._began = time.monotonic()
        self._output, self._errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._program = subprocess.Popen(
            [*runs.TRAINER, *arguments(recipe, config), "--check", "--devices", *devices, f"--processes={processes}"],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._errors,
        )
        self._asked_at = self._began
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """End the program when nobody asks for its result any more, and collect its exit status."""
        while self.under_way:
            if time.monotonic() - self._asked_at > UNASKED:
                self.stop()
            time.sleep(0.5)

    @property
    def seconds(self) -> float:
        """How long it has been under way."""
        return time.monotonic() - self._began

    @property
    def under_way(self) -> bool:
        """Whether it is still measuring."""
        return self._program.poll() is None

    def result(self) -> Estimate | None:
        """What was measured, or None while it is under way; never waits.

        Raises:
            SwinError: it failed, or took longer than `PATIENCE`.
        """
        self._asked_at = time.monotonic()
        code = self._program.poll()
        if code is None:
            if self.seconds <= PATIENCE:
                return None
            self.stop()
            raise SwinError(f"The check took longer than {duration(PATIENCE)} and was ended: try a smaller batch.")
        if code:
            raise SwinError(_last_line(_content(self._errors)) or f"The check ended with code {code} and said nothing.")
        try:
            return _estimate(json.loads(_last_line(_content(self._output))))
        except (ValueError, KeyError, TypeError) as error:
            raise SwinError("The check gave no figures; try it in a shell to see what it says.") from error

    def stop(self) -> None:
        """End it, if it is under way."""
        self._program.terminate()


def _content(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", "replace"))


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _estimate(figures: Mapping[str, Any]) -> Estimate:
    return Estimate(
        float(figures["seconds"]),
        float(figures["images_per_second"]),
        float(figures["memory_bytes"]),
        float(figures["memory_free_bytes"]),
        bool(figures["fits"]),
    )
