"""Locks: one run at a time on a device, and one launcher at a time for a run."""

import hashlib
import os
import re
import shlex
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from swin_core.errors import RunError
from swin_core.runs.files import read_object, write_object
from swin_core.runs.gpus import uuid_of
from swin_core.runs.liveness import identity, living

_DEVICE = re.compile(r"cpu|mps|cuda:\d{1,3}")
_DEVICE_OR_UUID = re.compile(rf"{_DEVICE.pattern}|(GPU|MIG)-[\w/-]+")
_WRITE_TIMEOUT = 0.5
"""Seconds in which the owner of a new lock has written its name."""
_HANDOVER = 1.0
"""Seconds that a launcher waits for whoever started it to release the run."""


@contextmanager
def device_locks(devices: Sequence[str], folder: Path) -> Iterator[None]:
    """Lock devices for a run while the block lasts; the system frees them if the caller is killed.

    A GPU is locked by its UUID, since its number depends on `CUDA_VISIBLE_DEVICES`. The caller owns the locks, so that
    a run's launcher takes them, not its workers. They hold within one machine and user.

    Args:
        devices: "cpu", "cuda:0" and so on, or UUIDs of GPUs.
        folder: the run's folder.

    Raises:
        RunError: another run uses a device, or this run is already running; `busy` is then true.
    """
    check_devices(devices, _DEVICE_OR_UUID)
    folder = Path(folder).resolve()
    locks = _lock_folder()
    owner = {"run": str(folder), **identity()}
    with ExitStack() as stack:
        # Whoever starts a launcher holds the lock until the launcher's process is there.
        if not _acquire(stack, _run_file(locks, folder), _HANDOVER):
            raise RunError(
                f"run {folder.name} is already running in {folder.parent}; stop it first: "
                f"swinlens runs stop {shlex.quote(str(folder))}",
                busy=True,
            )
        # Every run takes its locks in the same order, so that one of two competing runs gets all of its devices.
        for key, device in sorted({lock_key(device): device for device in devices}.items()):
            if not _acquire(stack, _file(locks, key, "lock")):
                raise in_use(device, _owner(locks, key, _WRITE_TIMEOUT))
            record = _file(locks, key, "json")
            stack.callback(record.unlink, missing_ok=True)
            write_object(record, owner)
        yield


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Lock a run while the block lasts, so that nobody else starts, changes or deletes it.

    Raises:
        RunError: somebody else does; `busy` is then true.
    """
    folder = Path(folder).resolve()
    with ExitStack() as stack:
        if not _acquire(stack, _run_file(_lock_folder(), folder)):
            raise RunError(f"run {folder.name} is being started, changed or ended; try again in a moment.", busy=True)
        yield


def busy(devices: Sequence[str]) -> dict[str, Path]:
    """Return those of the devices that a living run uses, each with that run's folder.

    This reads the owners' records and tries no lock: trying one takes it for a moment, and others would see it taken.
    """
    try:
        locks = _lock_folder()
    except RunError:
        return {}
    owners = {device: _owner(locks, lock_key(device)) for device in devices if _DEVICE.fullmatch(device)}
    return {device: run for device, run in owners.items() if run is not None}


def lock_key(device: str) -> str:
    """Return the key that a device is locked by: the UUID of a GPU, else its name."""
    return uuid_of(device) or device


def check_devices(devices: Sequence[str], names: re.Pattern[str] = _DEVICE) -> None:
    """Raise `RunError` unless `devices` is a non-empty list of device names."""
    if isinstance(devices, str) or not devices:
        raise RunError("name at least one device, such as cpu or cuda:0, in a list.")
    for device in devices:
        if not (isinstance(device, str) and names.fullmatch(device)):
            raise RunError(f"{str(device)[:40]!r} is not a device; name cpu, or GPUs as cuda:0, cuda:1.")


def in_use(device: str, run: Path | None) -> RunError:
    """Return the error for a device that a run uses."""
    if run is None:
        return RunError(f"{device} is in use by another run; try again in a moment.", busy=True)
    return RunError(
        f"{device} is in use by run {run.name} in {run.parent}; wait for it, or stop it: "
        f"swinlens runs stop {shlex.quote(str(run))}",
        busy=True,
    )


def _acquire(stack: ExitStack, path: Path, timeout: float = 0.0) -> bool:
    """Take a lock until `stack` closes; return whether it was free or became free in time."""
    try:
        stack.enter_context(FileLock(path, timeout=timeout, mode=0o600, thread_local=False))
    except Timeout:
        return False
    except OSError as error:
        raise RunError(f"{str(path)!r} cannot be locked: {error.strerror}.") from error
    return True


def _owner(locks: Path, key: str, timeout: float = 0.0) -> Path | None:
    """Return the folder of the living run that has locked a device, waiting until it has written its name."""
    until = time.monotonic() + timeout
    while True:
        record = read_object(_file(locks, key, "json"))
        if living(record) and isinstance(record.get("run"), str):
            return Path(record["run"])
        if time.monotonic() >= until:
            return None
        time.sleep(0.02)


def _run_file(locks: Path, folder: Path) -> Path:
    return locks / f"run-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}.lock"


def _file(locks: Path, key: str, kind: str) -> Path:
    return locks / f"{re.sub('[:/]', '-', key)}.{kind}"


def _lock_folder() -> Path:
    """Return the user's folder of locks; its name has the user's number, since the environment's name can be wrong."""
    folder = Path(tempfile.gettempdir()) / f"swinlens-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
    except OSError as error:
        raise RunError(f"no folder for locks at {str(folder)!r}: {error.strerror}; set TMPDIR to another.") from error
    # All users share the folder above it, so another user may have made this one.
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
        raise RunError(f"{str(folder)!r} belongs to another user; set TMPDIR to another folder.")
    return folder
