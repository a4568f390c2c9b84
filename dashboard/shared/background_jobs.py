"""Work that takes minutes, in a background thread: Streamlit ends a page's script at every click."""

import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

from dashboard.shared.formatting import unexpected
from swin_core.errors import SwinError
from swin_core.runs.read_only import refuse_if_read_only

log = logging.getLogger(__name__)

WAITING = "waiting"

Request = TypeVar("Request")


class Stopped(Exception):
    """Raised in a job that a user stopped."""


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

    def report(self, stage: str, done: int, total: int) -> None:
        """Record the progress.

        Raises:
            Stopped: a user stopped the job.
        """
        self.stage, self.done, self.total = stage, done, total
        if self.stopped.is_set():
            raise Stopped


class BackgroundJobs(Generic[Request]):
    """Jobs of one kind, one after the other in a thread of their own. Those that waited or failed can be asked for.

    Args:
        name: of the thread.
        work: does a job and reports its progress to it.
    """

    def __init__(self, name: str, work: Callable[[Job[Request]], None]):
        self.jobs: dict[Hashable, Job[Request]] = {}
        self._name, self._work = name, work
        self._queue: SimpleQueue[tuple[Hashable, Job[Request]]] = SimpleQueue()
        self._guard = threading.Lock()
        self._worker: threading.Thread | None = None

    def start(self, key: Hashable, request: Request) -> Job[Request]:
        """Start a job, or return the one of this key that waits or runs.

        Raises:
            RunError: the read-only mode is on.
        """
        refuse_if_read_only()
        with self._guard:
            job = self.jobs.get(key)
            if job is not None and not job.ended.is_set():
                return job
            job = self.jobs[key] = Job(request)
            if self._worker is None:
                # Not a ThreadPoolExecutor: Python would wait for its jobs before the server ends.
                self._worker = threading.Thread(target=self._run_all, name=self._name, daemon=True)
                self._worker.start()
            self._queue.put((key, job))
        return job

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
