"""Start a run in the background, and go on with one.

The launcher is a program of its own in a session of its own: it lives on when the page, its server or the shell ends.
"""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swin_core.errors import RunError
from swin_core.runs.changing import note_end, reread, wait_for_end
from swin_core.runs.files import StrPath, create, last_lines, log_file, read_status, withdraw_stop, write_object
from swin_core.runs.listing import Run
from swin_core.runs.locks import busy, check_devices, in_use

__all__ = ["BUSY", "TRAINER", "resume", "start"]

TRAINER = (sys.executable, "-m", "swin_core.training")
"""The command that trains; `--run FOLDER` makes it the launcher of a run."""
BUSY = 3
"""Its exit status if a device is in use."""

_PATIENCE = 120.0
"""Seconds to wait for the launcher to have its devices; a cold disk takes its time to load torch."""


def start(
    config: Mapping[str, Any],
    *,
    root: StrPath | None = None,
    data_root: StrPath | None = None,
    devices: Sequence[str] = ("cpu",),
    processes: int = 1,
    max_restarts: int = 0,
) -> Run:
    """Start a new run in the background.

    Returns as soon as the run holds its devices, before the data are read.

    Args:
        config: the settings, as `TrainConfig.to_dict` gives them.
        root: as for `runs_root`.
        data_root: folder of the data sets; None for the usual place.
        devices: "cpu", or GPUs as "cuda:0", "cuda:1".
        processes: how many share the work.
        max_restarts: how often it goes on from its last checkpoint after one of them died.

    Raises:
        RunError: a device is in use, and then no folder is left; or the run cannot be made or started.
    """
    facts = _facts(devices, processes, max_restarts, data_root)
    for device, run in busy(devices).items():
        raise in_use(device, run)
    folder = create(config, root)
    try:
        _launch(folder, facts)
    except RunError as error:
        if error.busy:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return reread(folder)


def resume(
    run: Run,
    *,
    devices: Sequence[str] | None = None,
    processes: int | None = None,
    max_restarts: int | None = None,
    data_root: StrPath | None = None,
) -> Run:
    """Go on with a run in the background, from its last checkpoint; what is not given is as at its last start.

    Raises:
        RunError: the run is under way or finished, a device is in use, or it cannot be started.
    """
    now = reread(run.folder)
    if now.alive:
        raise RunError(f"run {now.name} is under way already.")
    if now.state == "finished":
        raise RunError(f"run {now.name} has finished; start a new run from its weights instead.")
    wait_for_end(now)
    before = now.launch
    facts = _facts(
        before.get("devices") or ("cpu",) if devices is None else devices,
        before.get("processes", 1) if processes is None else processes,
        before.get("max_restarts", 0) if max_restarts is None else max_restarts,
        before.get("data_root") if data_root is None else data_root,
    )
    for device, other in busy(facts["devices"]).items():
        raise in_use(device, other)
    _launch(now.folder, facts)
    return reread(now.folder)


def _facts(devices: Sequence[str], processes: int, max_restarts: int, data_root: StrPath | None) -> dict[str, Any]:
    """What the launcher reads in launch.json, checked."""
    check_devices(devices)
    for name, value, least in (("processes", processes, 1), ("max_restarts", max_restarts, 0)):
        if type(value) is not int or not least <= value <= 10_000:
            raise RunError(f"{name} must be a whole number from {least} on, not {str(value)[:40]!r}.")
    return {
        "devices": list(devices),
        "processes": processes,
        "max_restarts": max_restarts,
        "data_root": None if data_root is None else str(Path(data_root).absolute()),
    }


def _launch(folder: Path, facts: dict[str, Any]) -> None:
    """Start the launcher and wait until it has its devices."""
    before = read_status(folder)
    try:
        withdraw_stop(folder)
        # Without a launcher, who names himself when he has the devices: none must be taken for it meanwhile.
        write_object(folder / "launch.json", {**facts, "started": time.time()})
        child = _spawn(folder)
    except OSError as error:
        raise RunError(f"run {folder.name} could not be started: {error.strerror}; try again.") from error
    try:
        _wait(child, folder, facts["devices"], before)
    finally:
        # Whoever started a program has to ask how it ended, or it stays in the system's table.
        threading.Thread(target=child.wait, daemon=True).start()


def _spawn(folder: Path) -> subprocess.Popen[bytes]:
    log = log_file(folder)
    try:
        return subprocess.Popen(
            [*TRAINER, "--run", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    finally:
        os.close(log)


def _wait(child: subprocess.Popen[bytes], folder: Path, devices: Sequence[str], before: Mapping[str, Any]) -> None:
    """Return when the launcher has spoken; raise if it ended without a word."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        code = child.poll()
        if code == BUSY:
            holders = busy(devices)
            device = next(iter(holders), devices[0])
            raise in_use(device, holders.get(device))
        if read_status(folder) != before:
            return
        if code is not None:
            line = (last_lines(folder / "log.txt", 1) or [f"exit status {code}"])[0]
            reason = f"it could not start: {line.removeprefix('swinlens train: ')}"
            note_end(folder, "failed", reason)
            raise RunError(f"run {folder.name}: {reason}")
        time.sleep(0.05)
