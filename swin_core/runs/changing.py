"""What can be done to a run that is there: stop, end, rename, delete, take notes."""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import psutil

from swin_core.errors import RunError
from swin_core.runs.files import is_run_name, name_error, read_config, read_status, withdraw_stop, write_object
from swin_core.runs.listing import Run, find
from swin_core.runs.liveness import family, strays, with_descendants
from swin_core.system.atomic import atomic_write

__all__ = [
    "delete",
    "kill",
    "note_end",
    "programs_of",
    "rename",
    "request_stop",
    "reread",
    "wait_for_end",
    "write_notes",
]

_ENDING = 10.0
"""Seconds between a run's last word and the end of its programs."""
_NOTES = 100_000
"""Letters of notes at most."""


def reread(folder: Path) -> Run:
    """The run in a folder as it is now."""
    return find(folder.name, folder.parent)


def programs_of(run: Run) -> list[psutil.Process]:
    """The programs of a run on this machine, the launcher first.

    Of a run that is over, those alone that were started for it: one that trained within a larger program, such as a
    notebook, is no reason to end that.
    """
    named = family(run.launch, run.status) if run.alive else []
    return list(dict.fromkeys([*named, *strays(run.folder)]))


def request_stop(run: Run) -> None:
    """Ask a run to finish its step, save everything and end; `resume` goes on without losing a step.

    Raises:
        RunError: the run is not under way.
    """
    now = reread(run.folder)
    if not now.alive:
        raise RunError(f"run {now.name} is not under way, its state is {now.state}.")
    try:
        os.close(os.open(now.folder / "stop", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666))
    except OSError as error:
        raise RunError(f"run {now.name} cannot be asked to stop: {error.strerror}.") from error


def kill(run: Run, grace: float = 10.0) -> None:
    """End all programs of a run at once; it can be resumed from its last checkpoint.

    The launcher is asked first (SIGTERM). What is left of it and its descendants after the grace is killed. A program
    that only bears the id of one of them is never touched.

    Args:
        run: the run.
        grace: seconds.

    Raises:
        RunError: no program of it lives on this machine, or they are another user's.
    """
    now = reread(run.folder)
    programs = programs_of(now)
    if not programs:
        place = (
            f"it is on {now.status.get('host')}, end it there"
            if now.alive and now.status
            else f"its state is {now.state}"
        )
        raise RunError(f"run {now.name} has no program to end here: {place}.")
    try:
        with suppress(psutil.NoSuchProcess):
            programs[0].terminate()
        _, left = psutil.wait_procs(programs, timeout=grace)
        until = time.monotonic() + _ENDING
        while left := with_descendants([program for program in left if not _has_ended(program)]):
            if time.monotonic() > until:
                raise RunError(f"run {now.name} does not end: the system holds process {left[0].pid}; try again later.")
            # The launcher first, since it would replace a program that it misses; those that came since, too.
            for program in left:
                with suppress(psutil.NoSuchProcess):
                    program.kill()
            _, left = psutil.wait_procs(left, timeout=1)
    except psutil.AccessDenied as error:
        raise RunError(f"run {now.name} belongs to another user, who has to end it.") from error
    with suppress(OSError):
        withdraw_stop(now.folder)
    if read_status(now.folder).get("state") not in ("stopped", "finished", "failed"):
        note_end(now.folder, "stopped", "ended by the user; it goes on from its last checkpoint")


def wait_for_end(run: Run) -> None:
    """Wait for the programs of a run that has said its last word.

    Raises:
        RunError: they are there after some seconds.
    """
    _, left = psutil.wait_procs(programs_of(run), timeout=_ENDING)
    if left:
        raise RunError(f"run {run.name} is still ending; try again in a moment.", busy=True)


def rename(run: Run, name: str) -> Run:
    """Give a run another name; the time in front of it stays.

    Raises:
        RunError: the name is not allowed or taken, or the run is under way.
    """
    if not is_run_name(name):
        raise name_error(name)
    now = _at_rest(run, "renamed")
    folder = now.folder.with_name(now.name.removesuffix(now.title) + name)
    if folder == now.folder:
        return now
    if os.path.lexists(folder):
        raise RunError(f"there is a run {folder.name!r} already; choose another name.")
    try:
        os.rename(now.folder, folder)
        write_object(folder / "config.json", {**read_config(folder), "name": name})
    except OSError as error:
        raise RunError(f"run {now.name} cannot be renamed: {error.strerror}.") from error
    return reread(folder)


def delete(run: Run) -> None:
    """Delete a run's folder with all that is in it.

    Raises:
        RunError: the run is under way, or something cannot be deleted.
    """
    now = _at_rest(run, "deleted")
    # Out of sight first: a list must not show a run of which a half is gone.
    grave = now.folder.with_name(f".{now.name}.deleted")
    try:
        os.rename(now.folder, grave)
        shutil.rmtree(grave)
    except OSError as error:
        raise RunError(f"run {now.name} cannot be deleted: {error.strerror}; look at {error.filename!r}.") from error


def write_notes(run: Run, text: str) -> None:
    """Replace the notes on a run.

    Raises:
        RunError: they are too long or cannot be written.
    """
    now = reread(run.folder)
    if len(text) > _NOTES:
        raise RunError(f"notes hold {_NOTES:,} letters at most, not {len(text):,}; shorten them.")
    try:
        with atomic_write(now.folder / "notes.txt") as file:
            file.write(text.encode(errors="replace"))
    except OSError as error:
        raise RunError(f"the notes on {now.name} cannot be written: {error.strerror}.") from error


def _at_rest(run: Run, done: str) -> Run:
    now = reread(run.folder)
    if now.alive:
        raise RunError(f"run {now.name} is under way and cannot be {done}; stop it first.")
    wait_for_end(now)
    return now


def _has_ended(program: psutil.Process) -> bool:
    try:
        return program.status() == psutil.STATUS_ZOMBIE  # its parent did not ask how, and may never do
    except psutil.NoSuchProcess:
        return True


def note_end(folder: Path, state: str, reason: str) -> None:
    """Say in the status of a run how it ended, in the place of its programs, which cannot say it any more."""
    # Whole as it was, and without the caller's identity. If that fails the run is shown as dead, which is true as well.
    with suppress(OSError):
        changed = {**read_status(folder), "state": state, "reason": reason, "updated": time.time()}
        write_object(folder / "status.json", changed)
