"""The Compare page without a browser: methods, stages, contrast, trust, timelines and mean maps."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from PIL import Image
from streamlit.testing.v1 import AppTest

import swin_core
from dashboard.compare import measurements
from dashboard.compare.controls import BEST_TITLE
from dashboard.compare.measurements import measure_trust, with_trust
from dashboard.compare.timeline_section import WITHOUT_CONTRAST
from dashboard.shared import cache
from dashboard.shared import model_names as choices
from dashboard.shared.cache import STAGES
from dashboard.shared.comparison import Comparison, ImageAndClass
from swin_core.attribution.defaults import default_method
from swin_core.attribution.layers import stage_layers
from swin_core.attribution.methods import METHODS, NOT_OFFERED
from swin_core.attribution.targets import RUNNER_UP
from swin_core.comparisons.class_mean import BORDER_AREA, class_mean
from swin_core.comparisons.timeline import checkpoints_of, timeline
from swin_core.data.dataset import DataSet
from swin_core.errors import DataError, SwinError
from swin_core.figures.files import encode
from swin_core.figures.grid import Grid
from swin_core.trust.assess import Trust, assess
from tests.fixtures.pages import (
    FLOWERS,
    ROOT,
    act,
    badges,
    bundle,
    cells,
    checked,
    component,
    fresh,
    opened,
    picture,
    run,
    save_model,
    shown,
    texts,
)

__all__ = ["bundle", "fresh"]

pytestmark = pytest.mark.usefixtures("one_thread", "fresh")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models for which trust was measured, in order; with few steps, to be quick."""
    made: list[str] = []

    def counted(classifier: swin_core.Classifier, *args: Any, **options: Any) -> list[Trust]:
        made.append(classifier.name)
        return assess(classifier, *args, **options | {"steps": 2})

    monkeypatch.setattr(measurements, "assess", counted)
    return made


def words(app: AppTest) -> str:
    """All captions and texts of the page, without Markdown's escapes."""
    return " ".join(element.value for element in [*app.caption, *app.markdown, *app.info]).replace("\\", "")


# -- trust


def test_every_map_has_a_badge_that_says_what_was_measured(measured: list[str]) -> None:
    app = checked(opened(trust="true", sample="tulip"))
    assert measured == ["first", "second"]
    image = swin_core.read_image(choices.sample_images()["tulip"])
    for name, text in zip(("first", "second"), badges(app), strict=True):
        model = swin_core.load(name)
        found = swin_core.explain(model, image)
        (own,) = assess(model, found.view, found.maps[0], found.targets, steps=2)
        assert text == f"Map check: {own.check}"
        assert ("beats both baselines" in text) == own.better
        assert f"{own.srg:.2f}" in text


def test_trust_is_measured_once_and_moves_nothing(measured: list[str]) -> None:
    app = checked(opened(trust="true", sample="tulip"))
    before = shown(app)["rows"]
    assert len(measured) == 2
    app.query_params["opacity"] = "30"
    assert len(badges(run(app))) == 2
    assert len(measured) == 2
    # The maps are sent without the badges: what comes late draws nothing anew.
    assert shown(app)["rows"] == before
    assert all(cell["badge"] is None for cell in cells(app))


def test_without_the_switch_nothing_is_measured(measured: list[str]) -> None:
    app = opened()
    assert not measured
    assert not badges(app)


def test_a_click_on_a_badge_shows_curves_and_a_sentence(measured: list[str]) -> None:
    app = checked(opened(trust="true", sample="tulip", model="first"))
    charts = len(app.get("plotly_chart"))
    act(app, "cell", {"row": 0, "column": 0})
    assert len(app.get("plotly_chart")) == charts + 3
    line = ImageAndClass(cache._images.get((choices.sample_images()["tulip"], "tulip.jpg"), lambda: picture()))
    cell = Comparison((line,), ("first",)).rows()[0].cells[0]
    found = measure_trust(line, "first", cell, lambda done, count: None)
    assert isinstance(found, Trust)
    assert found.sentence in words(app)
    assert len(measured) == 1
    assert "this map" in app.table[0].value.to_string()
    # The sentence and the table name the same numbers.
    for number in (f"{found.srg:+.2f}", f"{found.chance:.2f}", f"{found.centred.srg:+.2f}"):
        assert number in found.sentence
        assert number in app.table[0].value.to_string()
    assert len(run(app).get("plotly_chart")) == charts  # a dialog opens once


