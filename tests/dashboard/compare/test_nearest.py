"""The nearest images on Compare and Inside: what to press, then the images with class, distance and training."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from dashboard.shared import datasets, feature_jobs, nearest_images
from tests.fixtures.images import small_cifar, write_hub
from tests.fixtures.pages import ROOT, bundle, choose, empty_caches, fresh, opened, run
from tests.fixtures.runs import make_run

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


def computed(app: AppTest) -> AppTest:
    """The page once the button was pressed and the features are there."""
    (button,) = [each for each in app.button if each.label == "Compute the features"]
    button.click()
    run(app)
    end = time.monotonic() + 60
    while feature_jobs.computations.jobs:
        assert time.monotonic() < end
        time.sleep(0.02)
    return run(app)


def test_the_images_follow_a_click_and_a_choice_of_model() -> None:
    app = opened()
    assert "Choose a data set to see its images" in text(app)
    app = opened(near="photos, all")
    assert "The features of these images are not computed yet" in text(app)
    found = captions(computed(app))
    assert len(found) == nearest_images.COUNT
    assert all(line.startswith(("cat · distance ", "big dog · distance ")) for line in found)
    distances = [float(line.rpartition(" ")[2]) for line in found]
    assert distances == sorted(distances)
    assert "Nothing is recorded about the images that the model was trained on" in text(app)
    choose(app, "near_model", ["second"])
    assert "The features of these images are not computed yet" in text(run(app))


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the weights of "first" record: they were trained on the photos without a third of each class."""
    recorded = {"data": str(tmp_path / "data" / "photos"), "holdout": 0.34, "seed": 3}
    make_run(tmp_path / "runs", "20260101-120000-mine", settings=recorded)
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(tmp_path / "runs"))
    monkeypatch.setattr(
        nearest_images, "recorded_trainings", lambda model: iter([recorded] if "first" in model else [])
    )
    return recorded


@pytest.mark.parametrize("page", ["compare", "inside"])
def test_it_starts_with_the_images_of_the_training(
    page: str, trained: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the data set was opened")

    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=120)
    app.switch_page(f"views/{page}.py")
    app.query_params["model"] = ["first"]
    with monkeypatch.context() as closed:  # where nothing was computed, no data set is opened for it
        closed.setattr(feature_jobs, "open_split", fail)
        run(app)
    app = computed(app)
    assert len(captions(app)) == 8
    links = unquote(str([link.proto.query_string for link in app.get("page_link")]))
    assert all(f"photos@20260101-120000-mine/train/{row}" in links for row in range(8))
    choose(app, "near", [nearest_images.NONE])
    assert "Choose a data set to see its images" in text(run(app))
    choose(app, "near", [])
    choose(app, "model", ["second"])
    assert "are not recorded or not on this machine" in text(run(app))


def test_the_training_split_is_the_one_that_the_weights_record(tmp_path: Path, trained: dict[str, Any]) -> None:
    def found() -> tuple[str, str] | None:
        nearest_images._trainings.drop(lambda _: True)  # the weights stay the same here
        training = nearest_images.training_split("first")
        return (training[0].name, training[1]) if training else None

    assert found() == ("photos@20260101-120000-mine", "train")
    assert nearest_images.training_split("second") is None
    trained["seed"] = 4  # divided otherwise than any run
    assert found() is None
    trained["data"] = "cifar100"
    assert found() is None
    write_hub(tmp_path / "data" / "cifar100", small_cifar())
    assert found() == ("cifar100", "train")
    for split in ("train", "val"):
        shutil.copytree(tmp_path / "data" / "photos", tmp_path / "data" / "own" / split)
    trained["data"] = str(tmp_path / "data" / "own")
    assert found() == ("own", "train")


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
