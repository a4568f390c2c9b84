"""Tests of the Browse page without a browser, with small models and images."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

import swin_core
from dashboard.browse import confusion_view, filters
from dashboard.browse import tiles as browse_tiles
from dashboard.shared.datasets import data_sets
from dashboard.shared.model_names import MAX_IMAGES
from swin_core.data.catalog import Catalog
from swin_core.data.cifar100 import cifar100
from swin_core.data.folders import open_folder
from swin_core.evaluation.accuracy import evaluate_classifier
from swin_core.evaluation.predictions import predict
from swin_core.evaluation.selection import CONFIDENT, CatalogPredictions, ImageQuery, select
from tests.fixtures.browse import EVIL, at_first, bundle, data, fresh, gallery, opened, settled, sheet
from tests.fixtures.images import FINE
from tests.fixtures.pages import ROOT, choose, component, run

__all__ = ["bundle", "data", "fresh"]

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("first", "second")


def words(app: AppTest) -> str:
    return " ".join(element.value for kind in (app.markdown, app.caption, app.info, app.warning) for element in kind)


def expected(wanted: ImageQuery, model: str = "first", split: str = "test") -> list[str]:
    """The names of the images that a query selects, from an independent evaluation."""
    part = cifar100(split=split)
    catalog = Catalog([part])
    found = CatalogPredictions.of(catalog, [predict(swin_core.load(model), part)])
    return [f"cifar100/{split}/{row}" for row in select(catalog, wanted, found)]


# -- the first view


def test_first_view_is_the_sheet_with_labels_and_predictions() -> None:
    app = opened()
    tiles = sheet(app)
    assert [tile["label"] for tile in tiles][:6] == [*FINE, *FINE]
    assert len(tiles) == 30
    assert all(tile["source"].startswith("data:image/webp;base64,") for tile in tiles)
    assert all(tile["alt"].startswith("Image ") for tile in tiles)
    metrics = evaluate_classifier(swin_core.load("first"), cifar100(split="test")).metrics
    assert f"top-1 **{100 * metrics.top1:.2f} %**" in words(app)
    right = [tile["verdicts"][0][0] for tile in tiles].count("right")
    assert right == round(30 * metrics.top1)
    for tile in tiles:
        ((state, verdict),) = tile["verdicts"]
        assert verdict.startswith({"right": "✓ right ", "wrong": "✗ wrong: "}[state])


def test_without_data_the_page_names_the_download_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIN_DATA_ROOT", str(tmp_path / "nothing"))
    app = opened()
    assert app.code[0].value == "swinlens data"
    assert "There is no data set" in words(app)
    assert not app.error


def test_an_invalid_model_is_one_line_and_the_images_stay() -> None:
    app = opened(model="no_such_model", judge="no_such_model")
    assert len(sheet(app)) == 30
    assert "no\\_such\\_model" in app.error[0].value
    assert "\n" not in app.error[0].value
    app = opened(model=[])
    choose(app, "model", [])
    assert sheet(settled(app))[0]["verdicts"]  # of a bundled model that knows the classes


def test_a_model_of_other_classes_has_no_verdicts() -> None:
    app = opened(model="third", judge="third")
    assert "knows no class of these images" in words(app)
    assert {tile["verdicts"][0][0] for tile in sheet(app)} == {""}
    app = opened(model="third", judge="third", view="Confusion")
    assert "needs the predictions of a model that knows these classes" in words(app)


def test_a_data_set_opens_with_a_model_that_knows_its_classes() -> None:
    app = run(at_first(model=["third"]))
    choice = app.selectbox(key="judge")
    assert choice.value == "first"  # "third" knows one of the six classes
    assert choice.options == ["third", "first", "second"]
    assert run(at_first(model=["third", "second"])).selectbox(key="judge").value == "second"


# -- filter, search, order, pages


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"show": "Wrong", "sort": CONFIDENT}, ImageQuery(shown="Wrong", sort=CONFIDENT)),
        ({"show": "Right"}, ImageQuery(shown="Right")),
        ({"class": "bear", "predicted": "baby"}, ImageQuery(truth="bear", predicted="baby")),
        (
            {"class": "people (super-class)", "sort": "Greatest loss first"},
            ImageQuery(truth="people (super-class)", sort="Greatest loss first"),
        ),
        ({"search": "fruit 1", "sort": "Name"}, ImageQuery(search="fruit 1", sort="Name")),
    ],
)
def test_a_link_selects_and_orders_images(query: dict[str, str], wanted: ImageQuery) -> None:
    app = opened(**query)
    names = expected(wanted)
    assert 0 < len(names) < 31
    assert [tile["name"] for tile in sheet(app)] == names
    assert not app.warning


def test_all_splits_are_one_sheet_of_several_pages() -> None:
    app = opened(split="all splits", sort="Name")
    assert "60 images" in words(app)
    assert len(sheet(app)) == 50
    app.get("pagination")
    app.session_state.page = 2
    tiles = sheet(run(app))
    assert len(tiles) == 10
    # Another search starts at the first page again.
    app.text_input(key="search").set_value("b")
    assert len(sheet(run(app))) > 10
    assert app.session_state.page == 1


def test_no_matching_image_says_what_to_do() -> None:
    assert "No image matches" in words(opened(search="unicorn"))


WRONG = {"split": "val", "class": "unicorn", "show": "Only A right", "sort": EVIL, "view": "Sideways", "size": "7"}
WRONG |= {"judge": "nobody", "page": "99999", "maps": "x", "opacity": "101", "image": "cifar100/test/999"}
WRONG |= {"level": "Kingdoms", "classes_by": "Colour"}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        (
            WRONG,
            [
                *("split=val", "class=unicorn", "show=Only A right", "sort=<img", "view=Sideways", "size=7"),
                *("judge=nobody", "page=99999 (possible: 1 to 1)", "maps=x", "opacity=101 (possible: 0 to 100)"),
                "image=cifar100/test/999 (possible: an image that the filters select)",
                *("level=Kingdoms", "classes_by=Colour"),
            ],
        ),
        ({"data": "../../etc", "page": "-1", "image": "../secret"}, ["data=../../etc", "page=-1", "image=../secret"]),
        ({"page": "1", "maps": "false", "level": "Super-classes"}, []),
        ({"split": "train", "image": "cifar100/train/4"}, []),
    ],
)
def test_invalid_query_parameters_are_reported_and_the_page_is_shown(query: dict[str, str], named: list[str]) -> None:
    app = run(at_first(**query))
    assert len(app.warning) == bool(named)
    for words_of_one in named:
        assert words_of_one in app.warning[0].value.replace("\\", "")
    assert len(sheet(app)) == 30


def test_a_picked_image_that_does_not_exist_is_reported() -> None:
    app = run(at_first(picked=["../secret", "cifar100/test/1", "cifar100/test/999"]))
    secret, beyond = (error.value.replace("\\", "") for error in app.error)
    assert "'../secret'" in secret
    assert "cifar100/test/999" in beyond
    assert not app.warning
    assert len(sheet(app)) == 30


def test_an_invalid_count_of_classes_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusion_view, "COUNTS", (2,))
    opened()  # so that the predictions are there
    app = run(at_first(view="Confusion", classes_count="all 7"))
    named = app.warning[0].value.replace("\\", "")
    assert "classes_count=all 7 (possible: the 2 with most mistakes, all 3)" in named


def test_one_image_is_singular() -> None:
    app = opened(search=cifar100(split="test").names[3])
    assert len(sheet(app)) == 1
    assert "1 image" in [caption.value for caption in app.caption]


def test_filters_do_not_affect_the_inside_page() -> None:
    app = opened(show="Wrong")
    run(app.switch_page("views/inside.py"))
    (drawn,) = (pills for pills in app.get("button_group") if pills.key == "drawn")
    assert drawn.value == ["Windows"]
    run(app.switch_page("views/browse.py"))
    assert app.selectbox(key="show").value == "Wrong"


def test_another_data_set_resets_filters_and_class_names_are_escaped() -> None:
    app = opened(model=["first", "third"], search="a", show="Wrong")
    app.selectbox(key="data").set_value("photos")
    settled(app)
    assert (app.selectbox(key="judge").value, app.selectbox(key="show").value) == ("third", "All")
    tiles = sheet(app)
    assert {tile["label"] for tile in tiles} == {"cat", EVIL}
    assert any("<b>" in tile["alt"] for tile in tiles)
    assert not app.warning
    # Names reach the browser as text of the tiles alone, which its script sets as text.
    for element in (*app.markdown, *app.caption):
        assert "<img" not in element.value.replace("\\<img", "")
    app.session_state.view = "Confusion"
    chart = json.loads(run(app).get("plotly_chart")[0].proto.spec)
    assert "<img" not in json.dumps(chart)
    assert "&lt;img" in json.dumps(chart)


def test_the_sheet_script_sets_no_html() -> None:
    script = (ROOT / "dashboard" / "browse" / "gallery.js").read_text(encoding="utf-8")
    assert not [
        word for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(") if word in script
    ]


# -- confusion, classes, two models


def test_cells_of_the_matrix_show_their_counts() -> None:
    app = opened(view="Confusion", diagonal="true")
    chart = json.loads(app.get("plotly_chart")[0].proto.spec)
    *_, marks = chart["data"]
    names = chart["layout"]["yaxis"]["ticktext"]
    confusion = evaluate_classifier(swin_core.load("first"), cifar100(split="test")).metrics.confusion
    assert len(marks["x"]) == np.count_nonzero(confusion)
    for x, y, text in zip(marks["x"], marks["y"], marks["text"], strict=True):
        count = confusion[FINE.index(names[y]), FINE.index(names[x])]
        assert f": {count} of {confusion[FINE.index(names[y])].sum()} (" in text


def test_buttons_open_their_images() -> None:
    app = opened(versus="second")
    (button,) = (one for one in app.button if one.label.startswith("Only B right"))
    count = int(button.label.rpartition(" ")[2])
    button.click()
    tiles = sheet(settled(app))
    assert len(tiles) == count > 0
    assert {tuple(state for state, _ in tile["verdicts"]) for tile in tiles} == {("wrong", "right")}
    assert all(
        verdict.startswith(letter)
        for tile in tiles
        for letter, (_, verdict) in zip("AB", tile["verdicts"], strict=True)
    )
    (button,) = (one for one in app.button if one.label == "Most confident mistakes")
    button.click()
    assert [tile["name"] for tile in sheet(run(app))] == expected(ImageQuery(shown="Wrong", sort=CONFIDENT))


def test_accuracy_by_class_equals_the_evaluation() -> None:
    app = opened(view="Classes", versus="second")
    table = app.dataframe[0].value
    for key, model in (("a", "first"), ("b", "second")):
        found = evaluate_classifier(swin_core.load(model), cifar100(split="test"))
        for label, share in zip(found.labels, found.metrics.per_class, strict=True):
            if label in FINE:
                (row,) = np.flatnonzero(table["name"] == label)
                assert table[key].iloc[row] == pytest.approx(100 * share)


# -- the tray


def test_picked_images_are_marked_and_kept_on_compare() -> None:
    app = opened(picked=["cifar100/test/3", "cifar100/test/5"])
    assert {tile["name"] for tile in sheet(app) if tile["picked"]} == {"cifar100/test/3", "cifar100/test/5"}
    assert "2 images in the tray" in words(app)
    app.switch_page("views/compare.py")
    app.query_params["trust"] = "false"
    run(app)
    assert app.query_params["picked"] == ["cifar100/test/3", "cifar100/test/5"]


def test_a_link_opens_the_first_images_on_compare() -> None:
    app = opened(show="Wrong", sort=CONFIDENT, picked=["cifar100/test/3"])
    names = [tile["name"] for tile in sheet(app)]
    assert len(names) > MAX_IMAGES
    (link,) = [one.proto for one in app.get("page_link") if "show_pictures" in one.proto.query_string]
    assert link.label == f"Compare the first {MAX_IMAGES}"
    assert parse_qs(link.query_string) == {"show_pictures": names[:MAX_IMAGES]}


def test_a_class_shows_its_first_synonym_if_unique() -> None:
    names = ("tench, Tinca tinca", "crane, bird", "crane, machine", "red_rose", "maillot", "maillot, tank suit")
    words = ("tench", "crane, bird", "crane, machine", "red rose", "maillot", "maillot, tank suit")
    assert browse_tiles.class_words(names) == words


def test_the_tray_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, Any] = {}

    class State(dict[str, Any]):
        __getattr__ = dict.__getitem__
        __setattr__ = dict.__setitem__  # type: ignore[assignment]

    state = State()
    monkeypatch.setattr("dashboard.browse.filters.st.session_state", state)
    for number in range(MAX_IMAGES + 3):
        filters.toggle_in_tray(f"cifar100/test/{number}")
    assert len(state["url_lists"]["picked"]) == MAX_IMAGES
    assert "remove one first" in state["notices"]["tray"]
    assert state["url_lists"]["sample"] == []
    filters.toggle_in_tray("cifar100/test/0")
    assert "cifar100/test/0" not in state["url_lists"]["picked"]


# -- heat maps


def decoded(sent: dict[str, Any]) -> np.ndarray:
    codes = np.frombuffer(base64.b64decode(sent["data"]), "u1" if sent["bits"] == 8 else "<u2").astype(float)
    return sent["low"] + codes * (sent["high"] - sent["low"]) / (2 ** sent["bits"] - 1)


def clipped(model: swin_core.Classifier, image: Image.Image, target: int) -> np.ndarray:
    """A map as far as its colours reach."""
    values = swin_core.explain(model, image, [target]).maps[0, 0].ravel()
    top = float(np.percentile(np.abs(values), 99)) if len(values) >= 256 else float(np.abs(values).max())
    return np.clip(values, -top, top)


def test_heat_maps_explain_the_class_that_each_model_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened(sort="Name", versus="second", maps="true", opacity="40")
    tiles, maps = sheet(app), gallery(app)["maps"]
    assert maps["look"]["opacity"] == 0.4
    assert [column["title"] for column in maps["columns"]] == ["first", "second"]
    rows = [int(tile["name"].rpartition("/")[2]) for tile in tiles]
    for column, name in enumerate(("first", "second")):
        model, part = swin_core.load(name), cifar100(split="test")
        found = predict(model, part)
        for row, shown in zip(rows[:4], maps["rows"], strict=False):
            cell = shown["cells"][column]
            target = int(found.predicted[row])
            assert cell["headline"] == model.labels[target]
            wanted = clipped(model, part.image(row), target)
            assert decoded(cell["map"]) == pytest.approx(wanted, abs=float(np.abs(wanted).max()) / 200)
    # A look at them again explains nothing.
    monkeypatch.setattr(browse_tiles, "attribute", None)
    assert gallery(run(app))["maps"] == maps


def test_a_fine_map_is_averaged_to_the_size_of_a_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large map would take as many bytes as all images of the sheet."""
    (photos,) = (one for one in data_sets() if one.name == "photos")
    photo_data = filters.open_data(photos, photos.splits)
    values = torch.rand(1, 1, 128, 128, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(browse_tiles, "attribute", lambda *_: values)
    found = CatalogPredictions.of(photo_data.catalog, [predict(swin_core.load("third"), photo_data.catalog.parts[0])])
    (cell,) = browse_tiles.heat_maps(photo_data, [0], found, "third", lambda *_: None)
    assert cell.map is not None
    np.testing.assert_allclose(cell.map, values[0, 0].reshape(32, 4, 32, 4).mean((1, 3)).numpy(), atol=1e-6)


# -- the large view


def press(app: AppTest, label: str) -> AppTest:
    (button,) = (one for one in app.button if one.label == label)
    button.click()
    return run(app)


def large(app: AppTest) -> dict[str, Any]:
    (found,) = [data for data in component(app, "_viewer") if data["name"] == "large"]
    payload: dict[str, Any] = found["payload"]
    return payload


def test_the_large_view_goes_through_the_selection() -> None:
    wanted = ImageQuery(shown="Wrong", sort=CONFIDENT)
    names = expected(wanted)
    app = opened(show="Wrong", sort=CONFIDENT, versus="second", image=names[0])
    part, model = cifar100(split="test"), swin_core.load("first")
    for step, name in enumerate(names[:3]):
        row = int(name.rpartition("/")[2])
        assert f"**{step + 1} of {len(names)}**" in words(app)
        (shown,) = large(app)["rows"]
        assert shown["truth"] == part.classes[part.labels[row]]
        assert [column["title"] for column in large(app)["columns"]] == ["first", "second"]
        explained = next(one for one in shown["cells"][0]["classes"] if one["explained"])
        found = swin_core.explain(model, part.image(row))
        assert explained["label"] == found.label(0)
        assert explained["probability"] == pytest.approx(found.probabilities.max(), abs=1e-5)
        press(app, "Next")
    assert names[3] in app.query_params["image"]
    press(app, "Previous")
    assert names[2] in app.query_params["image"]
    press(app, "Add to Compare")
    assert names[2] in app.query_params["picked"]
    press(app, "Remove from Compare")
    assert not app.query_params.get("picked")
    press(app, "Add to Compare")
    assert {tile["name"] for tile in sheet(run(app)) if tile["picked"]} == {names[2]}


def test_disagreements_are_found_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(3)
    (tmp_path / "flat").mkdir()
    for index in range(9):
        Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "flat" / f"{index}.png")
    monkeypatch.setenv("SWINLENS_DATA", str(tmp_path / "flat"))
    app = opened(data="flat", versus="second", show="Models disagree")
    part = open_folder(tmp_path / "flat")
    answers = [
        [model.labels[index] for index in predict(model, part).predicted] for model in map(swin_core.load, NAMES)
    ]
    wanted = {part.names[row] for row, (one, other) in enumerate(zip(*answers, strict=True)) if one != other}
    assert 0 < len(wanted) < 10
    assert {tile["details"].partition(":")[0] for tile in sheet(app)} == {name.rpartition("/")[2] for name in wanted}
    assert f"Models disagree: {len(wanted)}" in [button.label for button in app.button]


def test_two_models_keep_their_names_after_another_data_set() -> None:
    app = opened(versus="second")
    app.selectbox(key="data").set_value("photos")
    settled(app)
    app.selectbox(key="data").set_value("cifar100")
    settled(app)
    app.selectbox(key="judge").set_value("second")
    settled(app)
    app.selectbox(key="versus").set_value("first")
    settled(app)
    assert (app.selectbox(key="judge").value, app.selectbox(key="versus").value) == ("second", "first")
    for letter, model in (("A", "second"), ("B", "first")):
        top1 = predict(swin_core.load(model), cifar100(split="test")).metrics().top1
        assert f"**{letter}: {model}** · top-1 **{100 * top1:.2f} %**" in words(app).replace("\\", "")
