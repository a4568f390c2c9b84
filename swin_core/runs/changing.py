"""Change an existing run: stop, kill, rename, delete, write notes."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from swin_core.errors import RunError
from swin_core.runs.files import (
    is_run_name,
    name_error,
    read_config,
    read_status,
    resume_advice,
    withdraw_stop,
    write_object,
)
from swin_core.runs.listing import Run, find
from swin_core.runs.liveness import family, trainers_in, with_descendants
from swin_core.runs.locks import run_lock
from swin_core.runs.read_only import refuse_if_read_only
from swin_core.system.atomic import atomic_write

_SECONDS_TO_END = 10.0
"""Time between a run's last status and the end of its processes."""
_NOTES_LENGTH = 100_000
"""Most characters of a run's notes."""


def reread(folder: Path) -> Run:
    """Return the run in a folder as it is now."""
    return find(folder.name, folder.parent)


def programs_of(run: Run) -> list[psutil.Process]:
    """Return the processes of a run on this machine, the launcher first.

    For an ended run, return only processes started for it, so that a notebook that trained in-process is not killed.
    """
    named = family(run.launch, run.status) if run.alive else []
    return list(dict.fromkeys([*named, *trainers_in(run.folder)]))


def request_stop(run: Run) -> None:
    """Ask a run to finish its step, save and end; `resume` continues without losing a step.

    Raises:
        RunError: the run is not running.
    """
    refuse_if_read_only()
    now = reread(run.folder)
    if not now.alive:
        raise RunError(f"run {now.name} is not running, its state is {now.state}.")
    try:
        os.close(os.open(now.folder / "stop", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666))
    except OSError as error:
        raise RunError(f"run {now.name} cannot be asked to stop: {error.strerror}.") from error


def kill(run: Run, grace: float = 10.0) -> None:
    """End all processes of a run at once; the run can be resumed from its last checkpoint.

    The launcher gets SIGTERM. After `grace` seconds, whatever is left of it and its descendants is killed. A process
    that merely reuses one of their ids is never signalled.

    Raises:
        RunError: the run has no process on this machine, or another user's.
    """
    refuse_if_read_only()
    now = reread(run.folder)
    programs = programs_of(now)
    if not programs:
        elsewhere = now.alive and now.status
        where = f"it is on {now.status.get('host')}, end it there" if elsewhere else f"its state is {now.state}"
        raise RunError(f"run {now.name} has no process to end here: {where}.")
    try:
        with suppress(psutil.NoSuchProcess):
            programs[0].terminate()
        _, left = psutil.wait_procs(programs, timeout=grace)
        until = time.monotonic() + _SECONDS_TO_END
        while left := with_descendants([program for program in left if not _has_ended(program)]):
            if time.monotonic() > until:
                raise RunError(f"run {now.name} does not end: the system holds process {left[0].pid}; try again later.")
            # The launcher is first: it would replace a missing worker. Workers started meanwhile are in the list too.
            for program in left:
                with suppress(psutil.NoSuchProcess):
                    program.kill()
            _, left = psutil.wait_procs(left, timeout=1)
    except psutil.AccessDenied as error:
        raise RunError(f"run {now.name} belongs to another user, who has to end it.") from error
    with suppress(OSError):
        withdraw_stop(now.folder)
    if read_status(now.folder).get("state") not in ("stopped", "finished", "failed"):
        write_end(now.folder, "stopped", f"ended by the user; {resume_advice(now.folder)}")


def wait_for_end(run: Run) -> None:
    """Wait for the processes of a run whose status says that it is over.

    Raises:
        RunError: they have not ended after some seconds.
    """
    _, left = psutil.wait_procs(programs_of(run), timeout=_SECONDS_TO_END)
    if left:
        raise RunError(f"run {run.name} is still ending; try again in a moment.", busy=True)


def rename(run: Run, name: str) -> Run:
    """Rename a run; the time in front of the name stays.

    Raises:
        RunError: the name is not allowed or taken, or the run is running or cannot be written; it keeps its name.
    """
    refuse_if_read_only()
    if not is_run_name(name):
        raise name_error(name)
    with _ended(run, "renamed") as now:
        folder = now.folder.with_name(now.name.removesuffix(now.title) + name)
        if folder == now.folder:
            return now
        if os.path.lexists(folder):
            raise RunError(f"there is a run {folder.name!r} already; choose another name.")
        try:
            os.rename(now.folder, folder)
            try:
                write_object(folder / "config.json", {**read_config(folder), "name": name})
            except OSError:
                os.rename(folder, now.folder)
                raise
        except OSError as error:
            raise RunError(f"run {now.name} cannot be renamed: {error.strerror}.") from error
    return reread(folder)


def delete(run: Run) -> None:
    """Delete a run's folder and everything in it.

    Raises:
        RunError: the run is running, or a file cannot be deleted.
    """
    refuse_if_read_only()
    with _ended(run, "deleted") as now:
        # Renamed first, so that no list shows a half-deleted run.
        hidden = now.folder.with_name(f".{now.name}.deleted")
        try:
            os.rename(now.folder, hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            raise RunError(
                f"run {now.name} cannot be deleted: {error.strerror}; look at {error.filename!r}."
            ) from error


def write_notes(run: Run, text: str) -> None:
    """Replace a run's notes.

    Raises:
        RunError: the text is too long or cannot be written.
    """
    refuse_if_read_only()
    now = reread(run.folder)
    if len(text) > _NOTES_LENGTH:
        raise RunError(f"notes hold {_NOTES_LENGTH:,} characters at most, not {len(text):,}; shorten them.")
    try:
        with atomic_write(now.folder / "notes.txt") as file:
            file.write(text.encode(errors="replace"))
    except OSError as error:
        raise RunError(f"the notes on {now.name} cannot be written: {error.strerror}.") from error


def write_end(folder: Path, state: str, reason: str) -> None:
    """Write how a run ended into its status, on behalf of its processes, which are gone."""
    # The identity in the status stays that of the run. If writing fails, the run is listed as dead, which is true too.
    with suppress(OSError):
        changed = {**read_status(folder), "state": state, "reason": reason, "updated": time.time()}
        write_object(folder / "status.json", changed)


@contextmanager
def _ended(run: Run, change: str) -> Iterator[Run]:
    """Yield a run as it is now, locked so that nobody starts it meanwhile; raise `RunError` if it is running."""
    running = RunError(f"run {run.name} is running and cannot be {change}; stop it first.")
    if reread(run.folder).alive:
        raise running
    wait_for_end(run)
    with run_lock(run.folder):
        now = reread(run.folder)
        if now.alive:
            raise running
        wait_for_end(now)  # a launcher that was started meanwhile has no lock yet
        yield now


def _has_ended(program: psutil.Process) -> bool:
    try:
        return program.status() == psutil.STATUS_ZOMBIE  # its parent may never collect the exit status
    except psutil.NoSuchProcess:
        return True
