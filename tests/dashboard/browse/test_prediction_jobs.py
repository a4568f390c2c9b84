"""Tests of the background predictions of the Browse page."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import swin_core
from dashboard.browse import prediction_jobs
from dashboard.shared import background_jobs, cache
from dashboard.shared.background_jobs import Job
from swin_core.errors import ModelError
from swin_core.evaluation.metrics import BatchScores, score_batch
from swin_core.evaluation.predictions import Predictions
from swin_core.system.cache import LRUCache
from tests.fixtures.browse import CACHING_MODULES, bundle, data, fresh, opened, settled, sheet
from tests.fixtures.pages import caches

__all__ = ["bundle", "data", "fresh"]

pytestmark = pytest.mark.usefixtures("one_thread")


def test_concurrent_pages_share_one_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    compute = prediction_jobs.cached_predictions

    def spy(classifier: swin_core.Classifier, *rest: Any, **options: Any) -> Predictions:
        calls.append(classifier.name)
        time.sleep(0.5)
        return compute(classifier, *rest, **options)

    monkeypatch.setattr(prediction_jobs, "cached_predictions", spy)
    found: list[object] = []

    def page() -> None:
        while not isinstance(one := prediction_jobs.predictions_or_job("first", "cifar100", "test"), Predictions):
            time.sleep(0.02)
        found.append(one)

    threads = [threading.Thread(target=page) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == ["first"]
    assert len({id(one) for one in found}) == 1
    # After a restart of the server it comes from disk.
    monkeypatch.setattr(prediction_jobs, "_predictions", LRUCache(16))
    assert isinstance(prediction_jobs.predictions_or_job("first", "cifar100", "test"), Predictions)
    assert calls == ["first"]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of thirty batches that take 1.5 seconds; a job counts as shown for 0.4 seconds."""
    monkeypatch.setattr(background_jobs, "WANTED_SECONDS", 0.4)
    monkeypatch.setattr(prediction_jobs, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr("swin_core.system.batches.MOST_ON_CPU", 1)

    def score_slowly(*arguments: Any) -> BatchScores:
        time.sleep(0.05)
        return score_batch(*arguments)

    monkeypatch.setattr("swin_core.evaluation.predictions.score_batch", score_slowly)
    for model in ("first", "second"):
        cache.classifier(model)


def ask(model: str, seconds: float = 60) -> Predictions | Job[Any] | None:
    """Poll until the predictions are ready or the time is over."""
    end = time.monotonic() + seconds
    while not isinstance(found := prediction_jobs.predictions_or_job(model, "cifar100", "test"), Predictions):
        if time.monotonic() > end:
            break
        time.sleep(0.02)
    return found


@pytest.mark.usefixtures("slow")
def test_a_hidden_job_is_cancelled_for_a_shown_one() -> None:
    left = ask("first", 0)
    assert isinstance(left, Job)
    time.sleep(0.6)
    assert not left.ended.is_set()
    assert isinstance(ask("second"), Predictions)
    assert left.ended.is_set()
    assert 0 < left.done < len(left.request.data)
    assert isinstance(ask("first"), Predictions)


@pytest.mark.usefixtures("slow")
def test_a_hidden_job_continues_if_no_page_waits() -> None:
    first, second = ask("first", 0), ask("second", 0)
    assert isinstance(first, Job)
    assert isinstance(second, Job)
    assert first.ended.wait(60)
    assert second.ended.wait(60)
    assert (first.done, second.done) == (len(first.request.data), len(second.request.data))


@pytest.mark.usefixtures("slow")
def test_a_shown_job_finishes_before_the_next() -> None:
    first, second = ask("first", 0), ask("second", 0)
    assert isinstance(first, Job)
    assert isinstance(second, Job)
    while not first.ended.wait(0.02):
        first.ask()
        second.ask()
        assert second.done == 0 or first.ended.is_set()
    assert first.done == len(first.request.data)
    assert isinstance(ask("second"), Predictions)


def test_a_failure_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Predictions:
        raise ModelError("The model is too large for this machine; choose another one.")

    monkeypatch.setattr(prediction_jobs, "cached_predictions", fail)
    app = opened()
    assert "too large for this machine" in app.error[0].value
    assert len(sheet(app)) == 30


def test_long_predictions_need_a_click(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_jobs, "LONG_PIXELS", 1000)
    app = opened()
    assert not sheet(app)[0]["verdicts"]
    (button,) = (one for one in app.button if one.label.startswith("Predict 30 images"))
    button.click()
    assert sheet(settled(app))[0]["verdicts"]
    # The predictions are stored: no second click is needed.
    assert not [one for one in opened().button if one.label.startswith("Predict")]


def test_caches_stay_within_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, _ in caches(*CACHING_MODULES):
        monkeypatch.setattr(module, name, LRUCache(3))
    app = opened(split="all splits")
    for number in range(8):
        app.session_state.page = 1 + number % 2
        app.session_state.judge = ("first", "second")[number % 2]
        app.session_state.search = "abcde"[number % 5]
        app.session_state.maps = number % 3 == 0
        settled(app)
    assert all(len(held) <= 3 for _, _, held in caches(*CACHING_MODULES))
    assert prediction_jobs.predicting.jobs == {}
    assert threading.active_count() < 12


def test_time_left_ignores_the_slow_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    job = Job("any")
    told = []
    # The first batch takes six seconds, the others half a second each; after the fiftieth they take twice as long.
    for batch in range(1, 101):
        now += 6.0 if batch == 1 else 0.5 if batch <= 50 else 1.0
        job.report("", 64 * batch, 10_000)
        told.append(job.seconds_left)
    assert told[: background_jobs.PACE_FROM] == [None] * background_jobs.PACE_FROM
    assert told[background_jobs.PACE_FROM] == pytest.approx(0.5 * (10_000 - 64 * 5) / 64)
    assert told[-1] == pytest.approx((10_000 - 6_400) / 64)
    # Between two batches it runs down, and not below nothing.
    now += 2.0
    assert job.seconds_left == pytest.approx((10_000 - 6_400) / 64 - 2)
    now += 1e6
    assert job.seconds_left == 0
