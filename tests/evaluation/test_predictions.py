"""Predictions of a split: equal to an evaluation and to a slow count, kept on disk, and never read when out of date."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import swin_core
from swin_core.data.dataset import DataSet
from swin_core.data.folders import image_folder
from swin_core.errors import DataError
from swin_core.evaluation import predictions as module
from swin_core.evaluation import views
from swin_core.evaluation.accuracy import evaluate_classifier
from swin_core.evaluation.predictions import (
    Predictions,
    cache_file,
    cache_root,
    cached_predictions,
    predict,
    read_cached,
)
from tests.conftest import FLOWERS

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 6
ALL = COUNT * len(FLOWERS)


@pytest.fixture
def photos(tmp_path: Path) -> DataSet:
    """Thirty images of five classes, as files."""
    draw = np.random.default_rng(3)
    for name in FLOWERS:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(COUNT):
            pixels = draw.integers(0, 256, (70, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number:02}.png")
    return image_folder(tmp_path / "photos")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches of few images, the last one not full; an evaluation has the same."""
    monkeypatch.setattr("swin_core.system.batches.MOST_ON_CPU", 13)


def columns(found: Predictions) -> list[np.ndarray]:
    return [found.truth, found.predicted, found.top, found.probabilities, found.loss]


def assert_same(one: Predictions, other: Predictions) -> None:
    for first, second in zip(columns(one), columns(other), strict=True):
        np.testing.assert_array_equal(first, second)


def test_metrics_are_those_of_an_evaluation(small_classifier: swin_core.Classifier, photos: DataSet) -> None:
    ours, theirs = predict(small_classifier, photos).metrics(), evaluate_classifier(small_classifier, photos).metrics
    assert (ours.count, ours.top1, ours.top5) == (theirs.count, theirs.top1, theirs.top5)
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-12)
    np.testing.assert_array_equal(ours.confusion, theirs.confusion)


@pytest.mark.parametrize("own_crop", [{}, {"crop_fraction": 0.9}, {"interpolation": "bilinear"}, {"squash": True}])
def test_every_number_is_that_of_a_slow_loop(
    small_classifier: swin_core.Classifier, photos: DataSet, own_crop: dict[str, object]
) -> None:
    model = small_classifier.model
    classifier = swin_core.Classifier(
        model,
        ["tulip", "oak", "rose", "daisy", "sunflower", "ship", "car"][: small_classifier.num_classes],
        (0.4, 0.5, 0.6),
        (0.2, 0.3, 0.4),
        64,
        **own_crop,  # type: ignore[arg-type]
    )
    found = predict(classifier, photos)
    names = {"tulips": 0, "roses": 2, "daisy": 3, "sunflowers": 4}
    right = loss = 0.0
    confusion = np.zeros((5, 5), int)
    for index in range(0, len(photos), 4):
        probabilities = classifier.predict([photos.image(index)])[0]
        order = sorted(range(5), key=lambda place: -probabilities[place])
        assert list(found.top[index]) == order
        np.testing.assert_allclose(found.probabilities[index], probabilities[order], rtol=1e-4)
        truth = names.get(photos.classes[photos.labels[index]], -1)
        assert found.truth[index] == truth
        assert found.predicted[index] == order[0]
        if truth < 0:
            assert np.isnan(found.loss[index])
        else:
            assert found.loss[index] == pytest.approx(-np.log(probabilities[truth]), rel=1e-4)
    for index in range(len(photos)):
        truth = names.get(photos.classes[photos.labels[index]], -1)
        if truth >= 0:
            confusion[truth, found.predicted[index]] += 1
            right += found.predicted[index] == truth
            loss += float(found.loss[index])
    figures = found.metrics()
    assert figures.count == 4 * COUNT == confusion.sum()
    assert figures.top1 == right / (4 * COUNT)
    assert figures.loss == pytest.approx(loss / (4 * COUNT), rel=1e-6)
    np.testing.assert_array_equal(figures.confusion, confusion)


def test_a_model_that_knows_no_class_is_neither_right_nor_wrong(
    small_classifier: swin_core.Classifier, photos: DataSet
) -> None:
    stranger = swin_core.Classifier(small_classifier.model, list("abcde"), (0.5,) * 3, (0.5,) * 3, 64)
    found = predict(stranger, photos)
    assert not found.counted.any()
    assert not found.right.any()
    assert np.isfinite(found.confidence).all()
    with pytest.raises(DataError, match="knows no class"):
        found.metrics()


def test_a_broken_image_has_no_prediction_and_the_others_stay(
    small_classifier: swin_core.Classifier, photos: DataSet
) -> None:
    before = predict(small_classifier, photos)
    photos.sources[20].write_bytes(b"\x89PNG\r\n\x1a\nno image")
    found = predict(small_classifier, photos)
    assert found.predicted[20] == -1
    assert not found.counted[20]
    assert np.isnan(found.confidence[20])
    rest = np.arange(len(photos)) != 20
    np.testing.assert_array_equal(found.predicted[rest], before.predicted[rest])
    np.testing.assert_allclose(found.loss[rest], before.loss[rest], rtol=1e-5)
    assert found.metrics().count == len(photos) - 1


