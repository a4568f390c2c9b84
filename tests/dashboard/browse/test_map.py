"""The Map tab of the Browse page, and the nearest images, without a browser."""

from __future__ import annotations

import base64
import time
from typing import Any
from urllib.parse import parse_qs, unquote

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import swin_core
from dashboard.browse import map_colours, map_view
from dashboard.browse.map_colours import class_colouring, confidence_colouring, right_colouring
from dashboard.browse.map_selection import TITLE
from dashboard.browse.selection_link import decoded_rows, encoded_rows
from dashboard.browse.tiles import BrowsedData
from dashboard.shared import datasets, feature_jobs, nearest_images
from dashboard.shared.feature_jobs import MAP, FeatureRequest
from dashboard.shared.image_selection import ImageSelection
from swin_core.data.catalog import Catalog
from swin_core.data.cifar100 import cifar100
from swin_core.evaluation import tsne
from swin_core.evaluation.embedding import cached_embedding
from swin_core.evaluation.features import cached_features, image_features
from swin_core.evaluation.predictions import predict
from swin_core.evaluation.selection import CatalogPredictions
from swin_core.runs.read_only import VARIABLE
from tests.fixtures.browse import at_first, bundle, data, fresh, opened, settled, sheet
from tests.fixtures.pages import component, empty_caches, run

__all__ = ["bundle", "data", "fresh"]

pytestmark = pytest.mark.usefixtures("one_thread")

REQUEST = FeatureRequest("first", "cifar100", ("test",), want=MAP)


