"""Browse on folders that the person who starts the page offers: matching classes, images without labels, mean maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

import swin_core
from swin_core.attribution.overlay import scale_top
from swin_core.comparisons.class_mean import mean_map
from swin_core.data.folders import open_folder
from swin_core.evaluation.predictions import predict
from tests.fixtures.browse import bundle, data, fresh, opened, settled, sheet
from tests.fixtures.images import FINE
from tests.fixtures.pages import component

__all__ = ["bundle", "data", "fresh"]

pytestmark = pytest.mark.usefixtures("one_thread")


def words(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error)
    return " ".join(element.value for kind in kinds for element in kind).replace("\\", "")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Class folders of which the models know one by name, one by hand and one not; and images without labels."""
    draw = np.random.default_rng(0)
    for name, count in (("Äpfel", 12), ("bear", 3), ("stone", 2)):
        (tmp_path / "mine" / "labelled" / name).mkdir(parents=True)
        for index in range(count):
            pixels = draw.integers(0, 256, (32, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "mine" / "labelled" / name / f"{index:02}.png")
    (tmp_path / "mine2" / "flat").mkdir(parents=True)
    for index in range(6):
        pixels = draw.integers(0, 256, (32, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "mine2" / "flat" / f"{index}.jpg")
    monkeypatch.setenv("SWINLENS_DATA", f"{tmp_path / 'mine' / 'labelled'}:{tmp_path / 'mine2' / 'flat'}")
    return tmp_path


def test_classes_are_matched_by_name_and_by_hand(folder: Path) -> None:
    app = opened(data="labelled", model=["first"])
    dataset = open_folder(folder / "mine" / "labelled")
    assert "first knows 1 of 3 classes by name: match the others by hand" in [
        one.label.replace("\\", "") for one in app.expander
    ]
    found = predict(swin_core.load("first"), dataset)
    assert f"top-1 **{100 * found.metrics().top1:.2f} %**" in words(app)
    assert "on 3 images" in words(app)
    app.session_state["classes_by_hand"] = {("first", "labelled"): {"Äpfel": "apple"}}
    del app.session_state["classes of first for labelled"]
    settled(app)
    truth = np.array(
        [{"Äpfel": FINE.index("apple"), "bear": FINE.index("bear")}.get(dataset.classes[i], -1) for i in dataset.labels]
    )
    counted = truth >= 0
    recalls = [np.mean(found.predicted[truth == label] == label) for label in np.unique(truth[counted])]
    assert f"top-1 **{100 * np.mean(found.predicted[counted] == truth[counted]):.2f} %**" in words(app)
    assert f"balanced accuracy **{100 * np.mean(recalls):.2f} %**" in words(app)
    assert "on 15 images" in words(app)
    tiles = {tile["details"].split(":")[0]: tile for tile in sheet(app) if tile["label"] == "Äpfel"}
    assert len(tiles) == 12
    assert {tile["verdicts"][0][0] for tile in tiles.values()} <= {"right", "wrong"}


def test_confidence_with_classes_matched_by_hand_offers_nothing_that_would_fail(folder: Path) -> None:
    app = opened(data="labelled", model=["first"], view="Confidence")
    assert "Measure it" in [button.label for button in app.button]
    app.session_state["classes_by_hand"] = {("first", "labelled"): {"Äpfel": "apple"}}
    del app.session_state["classes of first for labelled"]
    settled(app)
    assert not {"Measure it", "Compute the logits"} & {button.label for button in app.button}
    assert "Classes were matched by hand" in words(app)


def test_images_without_labels_have_predictions_and_no_accuracy(folder: Path) -> None:
    app = opened(data="flat", model=["first"])
    tiles = sheet(app)
    assert len(tiles) == 6
    assert {(tile["label"], tile["verdicts"][0][0]) for tile in tiles} == {("", "")}
    assert "predicts images without labels" in words(app)
    assert "class" not in {box.key for box in app.selectbox}
    found = predict(swin_core.load("first"), open_folder(folder / "mine2" / "flat"))
    label = FINE[found.predicted[0]]
    app.selectbox(key="predicted").set_value(label)
    settled(app)
    assert len(sheet(app)) == (found.predicted == found.predicted[0]).sum()
    for view in ("Confusion", "Classes"):
        app = opened(data="flat", model=["first"], view=view)
        assert "needs the predictions of a model that knows these classes" in words(app)


def test_the_mean_map_takes_the_selection(folder: Path) -> None:
    app = opened(data="labelled", model=["first"], view="Mean map", **{"class": "bear"})
    dataset = open_folder(folder / "mine" / "labelled")
    rows = np.flatnonzero(dataset.labels == dataset.classes.index("bear"))
    found = mean_map(swin_core.load("first"), dataset.image, rows, FINE.index("bear"))
    (shown,) = component(app, "_viewer")
    mean, spread = (row["cells"][0] for row in shown["payload"]["rows"])
    for cell, values in ((mean, found.mean), (spread, found.spread)):
        assert cell["map"]["top"] == pytest.approx(scale_top(values), rel=1e-5)
        assert cell["headline"] == f"0 to {values.max():.2g} times the average of a map"
    assert "the maps of 3 of the 3 images that the filters select" in words(app)
    assert mean["notes"] == [
        f"Hottest: {found.hot_spot}.",
        "3 images explained for bear.",
        mean["notes"][2],
        "Nothing is recorded about the images that it was trained on.",
    ]
    assert "the edges" in mean["notes"][2]
