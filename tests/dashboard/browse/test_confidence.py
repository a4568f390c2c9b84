"""The Confidence tab of the Browse page: its numbers are those of the library, by an independent way."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

import swin_core
from dashboard.browse import confidence_view
from dashboard.browse.filters import ALL_SPLITS
from dashboard.shared import datasets, feature_jobs
from swin_core.data.cifar100 import cifar100
from swin_core.data.folders import open_folder
from swin_core.evaluation import calibration, corruptions
from swin_core.evaluation.corruptions import CORRUPTIONS
from swin_core.evaluation.predictions import predict
from tests.fixtures.browse import bundle, data, fresh, opened, settled
from tests.fixtures.images import FINE
from tests.fixtures.pages import empty_caches, run

__all__ = ["bundle", "data", "fresh"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def quick(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is computed yet; one strength, and halves of a few images."""
    empty_caches(monkeypatch, feature_jobs, confidence_view, datasets)
    monkeypatch.setattr(feature_jobs.computations, "jobs", {})
    monkeypatch.setattr(corruptions, "STRENGTHS", (2,))
    monkeypatch.setattr(confidence_view, "STRENGTHS", (2,))
    monkeypatch.setattr(calibration, "LEAST_HALF", 10)


def all_text(app: AppTest) -> str:
    return " ".join(element.value for kind in (app.markdown, app.caption, app.info, app.error) for element in kind)


def click(app: AppTest, label: str) -> AppTest:
    (button,) = [each for each in app.button if each.label == label]
    button.click()
    run(app)
    end = time.monotonic() + 60
    while any(not job.ended.is_set() for job in feature_jobs.computations.jobs.values()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return settled(app)


def test_the_sentence_the_classes_the_temperature_and_the_corruptions() -> None:
    app = opened(view="Confidence")
    chances = swin_core.load("first").predict([cifar100(split="test").image(row) for row in range(30)])
    part = cifar100(split="test")
    truth = np.array([swin_core.load("first").labels.index(part.classes[label]) for label in part.labels])
    right = chances.argmax(1) == truth
    said = re.findall(r"([\d.]+) %", all_text(app).split("is **", 1)[1])
    assert float(said[0]) == pytest.approx(100 * chances.max(1).mean(), abs=0.06)
    assert float(said[1]) == pytest.approx(100 * right.mean(), abs=0.06)
    (table,) = [frame.value for frame in app.dataframe if "gap" in frame.value]
    assert table["gap"].is_monotonic_decreasing
    for _, line in table.iterrows():
        of = truth == [name.replace("_", " ") for name in swin_core.load("first").labels].index(line["name"])
        assert line["images"] == of.sum()
        assert line["accuracy"] == pytest.approx(100 * right[of].mean())
        assert line["gap"] == pytest.approx(100 * (chances.max(1)[of].mean() - right[of].mean()), abs=1e-3)

    app = click(app, "Compute the logits")
    assert "Logits divided by a temperature of **" in all_text(app)
    assert "It is not applied" in all_text(app)

    app = click(app, "Measure it")
    (table,) = [frame.value for frame in app.dataframe if "blur" in frame.value]
    changed = corruptions.corrupted_dataset(part, "noise", 2)
    expected = predict(swin_core.load("first"), changed).right
    first = table.iloc[0]
    assert first["group"] == "all images"
    assert first["clean"] == pytest.approx(100 * right.mean())
    assert first["noise"] == pytest.approx(100 * expected.mean())
    assert set(CORRUPTIONS) <= set(table.columns)


def test_corruptions_of_each_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(3)
    for split, count in (("train", 9), ("val", 6)):
        for name in FINE[:2]:
            (tmp_path / "fruit" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "fruit" / split / name / f"{number}.png")
    monkeypatch.setenv("SWIN_DATA_ROOT", str(tmp_path))
    everything = {"data": "fruit", "split": ALL_SPLITS, "view": "Confidence"}
    app = click(opened(corrupted="train", **everything), "Measure it")
    for split, count in (("train", 18), ("val", 12)):
        if split == "val":
            app.segmented_control(key="corrupted").set_value("val")
            app = click(run(app), "Measure it")
        assert f"Accuracy on {count} images of {split}" in all_text(app)
        (table,) = [frame.value for frame in app.dataframe if "blur" in frame.value]
        changed = corruptions.corrupted_dataset(open_folder(tmp_path / "fruit" / split), "noise", 2)
        assert table.iloc[0]["noise"] == pytest.approx(100 * predict(swin_core.load("first"), changed).right.mean())
    app = opened(corrupted="test", **everything)
    assert "corrupted=test (possible: val, train)" in app.warning[0].value.replace("\\", "")


def test_a_model_of_other_classes_is_not_measured() -> None:
    app = opened(model="third", judge="third", view="Confidence")
    assert "Calibration needs the predictions of a model that knows these classes" in all_text(app)