@pytest.fixture(autouse=True)
def quick(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is computed yet; t-SNE runs in this program, which takes no second to start."""
    empty_caches(monkeypatch, feature_jobs, nearest_images, map_view, datasets)
    monkeypatch.setattr(feature_jobs.computations, "jobs", {})
    monkeypatch.setattr(
        "swin_core.evaluation.embedding._computed", lambda features, seed, progress: tsne.arrange(features, seed)
    )
    monkeypatch.setattr(tsne, "STEPS", 260)
    monkeypatch.setattr(map_view, "LEAST_GROUP", 6)


def made() -> AppTest:
    """The page once the map is made."""
    app = opened(view="Map")
    (button,) = [each for each in app.button if each.label == "Make the map"]
    button.click()
    return ended(run(app))


def ended(app: AppTest) -> AppTest:
    end = time.monotonic() + 60
    while any(not job.ended.is_set() for job in feature_jobs.computations.jobs.values()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return settled(app)


def points(app: AppTest) -> dict[str, Any]:
    return component(app, "swinlens_map")[-1]


def decoded(text: str, kind: Any) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def select(app: AppTest, rows: list[int]) -> AppTest:
    """The page after a lasso around images of the test split."""
    names = frozenset(f"cifar100/test/{row}" for row in rows)
    app.session_state["image_selection"] = ImageSelection(TITLE, names)
    return run(app)


def all_text(app: AppTest) -> str:
    return " ".join(element.value for kind in (app.markdown, app.caption, app.info, app.error) for element in kind)


def test_the_map_is_made_by_a_click_and_kept() -> None:
    app = made()
    shown = points(app)
    part = cifar100(split="test")
    expected = cached_embedding(cached_features(swin_core.load("first"), part))
    np.testing.assert_array_equal(decoded(shown["places"], "<f4").reshape(-1, 2), expected)
    kinds = decoded(shown["colours"], np.uint8)
    assert [entry["count"] for entry in shown["legend"]] == [
        np.count_nonzero(kinds == k) for k in range(len(shown["legend"]))
    ]
    assert sum(entry["count"] for entry in shown["legend"]) == 30
    names = [entry["name"] for entry in shown["legend"]]
    assert [part.classes[label].replace("_", " ") for label in part.labels] == [names[kind] for kind in kinds]
    # On the next visit it is there.
    assert points(opened(view="Map"))["places"] == shown["places"]


def test_what_the_filters_leave_out_is_faded() -> None:
    made()
    app = opened(view="Map", **{"class": "bear"})
    kinds = decoded(points(app)["colours"], np.uint8)
    labels = cifar100(split="test").labels
    assert ((kinds == 255) == (labels != cifar100(split="test").classes.index("bear"))).all()
    assert "20 that the filters leave out are faded" in all_text(app)


def test_a_selection_goes_to_the_sheet_and_to_compare() -> None:
    app = select(made(), [3, 5, 8])
    assert "**3 images selected**" in all_text(app)
    assert decoded(points(app)["marked"], "<i4").tolist() == [3, 5, 8]
    app.button(key="map_heat").click()
    app = settled(run(app))
    assert {tile["name"] for tile in sheet(app)} == {f"cifar100/test/{row}" for row in (3, 5, 8)}
    assert app.session_state.maps
    assert "Only the 3 images of your selection on the map" in all_text(app)
    (button,) = [each for each in app.button if each.label == "Show all images"]
    button.click()
    assert len(sheet(run(app))) == 30


def linked(app: AppTest) -> dict[str, list[str]]:
    """The query parameters of the page's link, without those of bound widgets, which the browser writes."""
    return parse_qs(app.code[0].value.partition("?")[2])


def test_a_link_holds_the_selection_and_the_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_colours, "MOST_COLOURED", 2)
    query = linked(select(made(), [3, 5, 8]))
    app = opened(**query | {"view": ["Map"], "map_colour": ["Prediction"], "map_classes": ["bear"]})
    assert "**3 images selected**" in all_text(app)
    assert decoded(points(app)["marked"], "<i4").tolist() == [3, 5, 8]
    assert [entry["name"] for entry in points(app)["legend"]] == ["bear", map_colours.OTHER]
    app = opened(**query | {"view": ["Images"]})
    assert {tile["name"] for tile in sheet(app)} == {f"cifar100/test/{row}" for row in (3, 5, 8)}
    assert linked(app)["selected"] == query["selected"]
    (button,) = [each for each in app.button if each.label == "Show all images"]
    button.click()
    assert "selected" not in linked(run(app))
    app = opened(view="Map", map_classes=["bear", "whale"])
    assert "map_classes=whale (possible: apple, baby, bear)" in app.warning[0].value.replace("\\", "")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"selected": ["AAAA"]}, "it is of other images"),
        ({"selected": ["no text of a link!"]}, "it is damaged"),
        ({"selected": ["\N{SNOWMAN}"]}, "it is damaged"),
        ({"data": ["photos"]}, "it is of other images"),
    ],
)
def test_a_selection_of_other_images_is_told(change: dict[str, list[str]], why: str) -> None:
    app = at_first()
    names = frozenset(f"cifar100/test/{row}" for row in (3, 5))
    app.session_state["image_selection"] = ImageSelection(TITLE, names)
    query = linked(settled(app))
    app = opened(**query | change)
    assert f"selected ({why})" in app.warning[0].value.replace("\\", "")
    assert len(sheet(app)) > 2
    assert "selected" not in linked(app)


def test_rows_in_a_link_are_short_and_come_back() -> None:
    count = 10_000
    part = cifar100(split="test")
    many = part.subset(np.zeros(count, np.int64), "test")
    data = BrowsedData(datasets.data_sets()[0], ("test",), Catalog([many]))
    draw = np.random.default_rng(0)
    for rows in (np.array([7]), np.arange(count), np.flatnonzero(draw.random(count) < 0.5)):
        text = encoded_rows(data, rows)
        assert len(text) < 2000
        np.testing.assert_array_equal(decoded_rows(data, text), rows)
    with pytest.raises(ValueError, match="damaged"):
        decoded_rows(data, encoded_rows(data, rows)[:-40])


def test_another_data_set_has_no_selection() -> None:
    app = select(made(), [3, 5, 8])
    app.session_state.data = "photos"
    app.session_state.view = "Images"
    assert "your selection on the map" not in all_text(settled(run(app)))


def test_the_table_of_groups_selects_without_a_pointer() -> None:
    app = made()
    (table,) = [frame.value for frame in app.dataframe if "where" in frame.value]
    assert table["images"].sum() == 30
    assert table["accuracy"].is_monotonic_increasing
    assert len(table) == 5


