"""Which processes belong to a run, and whether they are alive.

A process id alone is not enough: the system reuses it. The boot of the machine and the clock ticks from there to the
start of the process distinguish the two processes, and do not change when the clock is set.
"""

import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

IDENTITY = ("pid", "boot", "ticks", "created", "host")
"""Keys of what `identity` returns."""

_TOLERANCE = 2.0
"""Seconds between two readings of one creation time: it is relative to the boot time, which is given in whole seconds
and shifts when the clock is set."""


def identity(pid: int | None = None) -> dict[str, Any]:
    """Return `pid`, `host`, `boot` (the id of the machine's boot) and `ticks` (clock ticks from the boot to the start).

    Together they identify a process uniquely. Systems without `/proc` have `created` (Unix time) instead of the last
    two, and so have files of older versions.

    Args:
        pid: a living process of this machine; None for the caller.
    """
    program = psutil.Process(pid)
    return {"pid": program.pid, **(_start(program.pid) or {"created": program.create_time()}), "host": _host()}


def _start(pid: int) -> dict[str, Any] | None:
    """Return `boot` and `ticks` of a process, or None where the system does not tell them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        facts = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field, the program's name, may hold spaces and parentheses; the start is the 22nd.
    return {"boot": boot, "ticks": int(facts.rpartition(b")")[2].split()[19])}


def _host() -> str:
    return socket.gethostname()


def is_here(facts: Mapping[str, Any]) -> bool:
    """Return whether `facts` name a process of this machine."""
    return facts.get("host") == _host()


def living(facts: Mapping[str, Any]) -> psutil.Process | None:
    """Return the process that `identity` described, if it lives on this machine.

    None if `facts` are malformed, or if another process has the id now.
    """
    pid, created = facts.get("pid"), facts.get("created")
    if not is_here(facts) or type(pid) is not int or pid <= 0:
        return None
    try:
        program = psutil.Process(pid)
        if "ticks" in facts:
            same = {name: facts.get(name) for name in ("boot", "ticks")} == _start(pid)
        else:
            same = isinstance(created, int | float) and abs(program.create_time() - created) <= _TOLERANCE
        return program if same and program.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, OverflowError, ValueError):
        return None


def family(launch: Mapping[str, Any], status: Mapping[str, Any]) -> list[psutil.Process]:
    """Return the living processes of a run on this machine: launcher, trainer, then their descendants."""
    return with_descendants(program for program in (living(launch), living(status)) if program)


def trainers_in(folder: Path) -> list[psutil.Process]:
    """Return processes whose command line trains in a run's folder, with their descendants.

    This finds them even if the launcher was killed and no file names them.
    """
    options = {("--run", str(folder)), ("--run", str(folder.resolve()))}  # the folder of runs may be reached by a link
    programs = psutil.process_iter(["cmdline"])  # None for another user's
    return with_descendants(program for program in programs if options & {*pairwise(program.info["cmdline"] or [])})


def with_descendants(programs: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return processes followed by all their descendants, without the caller and its own descendants."""
    family = dict.fromkeys(program for program in programs if program.pid != os.getpid())
    for program in list(family):
        with suppress(psutil.Error):
            family |= dict.fromkeys(program.children(recursive=True))
    return [program for program in family if program.pid != os.getpid()]