def test_a_map_that_cannot_be_measured_says_so_and_the_page_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(classifier: swin_core.Classifier, *args: Any, **options: Any) -> list[Trust]:
        raise SwinError("it cannot be") if classifier.name == "first" else RuntimeError("something deep inside")

    monkeypatch.setattr(measurements, "assess", fails)
    app = checked(opened(trust="true", sample="tulip"))
    assert badges(app) == ["Map check: none"] * 2
    assert "magnitude" in texts(app)


def test_files_hold_the_trust_that_is_known(measured: list[str]) -> None:
    line = ImageAndClass(picture())
    comparison = Comparison((line,), ("first", "second"), "gradcam")
    drawn = Grid(tuple(comparison.rows()), comparison.columns)
    assert with_trust(comparison, drawn).rows[0].cells[0].trust is None
    found = measure_trust(line, "first", drawn.rows[0].cells[0], lambda done, count: None)
    known = with_trust(comparison, drawn)
    assert known.rows[0].cells[0].trust is found
    assert known.rows[0].cells[1].trust is None
    assert b'"better"' in encode(known, "json")


# -- methods, layers and contrast


@pytest.mark.parametrize(
    "method", ["hirescam", "eigencam", "scorecam", "gradient", "integrated", "rollout", "relevance"]
)
def test_every_kind_of_method_is_offered_and_shown_with_its_summary(method: str) -> None:
    facts = METHODS[method]
    app = opened(method=METHODS[method].title, model="first", sample="tulip")
    assert app.selectbox(key="method").value == method
    assert app.selectbox(key="method").options == [BEST_TITLE, *(method.title for method in METHODS.values())]
    assert all(reason in app.selectbox(key="method").help for reason in NOT_OFFERED.values())
    assert facts.summary in words(app)
    assert "failed" not in texts(app)
    assert "magnitude" in texts(app) or "empty map" in texts(app)
    keys = [box.key for box in app.selectbox]
    assert ("no_other" in keys) == (not facts.by_class)
    assert ("no_layer" in keys) == (facts.kind == "pixels" and method != "relevance")


def test_each_model_starts_with_its_own_best_method_and_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    load = swin_core.load

    def fixed(name: str) -> swin_core.Classifier:
        if not name.startswith("timm/"):
            return load(name)
        model = timm.create_model("resnet18", num_classes=2).eval()
        return swin_core.Classifier(model, ("a", "b"), (0.5,) * 3, (0.5,) * 3, 64, name=name)

    monkeypatch.setattr(swin_core, "load", fixed)
    app = opened(model=["first", "timm/resnet18"], sample="tulip")
    for name, title in (("first", "Relevance of patches"), ("timm/resnet18", "Grad-CAM")):
        assert METHODS[default_method(fixed(name))].title == title
        assert title in texts(app)
    app.selectbox(key="layer").set_value(STAGES)
    assert "HiResCAM" in texts(run(app))
    assert "at layers.2" in texts(app)


def test_all_stages_stand_side_by_side() -> None:
    app = opened(layer="All stages, side by side", sample=["tulip", "rose"], model=["first", "second"])
    layers = stage_layers(swin_core.load("first"))
    for column, layer in enumerate(layers):
        assert f"Stage {column + 1}" in texts(app)
        assert texts(app).count(f" at {layer}") == 4  # in each row, beside the magnitude
    assert [len(row["cells"]) for row in shown(app)["rows"]] == [len(layers)] * 4
    rows = [f"{name} · {file}" for file in ("tulip.jpg", "rose.jpg") for name in ("first", "second")]
    assert all(row in texts(app) for row in rows)
    # Each row is of one model, whose first choices stand below.
    assert len(app.progress) == 5


def test_each_cell_of_a_strip_knows_its_line_and_model() -> None:
    lines = (ImageAndClass(picture()), ImageAndClass(picture("rose", "another")))
    comparison = Comparison(lines, ("first", "second"), "gradcam", STAGES)
    for number, row in enumerate(comparison.rows()):
        line, model = comparison.line_and_model(number, 1)
        assert row.title == f"{model} · {line.image.title}"
        found = row.cells[1].explanation
        assert found is not None
        assert found.labels == cache.classifier(model).labels
        assert (
            with_trust(comparison, Grid(tuple(comparison.rows()), comparison.columns)).rows[number].cells == row.cells
        )


