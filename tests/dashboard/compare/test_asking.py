"""Questions about the classes under a map, what no model knows, and what a model lacks for a method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import swin_core
from dashboard.compare.class_notes import UNSURE, class_notes
from dashboard.compare.controls import LIKELIEST
from dashboard.compare.method_menu import lack, method_groups
from dashboard.shared.cache import STAGES
from dashboard.shared.comparison import Comparison, ImageAndClass
from swin_core.attribution.methods import METHODS
from swin_core.errors import LayerError
from swin_core.zoo import load as zoo
from tests.fixtures.pages import FLOWERS, act, bundle, cells, fresh, opened, picture, run, save_model, shown

__all__ = ["bundle", "fresh"]

pytestmark = pytest.mark.usefixtures("one_thread", "fresh")


def explained(app: AppTest) -> list[str]:
    return [next(one["label"] for one in cell["classes"] if one["explained"]) for cell in cells(app)]


def test_a_click_on_a_class_explains_it_and_leaves_the_other_rows() -> None:
    app = opened(sample=["tulip", "rose"], model="first")
    before = explained(app)
    (other,) = [one["label"] for one in cells(app)[0]["classes"][1:2]]
    act(app, "asked", {"row": 0, "column": 0, "label": other})
    assert explained(app) == [other, before[1]]
    assert (app.query_params["class1"], app.query_params["class2"]) == (other, LIKELIEST)


def test_a_click_means_the_image_that_was_seen_in_its_row() -> None:
    app = opened(sample=["tulip", "rose"], model="first")
    title, before = shown(app)["rows"][0]["title"], explained(app)
    (other,) = [one["label"] for one in cells(app)[0]["classes"][1:2]]
    act(app, "asked", {"row": 1, "title": "an image that was removed.jpg", "column": 0, "label": other})
    assert explained(app) == before
    act(app, "asked", {"row": 1, "title": title, "column": 0, "label": other})  # another image stood above it
    assert explained(app) == [other, before[1]]


@pytest.mark.parametrize("layer", [None, STAGES])
def test_a_row_is_found_by_its_title(layer: str | None) -> None:
    lines = tuple(ImageAndClass(picture(), title=title) for title in ("a", "b", "c", "b"))
    comparison = Comparison(lines, ("first",), "gradcam", layer)
    titles = [row.title for row in comparison.rows()]
    assert titles == comparison.row_titles
    found = [comparison.seen_row({"row": 0, "title": title}) for title in titles]
    assert found == [0, None, 2, None]  # two have the title b
    assert [comparison.seen_row({"row": row, "title": titles[row]}) for row in range(4)] == [0, 1, 2, 3]
    assert [comparison.seen_row({"row": row}) for row in (0, 3, 4, -1, "0", True, None)] == [0, 3, *[None] * 5]


def test_a_class_dragged_onto_another_asks_for_the_contrast() -> None:
    app = opened(sample="tulip", model="first")
    first, second = [one["label"] for one in cells(app)[0]["classes"][:2]]
    act(app, "asked", {"row": 0, "column": 0, "label": second, "against": first})
    assert explained(app) == [second]
    assert any(f"contrast with {first}" in note for note in cells(app)[0]["notes"])


def test_a_click_after_a_drag_asks_without_the_contrast() -> None:
    app = opened(sample="tulip", model="first")
    first, second = [one["label"] for one in cells(app)[0]["classes"][:2]]
    plain = cells(app)[0]["map"]
    act(app, "asked", {"row": 0, "column": 0, "label": second, "against": first})
    act(app, "asked", {"row": 0, "column": 0, "label": first})
    assert explained(app) == [first]
    assert cells(app)[0]["map"] == plain
    assert "against" not in app.query_params


@pytest.mark.parametrize("rows", ["One row per image (top-1 class)", "One row per class of an image"])
def test_a_row_of_the_contrast_class_itself_is_explained_without_it(rows: str) -> None:
    (alone,) = cells(opened(sample="tulip", model="first"))
    first, second = [one["label"] for one in alone["classes"][:2]]
    query = {"classes": [first, second]} if "class of" in rows else {}
    found = cells(opened(sample="tulip", model="first", rows=rows, against=first, **query))
    assert found[0]["map"] == alone["map"]
    assert not any("contrast" in note for note in found[0]["notes"])
    assert all(any(f"contrast with {first}" in note for note in cell["notes"]) for cell in found[1:])


@pytest.mark.parametrize(
    "asked",
    [
        {"row": 9, "label": "daisy"},
        {"row": "0", "label": "daisy"},
        {"row": 0, "label": 3},
        {"row": 0, "label": "no class of it"},
    ],
)
def test_what_is_no_question_changes_nothing(asked: dict[str, Any]) -> None:
    app = opened(sample="tulip", model="first")
    before = shown(app)["rows"]
    assert shown(act(app, "asked", asked))["rows"] == before


def test_a_class_that_a_model_lacks_leaves_its_own_map_with_a_note() -> None:
    app = opened(sample="tulip", rows="One row per class of an image", classes=["rocket"])
    first, second = cells(app)
    assert "this model has no class rocket, so its likeliest is shown" in first["notes"]
    assert first["map"] is not None
    assert not any("no class" in note for note in second["notes"])


def test_a_truth_that_no_model_knows_is_said_with_what_they_know() -> None:
    app = opened(sample="cat", model=["first", "second"])
    text = " ".join(block.value for block in app.markdown)
    assert "None of these models knows cat" in text
    assert all(name in text for name in FLOWERS)
    assert "knows" not in " ".join(block.value for block in opened(sample="tulip").markdown)


def test_an_image_that_no_model_is_sure_of_is_named() -> None:
    row = Comparison((ImageAndClass(picture()),), ("first",)).rows()[0]
    (cell,) = row.cells
    assert cell.explanation is not None
    unsure = float(cell.explanation.probabilities.max()) < UNSURE
    notes = class_notes([row], [FLOWERS])
    assert notes == ([note for note in notes if "not sure" in note] if unsure else [])
    assert len(notes) == unsure


def test_every_method_stands_in_one_group_besides_the_recommended() -> None:
    groups = list(method_groups().values())
    named = [method.name for group in groups[1:] for method in group]
    assert sorted(named) == sorted(METHODS)
    assert len(groups) == 4


@pytest.mark.parametrize("mixer", ["swin_nano", "swin_mlp_nano"])
def test_a_model_lacks_what_its_explanation_refuses(mixer: str) -> None:
    model = swin_core.Classifier(
        swin_core.build(mixer, num_classes=5).eval(), list(FLOWERS), (0.5,) * 3, (0.5,) * 3, 32, name="m"
    )
    for method in ("gradcam", "rollout", "gradrollout", "relevance"):
        try:
            swin_core.explain(model, picture().pil, method=method)
            refused = False
        except LayerError:
            refused = True
        assert bool(lack(model, method)) == refused, method


def test_a_method_that_a_model_lacks_offers_a_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path, "mlp", FLOWERS, 1, variant="swin_mlp_nano")
    monkeypatch.setattr(zoo, "ASSETS", tmp_path)
    app = opened(sample="tulip", model="mlp", method="Attention rollout")
    (info,) = [box.value for box in app.info]
    assert "mlp has no attention that can be read. Try Grad-CAM." in info.replace("\\", "")
    app.button(key="switch_method").click()
    assert app.selectbox(key="method").value == "rollout"
    run(app)
    assert app.selectbox(key="method").value == "gradcam"
    assert cells(app)[0]["map"] is not None
    assert not app.info
