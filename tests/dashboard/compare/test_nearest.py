"""The nearest images on the Compare page: what to press, then the images with class, distance and training."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from dashboard.shared import datasets, feature_jobs, nearest_images
from tests.fixtures.pages import bundle, choose, empty_caches, fresh, opened, run

__all__ = ["bundle", "fresh"]

pytestmark = pytest.mark.usefixtures("one_thread", "fresh")


@pytest.fixture(autouse=True)
def images(fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of twelve images of two classes, and nothing computed yet."""
    draw = np.random.default_rng(0)
    for number in range(12):
        file = tmp_path / "data" / "photos" / ("cat", "big_dog")[number % 2] / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(file)
    monkeypatch.setenv("SWIN_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("SWIN_CACHE_ROOT", str(tmp_path / "cache"))
    empty_caches(monkeypatch, feature_jobs, nearest_images, datasets)
    monkeypatch.setattr(feature_jobs.computations, "jobs", {})


def captions(app: AppTest) -> list[str]:
    found = [image.caption for element in app.get("image") for image in element.proto.imgs]
    return [text.replace("\\", "") for text in found if "distance" in text]


def text(app: AppTest) -> str:
    return " ".join(each.value for kind in (app.caption, app.warning, app.error) for each in kind).replace("\\", "")


def test_the_images_follow_a_click_and_a_choice_of_model() -> None:
    app = opened()
    assert "Choose a data set to see its images" in text(app)
    app = opened(near="photos, all")
    assert "The features of these images are not there yet" in text(app)
    (button,) = [each for each in app.button if each.label == "Compute the features of 12 images"]
    button.click()
    run(app)
    end = time.monotonic() + 60
    while feature_jobs.computations.jobs:
        assert time.monotonic() < end
        time.sleep(0.02)
    found = captions(run(app))
    assert len(found) == nearest_images.COUNT
    assert all(line.startswith(("cat · distance ", "big dog · distance ")) for line in found)
    distances = [float(line.rpartition(" ")[2]) for line in found]
    assert distances == sorted(distances)
    assert "Nothing is recorded about the images that the model was trained on" in text(app)
    choose(app, "near_model", ["second"])
    assert "The features of these images are not there yet" in text(run(app))


def test_training_images_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_images, "trained_rows", lambda model, catalog: np.arange(len(catalog)) % 2 == 0)
    request = feature_jobs.FeatureRequest("first", "photos", ("all",))
    feature_jobs.start(request)
    while feature_jobs.computations.jobs:
        time.sleep(0.02)
    found = captions(opened(near="photos/all", model="first"))
    assert 0 < sum(line.endswith(" · training image") for line in found) < len(found)


def test_an_unknown_data_set_is_named() -> None:
    assert "near=nothing, all" in text(opened(near="nothing, all"))
