"""The sample images by what the bundled models know, and the first view that follows from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard.shared import samples
from dashboard.shared.model_names import sample_images
from dashboard.shared.samples import first_models, first_sample, first_samples, sample_groups
from swin_core.class_names import find_class
from swin_core.zoo import load as zoo
from tests.fixtures.pages import FLOWERS, bundle, empty_caches, opened, save_model, texts

__all__ = ["bundle"]

FOUR = ("cat", "dog", "rose", "tulip")


@pytest.fixture
def four(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Bundled models: of four classes, of flowers, and one that knows a rocket and a mountain too."""
    for file in bundle.iterdir():
        (tmp_path / file.name).hardlink_to(file)
    save_model(tmp_path, "four", FOUR, 3)
    monkeypatch.setattr(zoo, "ASSETS", tmp_path)
    empty_caches(monkeypatch, zoo)
    return tmp_path


@pytest.mark.usefixtures("four")
def test_each_sample_is_in_the_group_with_the_fewest_classes_that_knows_it() -> None:
    groups = sample_groups()
    assert list(groups)[:3] == ["cat, dog, rose, tulip", "5 classes", "6 classes"]
    assert sorted(name for names in groups.values() for name in names) == sorted(sample_images())
    assert {"cat", "dog", "rose", "tulip"} <= set(groups["cat, dog, rose, tulip"])
    assert groups["5 classes"] == ["dandelion"]
    assert groups["6 classes"] == ["mountain", "rocket"]
    assert all(find_class(FLOWERS, name) is None for name in groups[samples.UNKNOWN])


@pytest.mark.usefixtures("four")
def test_the_first_view_is_the_four_classes_by_the_models_that_know_them() -> None:
    assert first_samples() == list(FOUR)
    assert first_models() == ["four"]
    app = opened()
    assert all(f"{name}.jpg" in texts(app) for name in FOUR)
    assert "four" in texts(app)
    assert "second" not in texts(app).split()


@pytest.mark.usefixtures("four")
def test_the_demo_opens_on_an_image_that_its_models_know() -> None:
    assert first_sample(["four"]) == "cat"
    assert first_sample(["four", "first"]) == "rose"
    assert first_sample(["second"]) == "rose"
    assert first_sample(["runs/mine"]) == "cat"


def test_without_such_a_model_the_first_two_are_shown(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "ASSETS", bundle)
    assert first_models() == ["first", "second"]
    assert first_samples() == ["rose", "tulip"]


@pytest.mark.usefixtures("four")
def test_a_link_names_samples_of_any_group() -> None:
    app = opened(sample=["rocket", "cat"], sample2="dandelion", model="second")
    assert all(f"{name}.jpg" in texts(app) for name in ("rocket", "cat", "dandelion"))
    assert "tulip.jpg" not in texts(app)
    assert not app.warning
    assert "sample2=nothing" in opened(sample2=["nothing"]).warning[0].value.replace("\\", "")
