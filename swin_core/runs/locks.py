"""One run at a time on a device, and one launcher at a time for a run."""

import hashlib
import os
import re
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

__all__ = ["busy", "check_devices", "device_locks", "in_use", "lock_key"]

_DEVICE = re.compile(r"cpu|mps|cuda:\d{1,3}")
_HELD = re.compile(rf"{_DEVICE.pattern}|(GPU|MIG)-[\w/-]+")
_WRITING = 0.5
"""Seconds in which one who has a lock has said so."""


@contextmanager
def device_locks(devices: Sequence[str], folder: Path) -> Iterator[None]:
    """Hold devices for a run as long as the block lasts; the system frees them if the caller is killed.

    A GPU is locked by its UUID, since its number depends on `CUDA_VISIBLE_DEVICES`.

    The locks are the caller's, so that of the programs of a run the launcher takes them. They hold within a machine
    and a user.

    Args:
        devices: "cpu", "cuda:0" and so on, or UUIDs of GPUs.
        folder: the run's folder.

    Raises:
        RunError: another run uses one of them, or this run is under way already; `busy` is then set.
    """
    check_devices(devices, _HELD)
    folder = Path(folder).resolve()
    place = _lock_folder()
    holder = {"run": str(folder), **identity()}
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    with ExitStack() as held:
        if not _take(held, place / f"run-{digest}.lock"):
            raise RunError(f"run {folder.name} is under way already; stop it first.", busy=True)
        for key, device in sorted({lock_key(device): device for device in devices}.items()):
            # The same order everywhere, so that of two runs one gets all its devices.
            if not _take(held, _file(place, key, "lock")):
                raise in_use(device, _holder(place, key, _WRITING))
            record = _file(place, key, "json")
            held.callback(record.unlink, missing_ok=True)
            write_object(record, holder)
        yield


def busy(devices: Sequence[str]) -> dict[str, Path]:
    """The devices among these that a living run uses, each with that run's folder.

    It looks at no lock: one who tries a lock holds it for a moment, and another would find it taken.
    """
    try:
        place = _lock_folder()
    except RunError:
        return {}
    found = {device: _holder(place, lock_key(device)) for device in devices if _DEVICE.fullmatch(device)}
    return {device: run for device, run in found.items() if run is not None}


def lock_key(device: str) -> str:
    """What a device is locked by: the UUID of a GPU, else its name."""
    return uuid_of(device) or device


def check_devices(devices: Sequence[str], names: re.Pattern[str] = _DEVICE) -> None:
    """Raise `RunError` unless each is the name of a device, and there is one."""
    if isinstance(devices, str) or not devices:
        raise RunError("name at least one device, such as cpu or cuda:0, in a list.")
    for device in devices:
        if not (isinstance(device, str) and names.fullmatch(device)):
            raise RunError(f"{str(device)[:40]!r} is no device; name cpu, or GPUs as cuda:0, cuda:1.")


def in_use(device: str, run: Path | None) -> RunError:
    """What to say of a device that a run uses."""
    by = f"run {run.name}; stop it or wait" if run is not None else "another run; try again in a moment"
    return RunError(f"{device} is in use by {by}.", busy=True)


def _take(held: ExitStack, path: Path) -> bool:
    """Take a lock for as long as `held` lasts, or say that another has it."""
    try:
        held.enter_context(FileLock(path, timeout=0, mode=0o600, thread_local=False))
    except Timeout:
        return False
    except OSError as error:
        raise RunError(f"{str(path)!r} cannot be locked: {error.strerror}.") from error
    return True


def _holder(place: Path, key: str, patience: float = 0.0) -> Path | None:
    """The folder of the living run that holds a device."""
    until = time.monotonic() + patience
    while True:
        record = read_object(_file(place, key, "json"))
        if living(record) and isinstance(record.get("run"), str):
            return Path(record["run"])
        if time.monotonic() >= until:
            return None
        time.sleep(0.02)


def _file(place: Path, key: str, kind: str) -> Path:
    return place / f"{re.sub('[:/]', '-', key)}.{kind}"


def _lock_folder() -> Path:
    """The user's own folder of locks on this machine.

    Named after the number of the user, since the name in the environment may be another's.
    """
    place = Path(tempfile.gettempdir()) / f"swinlens-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        facts = place.lstat()
    except OSError as error:
        raise RunError(f"no folder for locks at {str(place)!r}: {error.strerror}; set TMPDIR to another.") from error
    # All users share the folder above it, and any of them could have been there first.
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
        raise RunError(f"{str(place)!r} belongs to another user; set TMPDIR to another folder.")
    return place
