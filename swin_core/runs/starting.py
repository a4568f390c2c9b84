"""Start or resume a run in the background.

The launcher is a process in a session of its own: it survives the end of the page, its server or the shell.
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
from swin_core.runs.changing import reread, wait_for_end, write_end
from swin_core.runs.files import StrPath, create, last_lines, open_log, read_status, withdraw_stop, write_object
from swin_core.runs.listing import Run
from swin_core.runs.locks import busy, check_devices, in_use, run_lock
from swin_core.runs.read_only import refuse_if_read_only

TRAINER = (sys.executable, "-m", "swin_core.training")
"""The training command; with `--run FOLDER` it is the launcher of a run."""
BUSY = 3
"""Its exit status if a device is in use."""
ACCEPT_CHANGED_DATA = "--accept-changed-data"
"""Its option to go on with data that are not those of the run."""

_START_TIMEOUT = 120.0
"""Seconds that a launcher may take to lock its devices: loading torch from a cold disk is slow."""


def start(
    config: Mapping[str, Any],
    *,
    root: StrPath | None = None,
    data_root: StrPath | None = None,
    devices: Sequence[str] = ("cpu",),
    processes: int = 1,
    max_restarts: int = 0,
) -> Run:
    """Start a new run in the background. Returns once the run has its devices, before the data are read.

    Args:
        config: the settings, as `TrainConfig.to_dict` gives them.
        root: as for `runs_root`.
        data_root: folder of the data sets; None for the usual one.
        devices: "cpu", or GPUs as "cuda:0", "cuda:1".
        processes: number of ranks.
        max_restarts: how often it restarts from its last checkpoint after a rank died.

    Raises:
        RunError: a device is in use, and no folder is left; or the run cannot be made or started.
    """
    refuse_if_read_only()
    launch = _launch_fields(devices, processes, max_restarts, data_root)
    folder = create(config, root)
    try:
        old_status = read_status(folder)
        _wait(_launcher(folder, launch), folder, launch["devices"], old_status)
    except RunError as error:
        # A launcher that failed leaves the folder, whose log says why.
        if error.busy or isinstance(error.__cause__, OSError):
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
    accept_changed_data: bool = False,
) -> Run:
    """Resume a run in the background from its last checkpoint; options default to those of its last start.

    Args:
        run: the run.
        devices, processes, max_restarts, data_root: as for `start`.
        accept_changed_data: go on although the data are not those that the run was trained on.

    Raises:
        RunError: the run is running or finished, a device is in use, or it cannot be started.
    """
    refuse_if_read_only()
    _check_resumable(reread(run.folder))
    with run_lock(run.folder):
        now = reread(run.folder)
        _check_resumable(now)
        last = now.launch
        launch = _launch_fields(
            last.get("devices") or ("cpu",) if devices is None else devices,
            last.get("processes", 1) if processes is None else processes,
            last.get("max_restarts", 0) if max_restarts is None else max_restarts,
            last.get("data_root") if data_root is None else data_root,
        )
        old_status = now.status
        child = _launcher(now.folder, launch, *([ACCEPT_CHANGED_DATA] if accept_changed_data else []))
    _wait(child, now.folder, launch["devices"], old_status)
    return reread(now.folder)


def _check_resumable(run: Run) -> None:
    """Raise `RunError` if a run is running or finished; wait for processes that are still ending."""
    if run.alive:
        raise RunError(f"run {run.name} is already running.")
    if run.state == "finished":
        raise RunError(f"run {run.name} has finished; start a new run from its weights instead.")
    wait_for_end(run)


def _launch_fields(
    devices: Sequence[str], processes: int, max_restarts: int, data_root: StrPath | None
) -> dict[str, Any]:
    """Check the options and the devices; return them as the fields of launch.json."""
    check_devices(devices)
    for name, value, least in (("processes", processes, 1), ("max_restarts", max_restarts, 0)):
        if type(value) is not int or not least <= value <= 10_000:
            raise RunError(f"{name} must be a whole number from {least} on, not {str(value)[:40]!r}.")
    for device, run in busy(devices).items():
        raise in_use(device, run)
    return {
        "devices": list(devices),
        "processes": processes,
        "max_restarts": max_restarts,
        "data_root": None if data_root is None else str(Path(data_root).absolute()),
    }


def _launcher(folder: Path, launch: dict[str, Any], *options: str) -> subprocess.Popen[bytes]:
    """Write launch.json and start the launcher."""
    try:
        withdraw_stop(folder)
        # Without a launcher's identity: it adds its own once it has the devices.
        write_object(folder / "launch.json", {**launch, "started": time.time()})
        log = open_log(folder)
        try:
            return subprocess.Popen(
                [*TRAINER, "--run", str(folder), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        finally:
            os.close(log)
    except OSError as error:
        raise RunError(f"run {folder.name} could not be started: {error.strerror}; try again.") from error


def _wait(child: subprocess.Popen[bytes], folder: Path, devices: Sequence[str], old_status: Mapping[str, Any]) -> None:
    """Return when the launcher has its devices and has written a status; raise `RunError` if it ended before."""
    until = time.monotonic() + _START_TIMEOUT
    try:
        while time.monotonic() < until:
            code = child.poll()
            if code == BUSY:
                users = busy(devices)
                device = next(iter(users), devices[0])
                raise in_use(device, users.get(device))
            if read_status(folder) != old_status:
                return
            if code is not None:
                line = (last_lines(folder / "log.txt", 1) or [f"exit status {code}"])[0]
                reason = f"it could not start: {line.removeprefix('swinlens train: ')}"
                write_end(folder, "failed", reason)
                raise RunError(f"run {folder.name}: {reason}")
            time.sleep(0.05)
    finally:
        # Collect the exit status, or the launcher stays a zombie.
        threading.Thread(target=child.wait, daemon=True).start()