def test_batches_read_ahead_give_the_same(
    small_classifier: swin_core.Classifier, photos: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = predict(small_classifier, photos)
    for ahead in (1, 2, 9):
        monkeypatch.setattr(views, "_read_ahead", lambda _, ahead=ahead: ahead)
        assert_same(predict(small_classifier, photos), alone)


def test_they_are_computed_once(
    small_classifier: swin_core.Classifier, photos: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    first = cached_predictions(small_classifier, photos, tmp_path, lambda done, count: told.append((done, count)))
    assert told == [(13, ALL), (26, ALL), (ALL, ALL)]
    monkeypatch.setattr(module, "predict", lambda *_: pytest.fail("computed again"))
    assert_same(cached_predictions(small_classifier, photos, tmp_path), first)
    # Another process, which opens everything anew, finds the same file.
    again = image_folder(Path(photos.sources[0]).parent.parent)
    assert cache_file(small_classifier, again, tmp_path) == cache_file(small_classifier, photos, tmp_path)


def test_another_state_of_weights_preprocessing_or_images_is_another_file(
    small_classifier: swin_core.Classifier, photos: DataSet, tmp_path: Path
) -> None:
    def file() -> Path:
        return cache_file(small_classifier, photos, tmp_path)

    files = [file()]
    with torch.no_grad():
        next(small_classifier.model.parameters()).add_(1e-3)
    files.append(file())
    small_classifier.mean = (0.5, 0.5, 0.4)
    files.append(file())
    small_classifier.labels = (*small_classifier.labels[1:], small_classifier.labels[0])
    files.append(file())
    Image.new("RGB", (70, 80)).save(photos.sources[3])
    files.append(file())
    files.append(cache_file(small_classifier, photos.subset(range(ALL - 1), "all"), tmp_path))
    for fill in (0, 1):
        pixels = np.full((ALL, 8, 8, 3), fill, np.uint8)
        in_memory = replace(photos, sources=pixels, read=lambda source, _: Image.fromarray(source))
        files.append(cache_file(small_classifier, in_memory, tmp_path))
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("damage", ["empty", "half", "text", "other", "class", "pickle"])
def test_a_damaged_file_is_computed_again(
    small_classifier: swin_core.Classifier, photos: DataSet, tmp_path: Path, damage: str
) -> None:
    first = cached_predictions(small_classifier, photos, tmp_path)
    file = cache_file(small_classifier, photos, tmp_path)
    whole = file.read_bytes()
    if damage == "other":
        np.savez(file, predicted=np.zeros(3), top=first.top, probabilities=first.probabilities, loss=first.loss)
    elif damage == "class":
        np.savez(file, predicted=first.predicted + 5, top=first.top, probabilities=first.probabilities, loss=first.loss)
    elif damage == "pickle":
        objects = np.array([print] * len(first), dtype=object)
        np.savez(file, predicted=objects, top=first.top, probabilities=first.probabilities, loss=first.loss)
    else:
        file.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "text": b"hello"}[damage])
    assert read_cached(file, small_classifier, photos) is None
    assert_same(cached_predictions(small_classifier, photos, tmp_path), first)
    kept = read_cached(file, small_classifier, photos)
    assert kept is not None
    assert_same(kept, first)


def test_what_is_given_up_half_way_leaves_nothing(
    small_classifier: swin_core.Classifier, photos: DataSet, tmp_path: Path
) -> None:
    def stop(done: int, count: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        cached_predictions(small_classifier, photos, tmp_path / "cache", stop)
    assert not list(tmp_path.glob("cache/**/*.npz"))


def test_a_folder_that_cannot_be_written_costs_time_only(
    small_classifier: swin_core.Classifier, photos: DataSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    found = cached_predictions(small_classifier, photos, tmp_path / "file")
    assert found.metrics().count == ALL
    assert "cannot be written" in caplog.text


def test_files_that_were_not_read_for_longest_go_first(
    small_classifier: swin_core.Classifier, photos: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 3)
    parts = [photos.subset([index], "all") for index in range(5)]
    files = [cache_file(small_classifier, part, tmp_path) for part in parts]
    for number, (part, file) in enumerate(zip(parts[:3], files, strict=False)):
        cached_predictions(small_classifier, part, tmp_path)
        os.utime(file, (number, number))
    cached_predictions(small_classifier, parts[0], tmp_path)
    cached_predictions(small_classifier, parts[3], tmp_path)
    assert [file.exists() for file in files] == [True, False, True, True, False]
    monkeypatch.setattr(module, "MAX_BYTES", files[0].stat().st_size + 1)
    cached_predictions(small_classifier, parts[4], tmp_path)
    assert [file.exists() for file in files] == [False, False, False, False, True]


def test_the_cache_can_be_put_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIN_CACHE_ROOT", str(tmp_path / "here"))
    assert cache_root() == tmp_path / "here"
    monkeypatch.delenv("SWIN_CACHE_ROOT")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "swinlens"
