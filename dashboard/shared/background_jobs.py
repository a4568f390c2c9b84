"""Work that takes minutes, in a background thread: Streamlit ends a page's script at every click."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

from dashboard.shared.formatting import unexpected
from swin_core.errors import SwinError
from swin_core.runs.read_only import refuse_if_read_only

log = logging.getLogger(__name__)

WAITING = "waiting"
WANTED_SECONDS = 6.0
"""A job counts as wanted for so long after a page asked for it."""
PACE_REPORTS = 32
"""Number of recent reports from which the time left is estimated."""
PACE_FROM = 4
"""Reports needed for an estimate, not counting the first one, which is slow."""

Request = TypeVar("Request")


class Stopped(Exception):
    """Raised in a job that a user stopped, or that no page wants any more."""


@dataclass(eq=False)
class Job(Generic[Request]):
    """A request that waits, is worked on, or has failed."""

    request: Request
    stage: str = WAITING
    """`WAITING`, or what is counted."""
    done: int = 0
    total: int = 0
    error: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    asked_at: float = field(default_factory=time.monotonic)
    """When a page last asked for it; monotonic time in seconds."""
    _reports: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=PACE_REPORTS + 1))
    """Time of each recent report, and what was done by then."""

    def report(self, stage: str, done: int, total: int) -> None:
        """Record the progress.

        Raises:
            Stopped: a user stopped the job.
        """
        if stage != self.stage:
            self._reports.clear()
        # A page may read them at any moment: the first number done has a total.
        self.stage, self.total, self.done = stage, total, done
        self._reports.append((time.monotonic(), done))
        if self.stopped.is_set():
            raise Stopped

    def ask(self) -> None:
        """Record that a page wants the job."""
        self.asked_at = time.monotonic()

    @property
    def is_wanted(self) -> bool:
        """Whether a page has asked for the job recently."""
        return time.monotonic() - self.asked_at <= WANTED_SECONDS

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the pace of the last reports; None before there are enough of them."""
        if len(self._reports) <= PACE_FROM:
            return None
        (start, before), (end, done) = self._reports[0], self._reports[-1]
        if done == before:
            return None
        left = (end - start) / (done - before) * (self.total - done)
        return max(0.0, left - (time.monotonic() - end))


class BackgroundJobs(Generic[Request]):
    """Jobs of one kind, one after the other in a thread of their own. Those that waited or failed can be asked for.

    Args:
        name: of the thread.
        work: does a job and reports its progress to it.
        in_read_only: whether jobs may be started in the read-only mode.
    """

    def __init__(self, name: str, work: Callable[[Job[Request]], None], in_read_only: bool = False):
        self.jobs: dict[Hashable, Job[Request]] = {}
        self._name, self._work, self._in_read_only = name, work, in_read_only
        self._queue: SimpleQueue[tuple[Hashable, Job[Request]]] = SimpleQueue()
        self._guard = threading.Lock()
        self._worker: threading.Thread | None = None

    def start(self, key: Hashable, request: Request) -> Job[Request]:
        """Start a job, or ask for the one of this key that waits or runs; return it.

        Raises:
            RunError: the read-only mode is on.
        """
        if not self._in_read_only:
            refuse_if_read_only()
        with self._guard:
            job = self.jobs.get(key)
            if job is not None and not job.ended.is_set():
                job.ask()
                return job
            job = self.jobs[key] = Job(request)
            if self._worker is None:
                # Not a ThreadPoolExecutor: Python would wait for its jobs before the server ends.
                self._worker = threading.Thread(target=self._run_all, name=self._name, daemon=True)
                self._worker.start()
            self._queue.put((key, job))
        return job

    def is_another_wanted(self, job: Job[Request]) -> bool:
        """Return whether a page waits for a job other than this one."""
        with self._guard:
            return any(other.is_wanted for other in self.jobs.values() if other is not job and not other.error)

    def _run_all(self) -> None:
        while True:
            key, job = self._queue.get()
            self._run(job)
            with self._guard:
                if not job.error and self.jobs.get(key) is job:
                    del self.jobs[key]
            job.ended.set()

    def _run(self, job: Job[Request]) -> None:
        try:
            if not job.stopped.is_set():
                self._work(job)
        except Stopped:
            pass
        except SwinError as error:
            job.error = str(error)
        except Exception as error:
            log.exception("%s failed: %s", self._name, job.request)
            job.error = unexpected(error)