def test_relevance_at_one_stage_can_be_chosen() -> None:
    app = opened(method=METHODS["relevance"].title, layer="layers.0", model="first", sample="tulip")
    stages = stage_layers(swin_core.load("first"))
    assert app.selectbox(key="layer").options == ["The pixels", "All stages, side by side", *stages]
    model, image = swin_core.load("first"), swin_core.read_image(choices.sample_images()["tulip"])
    expected = swin_core.explain(model, image, method="relevance", layers="layers.0")
    assert f"magnitude {expected.maps.max():.3g}" in texts(app)
    assert f"magnitude {expected.maps.max():.3g}" not in texts(opened(method=METHODS["relevance"].title, model="first"))


def test_relevance_says_what_each_stage_hands_on() -> None:
    comparison = Comparison((ImageAndClass(picture()),), ("first",), "relevance", STAGES)
    row = comparison.rows()[0]
    assert comparison.columns == ("Pixels", "Stage 1", "Stage 2", "Stage 3")
    for cell in row.cells:
        found = cell.explanation
        assert found is not None, cell.error
        total, score = map(float, re.findall(r"-?[\d.]+(?:e-?\d+)?", cell.note))
        assert total == pytest.approx(float(found.maps[0, cell.layer].sum(dtype=float)), rel=0.01)
        assert score == pytest.approx(float(found.logits[found.targets[0]]), rel=0.01)


@pytest.mark.parametrize(
    ("name", "fuse"), [("All stages, fused by mean", "mean"), ("All stages, fused by maximum", "max")]
)
def test_stages_can_be_fused(name: str, fuse: str) -> None:
    app = opened(layer=name, sample="tulip", model="first")
    model, image = swin_core.load("first"), swin_core.read_image(choices.sample_images()["tulip"])
    expected = swin_core.explain(model, image, layers=stage_layers(model), fuse=fuse)
    assert f"magnitude {expected.maps.max():.3g}" in texts(app)


def test_a_class_is_explained_rather_than_its_rival() -> None:
    app = opened(against="Runner-up", sample="tulip", model="first")
    model, image = swin_core.load("first"), swin_core.read_image(choices.sample_images()["tulip"])
    expected = swin_core.explain(model, image, against=RUNNER_UP)
    assert expected.against is not None
    assert f"contrast with {model.labels[expected.against[0]]}" in texts(app)
    assert f"magnitude {expected.maps.max():.3g}" in texts(app) or "empty map" in texts(app)


def test_a_class_to_compare_with_that_a_model_lacks_is_said_in_its_cell() -> None:
    app = opened(against="mountain", sample="tulip")
    assert "this model has no class mountain." in texts(app)
    assert "contrast with mountain" in texts(app)


def test_models_of_timm_are_columns_like_any_other(monkeypatch: pytest.MonkeyPatch, measured: list[str]) -> None:
    """Random weights: there may be no network here, and what is tried is layers, layouts and preprocessing."""
    four = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)}
    made = {
        "timm/resnet": lambda: timm.create_model("test_resnet", num_classes=7),
        "timm/convnext": lambda: timm.create_model("test_convnext", num_classes=7),
        "timm/vit": lambda: timm.create_model("test_vit", img_size=64, num_classes=7),
        "timm/swinv2": lambda: timm.create_model("swinv2_tiny_window8_256", img_size=64, num_classes=7, **four),
    }

    def load(name: str) -> swin_core.Classifier:
        labels = [f"class {index}" for index in range(7)]
        return swin_core.Classifier(made[name]().eval(), labels, (0.5,) * 3, (0.5,) * 3, 64, name=name)

    monkeypatch.setattr(swin_core, "load", load)
    app = checked(opened(model=list(made), sample="tulip", trust="true"))
    assert len(badges(app)) == 4
    assert len(re.findall(r"magnitude \d|empty map", texts(app))) == 4
    assert len(measured) >= 3
    app.selectbox(key="layer").set_value(STAGES)
    assert "failed" not in texts(run(app))
    assert [len(row["cells"]) for row in shown(app)["rows"]] == [4] * 4


# -- a run's timeline


@pytest.fixture
def a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a run that kept three epochs, in a project's folder of its own."""
    folder = tmp_path / "runs" / "20260101-120000-mine"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text('{"name": "mine"}')
    for epoch in (1, 2, 3):
        save_model(folder / "checkpoints", f"epoch-{epoch:04}", FLOWERS, epoch)
    save_model(folder, "model", FLOWERS, 3)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.setattr(choices, "ROOT", tmp_path)
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(tmp_path / "runs"))
    monkeypatch.setattr(choices, "sample_images", partial(_samples, choices.sample_images()))
    return folder.name


