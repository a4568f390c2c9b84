"""Who a run's programs are, and whether they live.

A process id alone says nothing: the system gives it to another program when its owner has ended. The time at which the
owner was created tells the two apart.
"""

import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

__all__ = ["family", "identity", "is_here", "living", "strays", "with_descendants"]

_TOLERANCE = 2.0
"""Seconds between two readings of one creation time: it is counted from the boot, whose time is given in whole
seconds and moves by one of them while the clock is set."""


def identity(pid: int | None = None) -> dict[str, Any]:
    """What tells a program from all others: `pid`, `created` (unix time in seconds) and `host`.

    Args:
        pid: of a living program of this machine; None for the caller.
    """
    program = psutil.Process(pid if pid is not None else os.getpid())
    return {"pid": program.pid, "created": program.create_time(), "host": socket.gethostname()}


def is_here(facts: Mapping[str, Any]) -> bool:
    """Whether `facts` name a program of this machine."""
    return facts.get("host") == socket.gethostname()


def living(facts: Mapping[str, Any]) -> psutil.Process | None:
    """The program of this machine that `identity` described, if it lives.

    None also where `facts` are anything else, and where the process id belongs to another program by now.
    """
    pid, created = facts.get("pid"), facts.get("created")
    if not is_here(facts) or type(pid) is not int or pid <= 0 or not isinstance(created, int | float):
        return None
    try:
        program = psutil.Process(pid)
        same = abs(program.create_time() - created) <= _TOLERANCE
        # A zombie has ended; only its parent has not asked how.
        return program if same and program.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, OverflowError, ValueError):
        return None


def family(launch: Mapping[str, Any], status: Mapping[str, Any]) -> list[psutil.Process]:
    """The living programs of a run on this machine: the launcher first, then the one that trains, then theirs."""
    return with_descendants(program for program in (living(launch), living(status)) if program)


def strays(folder: Path) -> list[psutil.Process]:
    """Programs whose command line says that they train in a run's folder, with their descendants.

    Those are there also when the launcher was killed and nobody wrote down who they are.
    """
    named = {("--run", str(folder)), ("--run", str(folder.resolve()))}  # the folder of runs may be reached by a link
    found = psutil.process_iter(["cmdline"])  # None for another user's
    return with_descendants(program for program in found if named & {*pairwise(program.info["cmdline"] or [])})


def with_descendants(programs: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Programs, then those that they started, and so on; never the caller, nor what only the caller started."""
    found = dict.fromkeys(program for program in programs if program.pid != os.getpid())
    for program in list(found):
        with suppress(psutil.Error):
            found |= dict.fromkeys(program.children(recursive=True))
    return [program for program in found if program.pid != os.getpid()]