def test_the_large_view_has_the_nearest_images() -> None:
    made()
    app = opened(view="Map", image="cifar100/test/4")
    text = all_text(app)
    assert "**Nearest images of the same data**" in text
    features = cached_features(swin_core.load("first"), cifar100(split="test"))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distances = 1 - unit @ unit[4]
    order = [row for row in np.argsort(distances) if row != 4][: nearest_images.COUNT]
    links = [link.proto.query_string for link in app.get("page_link")]
    names = [f"cifar100/test/{row}" for row in order]
    assert any(unquote(link).count("cifar100/test/") == 8 and all(n in unquote(link) for n in names) for link in links)


def test_without_features_the_large_view_offers_to_compute_them() -> None:
    app = opened(image="cifar100/test/4")
    assert [each for each in app.button if each.label == "Compute the features"]


def test_the_large_view_has_the_nearest_training_images_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_images, "recorded_trainings", lambda model: iter([{"data": "cifar100"}]))
    app = opened(image="cifar100/test/4")
    text = all_text(app)
    assert "**Nearest training images**" in text
    assert "**Nearest images of the same data**" not in text  # their features are not there
    (button,) = [each for each in app.button if each.label == "Compute the features"]
    button.click()
    app = ended(run(app))
    links = unquote(str([link.proto.query_string for link in app.get("page_link")]))
    assert links.count("cifar100/train/") == nearest_images.COUNT
    made()
    text = all_text(opened(image="cifar100/test/4"))
    assert text.index("**Nearest training images**") < text.index("**Nearest images of the same data**")


def test_a_stopped_job_and_a_failed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise swin_core.SwinError("the disk is too slow; use another one.")

    monkeypatch.setattr(feature_jobs, "cached_features", fail)
    assert "the disk is too slow; use another one" in all_text(made()).replace("\\", "")
    monkeypatch.setattr(feature_jobs.computations, "jobs", {})

    def stop(*_: object, progress: Any, **__: object) -> None:
        feature_jobs.job_of(REQUEST).stopped.set()  # type: ignore[union-attr]
        progress(1, 30)
        raise AssertionError("it was not stopped")

    monkeypatch.setattr(feature_jobs, "cached_features", stop)
    app = made()
    assert feature_jobs.computations.jobs == {}
    assert not app.error
    assert [each for each in app.button if each.label == "Make the map"]


def test_a_read_only_dashboard_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    app = opened(view="Map")
    assert "This dashboard is read-only" in all_text(app)
    assert not [each for each in app.button if each.label == "Make the map"]


def test_colours_are_those_of_a_slow_count() -> None:
    part = cifar100(split="test")
    result = CatalogPredictions.of(Catalog([part]), [predict(swin_core.load("first"), part)])
    rows = np.arange(30)
    found = right_colouring(result, rows)
    for row in rows:
        assert (found.names[found.kinds[row]] == "right") == bool(result.predictions.right[row])
    found = confidence_colouring(result, rows)
    for row in rows:
        low, high = (float(part) / 100 for part in found.names[found.kinds[row]].removesuffix(" %").split(" to "))
        assert low <= result.predictions.confidence[row] <= high
    found = class_colouring(part.classes, part.labels, [2, 0])
    assert found.names == (part.classes[2], part.classes[0], map_colours.OTHER)
    for row in rows:
        wanted = part.classes[part.labels[row]] if part.labels[row] in (0, 2) else map_colours.OTHER
        assert found.names[found.kinds[row]] == wanted


def test_neighbours_of_an_image_leave_it_out() -> None:
    request = FeatureRequest("first", "cifar100", ("test",))
    feature_jobs.start(request)
    while feature_jobs.job_of(request):
        time.sleep(0.02)
    features = feature_jobs.ready_features(request)
    assert features is not None
    image = datasets.data_image("cifar100/test/4")
    np.testing.assert_allclose(features[4], image_features(swin_core.load("first"), [image.pil])[0], atol=1e-5)
    found = nearest_images.neighbours(image, request, features)
    assert len(found) == nearest_images.COUNT
    assert "cifar100/test/4" not in [each.name for each in found]
    assert [each.distance for each in found] == sorted(each.distance for each in found)
    for each in found:
        row = int(each.name.rpartition("/")[2])
        assert each.label == cifar100(split="test").classes[cifar100(split="test").labels[row]].replace("_", " ")
        assert each.trained is None