def _samples(known: dict[str, Path]) -> dict[str, Path]:
    return known


def opened_with(section: str, **query: str | list[str]) -> AppTest:
    """The page with one of its sections open."""
    app = opened(**query)
    app.session_state[section] = True
    return run(app)


def test_a_timeline_is_there_for_runs_only_and_computed_when_it_is_opened(
    a_run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Heat maps over the epochs" not in [section.label for section in opened(model="first").expander]
    made: list[int] = []

    def counted(*args: Any, **options: Any) -> object:
        made.append(1)
        return timeline(*args, **options)

    monkeypatch.setattr(measurements, "timeline", counted)
    app = opened(model=["first", a_run], sample="tulip")
    assert any("Heat maps over" in section.label for section in app.expander)
    assert not made
    app.session_state["gaze"] = True
    run(app)
    assert made == [1]
    assert WITHOUT_CONTRAST not in words(app)
    folder = choices.ROOT / "runs" / a_run
    expected = timeline(checkpoints_of(folder), swin_core.read_image(choices.sample_images()["tulip"]))
    strip = next(element.value for element in app.html if 'class="timeline"' in element.value)
    assert strip.count("<img") == 3
    for epoch, sure in zip(expected.epochs, expected.probabilities, strict=True):
        assert f"Heat map after epoch {epoch}, {100 * sure:.0f}" in strip
    app.select_slider(key="gaze_epoch").set_value("epoch 1")
    run(app)
    strip = next(element.value for element in app.html if 'class="timeline"' in element.value)
    assert re.search(r'<figure class="here">(?:(?!</figure>).)*<figcaption>1<br>', strip, re.DOTALL)
    app.selectbox(key="against").set_value(RUNNER_UP)
    assert WITHOUT_CONTRAST in words(run(app))  # the strip stays what it was, and says so
    assert made == [1]


def test_a_run_that_kept_too_little_says_what_to_do(a_run: str) -> None:
    for file in (choices.ROOT / "runs" / a_run / "checkpoints").iterdir():
        file.unlink()
    assert "keep_every" in words(opened_with("gaze", model=a_run, sample="tulip"))


# -- the mean map of a class


@pytest.fixture
def flowers(monkeypatch: pytest.MonkeyPatch) -> DataSet:
    draw = np.random.default_rng(0)
    labels = np.arange(20) % 5
    pictures = [draw.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in labels]
    names = tuple(map(str, range(20)))
    made = DataSet("made_up", "val", FLOWERS, labels, names, pictures, lambda source, size: Image.fromarray(source))
    monkeypatch.setattr("dashboard.compare.class_mean_section.mean_splits", lambda: {"made up": ("made_up", "val")})
    monkeypatch.setattr("dashboard.compare.class_mean_section.open_split", lambda *name: made)
    return made


def test_mean_maps_stand_beside_each_other(flowers: DataSet) -> None:
    app = opened_with("means", model=["first", "second"], sample="tulip")
    app.selectbox(key="means_class").set_value("tulips")
    run(app)
    for name in ("first", "second"):
        found = class_mean(swin_core.load(name), flowers, "tulips", 32)
        (means,) = [data["payload"] for data in component(app, "_viewer") if data["name"] == "mean_maps"]
        place = [column["title"] for column in means["columns"]].index(name)
        text = " ".join(means["rows"][0]["cells"][place]["notes"]).replace("\N{NO-BREAK SPACE}", " ")
        edges = "It favours the edges: " if found.border > 1.2 * BORDER_AREA else "It does not favour the edges."
        assert f"4 images explained for {found.label}. {edges}" in text
        assert f"Hottest: {found.hot_spot}." in text
        assert "Nothing is recorded about the images that it was trained on." in text
    app.selectbox(key="means_class").set_value("sunflowers")
    run(app)
    (means,) = [data["payload"] for data in component(app, "_viewer") if data["name"] == "mean_maps"]
    known, unknown = means["rows"][0]["cells"]
    assert (known["error"], unknown["error"]) == ("", "This model does not have this class.")


def test_images_that_are_missing_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*name: str) -> DataSet:
        raise DataError("it is not here; run swinlens data")

    monkeypatch.setattr("dashboard.compare.class_mean_section.mean_splits", lambda: {"made up": ("made_up", "val")})
    monkeypatch.setattr("dashboard.compare.class_mean_section.open_split", missing)
    assert "swinlens data" in words(opened_with("means", model="first"))
