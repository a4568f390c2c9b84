"""What is audited, and the audits and comparisons that run."""

from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dashboard.shared import cache
from dashboard.shared.background_jobs import BackgroundJobs, Job
from dashboard.shared.datasets import data_sets, image_name, open_split
from dashboard.shared.model_names import model_source, weights_state
from swin_core.audit.findings import audit
from swin_core.audit.kept import write_repair
from swin_core.audit.maps import audit_folder
from swin_core.audit.repair import compare_repair
from swin_core.audit.results import Tested
from swin_core.data.dataset import DataSet
from swin_core.errors import DataError
from swin_core.evaluation.predictions import data_state
from swin_core.evaluation.trained_on import trained_on
from swin_core.system.cache import LRUCache
from swin_core.zoo.classifier import Classifier

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
        """Open the other splits of the data set; those that are damaged or not on this machine are left out."""
        splits = next((entry.splits for entry in data_sets() if entry.name == self.collection), ())
        others = (split for split in splits if split != self.split and "all" not in (split, self.split))
        opened = []
        for split in others:
            with suppress(DataError):
                opened.append(open_split(self.collection, split))
        return opened

    def folder(self) -> Path:
        """Return the folder of the audit's files.

        Raises:
            SwinError: the model or the images cannot be opened.
        """
        return audit_folder(*self.open())


def job_of(subject: Subject) -> Job[Subject] | None:
    """Return the audit of a model and images that runs or waits, or has failed.

    Raises:
        SwinError: the model or the images cannot be opened.
    """
    return audits.jobs.get(_key(subject))


def start(subject: Subject) -> Job[Subject]:
    """Start an audit, or return the one that runs.

    Raises:
        RunError: the read-only mode is on.
        SwinError: the model or the images cannot be opened.
    """
    return audits.start(_key(subject), subject)


def _key(subject: Subject) -> Hashable:
    return subject, weights_state(subject.model), data_state(subject.images())


def _audit(job: Job[Subject]) -> None:
    audit(*job.request.open(), others=job.request.others(), progress=job.report)


audits = BackgroundJobs("audits", _audit)


@dataclass(frozen=True)
class RepairRequest:
    """A comparison of an audited model with a run that was trained without a finding."""

    subject: Subject
    finding: Tested
    run: str
    version: str
    """The run and its weights, under which the comparison is kept."""
    folder: Path
    """The audit's folder, in which the comparison is kept."""


def compare(request: RepairRequest) -> None:
    """Start a comparison, unless it runs.

    Raises:
        RunError: the read-only mode is on.
    """
    repairs.start(request, request)


def _compare(job: Job[RepairRequest]) -> None:
    request = job.request
    classifier, dataset = request.subject.open()
    seen = trained_on(model_source(request.subject.model), dataset) | trained_on(request.run, dataset)
    repair = compare_repair(
        classifier,
        cache.classifier(request.run),
        dataset,
        request.finding,
        trained_on=seen,
        progress=partial(job.report, "predictions"),
    )
    try:
        write_repair(request.folder, request.finding, request.version, repair)
    except OSError as error:
        raise DataError(f"{request.folder} cannot be written ({error}); make room, then compare again.") from None


repairs = BackgroundJobs("repairs", _compare)
