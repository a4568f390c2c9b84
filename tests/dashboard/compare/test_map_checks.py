"""Map checks in the background: measured once, by one thread, and only while a page asks for them."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import swin_core
from dashboard.compare import measurements
from dashboard.compare.map_checks import checks, trust_or_check
from dashboard.shared import background_jobs
from dashboard.shared.background_jobs import Job
from dashboard.shared.comparison import Comparison, ImageAndClass
from swin_core.trust.assess import Trust, assess
from tests.fixtures.pages import bundle, fresh, picture

__all__ = ["bundle", "fresh"]

pytestmark = pytest.mark.usefixtures("one_thread", "fresh")


def wait(line: ImageAndClass, model: str, cell: Any) -> Trust | str:
    for _ in range(600):
        if not isinstance(result := trust_or_check(line, model, cell), Job):
            return result
        time.sleep(0.02)
    raise AssertionError("not measured")


def test_a_check_equals_the_measurement_and_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def counted(classifier: swin_core.Classifier, *args: Any, **options: Any) -> list[Trust]:
        threads.append(threading.current_thread().name)
        return assess(classifier, *args, **options | {"steps": 2})

    monkeypatch.setattr(measurements, "assess", counted)
    line = ImageAndClass(picture())
    cell = Comparison((line,), ("first",), "gradcam").rows()[0].cells[0]
    assert isinstance(trust_or_check(line, "first", cell), Job)
    found = wait(line, "first", cell)
    assert cell.explanation is not None
    assert cell.map is not None
    (own,) = assess(swin_core.load("first"), cell.explanation.view, cell.map, cell.explanation.targets[0], steps=2)
    assert found == own
    assert wait(line, "first", cell) is found
    assert threads == ["map checks"]


def test_a_check_counts_as_asked_for_before_the_thread_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    class Queue:
        """The thread may take a check as soon as it is put."""

        def put(self, item: Any) -> None:
            key, job = item
            assert checks.jobs.pop(key) is job
            seen.append(time.monotonic() - job.asked_at)

    monkeypatch.setattr(checks, "_queue", Queue())
    line = ImageAndClass(picture())
    cell = Comparison((line,), ("first",), "gradcam").rows()[0].cells[0]
    trust_or_check(line, "first", cell)
    assert [age < background_jobs.WANTED_SECONDS for age in seen] == [True]


def test_a_check_that_no_page_asks_for_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(classifier: swin_core.Classifier, *args: Any, progress: Any, **options: Any) -> list[Trust]:
        started.set()
        go_on.wait(20)
        try:
            progress(1, 2)
        finally:
            ended.set()
        raise AssertionError("it was not dropped")

    monkeypatch.setattr(measurements, "assess", slow)
    line = ImageAndClass(picture())
    cell = Comparison((line,), ("first",), "gradcam").rows()[0].cells[0]
    trust_or_check(line, "first", cell)
    assert started.wait(20)
    monkeypatch.setattr(background_jobs, "WANTED_SECONDS", -1)
    go_on.set()
    assert ended.wait(20)
    assert measurements.cached_trust(line, "first", cell) is None  # neither a result nor a failure


def test_a_number_done_always_has_a_total() -> None:
    class Watched(Job[None]):
        """A page may read a job between two assignments."""

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            assert not self.done or self.total

    job = Watched(None)
    job.report("images", 3, 8)
    assert (job.done, job.total) == (3, 8)
