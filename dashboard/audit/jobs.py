"""Audits in one background thread: Streamlit ends a page's script at every click, and an audit takes minutes."""

import logging
import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from dashboard.shared import cache
from dashboard.shared.datasets import data_sets, image_name, open_split
from dashboard.shared.formatting import unexpected
from dashboard.shared.model_names import weights_state
from swin_core.audit.findings import audit
from swin_core.audit.maps import audit_folder
from swin_core.data.dataset import DataSet
from swin_core.errors import SwinError
from swin_core.evaluation.predictions import data_state
from swin_core.runs.read_only import refuse_if_read_only
from swin_core.system.cache import LRUCache
from swin_core.zoo.classifier import Classifier

log = logging.getLogger(__name__)

WAITING = "waiting"

_subsets: LRUCache[DataSet] = LRUCache(4)


@dataclass(frozen=True)
class Subject:
    """A model and a split of a data set, or some of its images."""

    model: str
    collection: str
    split: str
    rows: tuple[int, ...] = ()
    """Indices of the images in the split, where a selection is audited; empty for all of them."""

    def images(self) -> DataSet:
        """Open the images.

        Raises:
            DataError: they cannot be opened.
        """
        data = open_split(self.collection, self.split)
        return _subsets.get((data, self.rows), lambda: data.subset(self.rows, data.split)) if self.rows else data

    def image_name(self, index: int) -> str:
        """Return the name of one of the images, such as `cifar100/test/1234`."""
        return image_name(self.collection, self.split, self.rows[index] if self.rows else index)

    def open(self) -> tuple[Classifier, DataSet]:
        """Load the model and open the images.

        Raises:
            SwinError: one of them cannot be opened.
        """
        return cache.classifier(self.model), self.images()

    def others(self) -> list[DataSet]:
        """Open the other splits of the data set.

        Raises:
            SwinError: one of them cannot be opened.
        """
        splits = next((entry.splits for entry in data_sets() if entry.name == self.collection), ())
        others = (split for split in splits if split != self.split and "all" not in (split, self.split))
        return [open_split(self.collection, split) for split in others]

    def folder(self) -> Path:
        """Return the folder of the audit's files.

        Raises:
            SwinError: the model or the images cannot be opened.
        """
        return audit_folder(*self.open())


@dataclass(eq=False)
class AuditJob:
    """An audit that waits, runs, or has ended with an error."""

    subject: Subject
    stage: str = WAITING
    """`WAITING`, "files", "images" or "candidates": what is counted."""
    done: int = 0
    total: int = 0
    error: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


class _Stopped(Exception):
    """Raised in an audit that a user stopped."""


_jobs: dict[Hashable, AuditJob] = {}
_queue: SimpleQueue[tuple[Hashable, AuditJob]] = SimpleQueue()
_guard = threading.Lock()
_worker: threading.Thread | None = None


def job_of(subject: Subject) -> AuditJob | None:
    """Return the audit of a model and images that runs or waits, or has failed.

    Raises:
        SwinError: the model or the images cannot be opened.
    """
    return _jobs.get(_key(subject))


def start(subject: Subject) -> AuditJob:
    """Start an audit, or return the one that runs.

    Raises:
        RunError: the read-only mode is on.
        SwinError: the model or the images cannot be opened.
    """
    global _worker
    refuse_if_read_only()
    key = _key(subject)
    with _guard:
        job = _jobs.get(key)
        if job is not None and not job.ended.is_set():
            return job
        job = _jobs[key] = AuditJob(subject)
        if _worker is None:
            # Not a ThreadPoolExecutor: Python would wait for its jobs before the server ends.
            _worker = threading.Thread(target=_run_jobs, name="audits", daemon=True)
            _worker.start()
        _queue.put((key, job))
    return job


def _key(subject: Subject) -> Hashable:
    return subject, weights_state(subject.model), data_state(subject.images())


def _run_jobs() -> None:
    while True:
        key, job = _queue.get()
        _run(job)
        with _guard:
            if not job.error and _jobs.get(key) is job:
                del _jobs[key]
        job.ended.set()


def _run(job: AuditJob) -> None:
    def progress(what: str, done: int, total: int) -> None:
        job.stage, job.done, job.total = what, done, total
        if job.stopped.is_set():
            raise _Stopped

    try:
        if not job.stopped.is_set():
            audit(*job.subject.open(), others=job.subject.others(), progress=progress)
    except _Stopped:
        pass
    except SwinError as error:
        job.error = str(error)
    except Exception as error:
        log.exception("the audit of %s failed", job.subject.model)
        job.error = unexpected(error)
