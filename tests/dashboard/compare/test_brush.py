"""The brush on the Compare page: what the URL holds, and what the cells and exports say, against `what_if`."""

from __future__ import annotations

import gc
import json
from dataclasses import replace

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import swin_core
from dashboard.compare import brush
from dashboard.compare.brush import Painted, ShownGrid, answer_stroke, first_answers, repaint
from dashboard.shared import cache
from dashboard.shared import model_names as choices
from dashboard.shared.comparison import Comparison
from dashboard.shared.uploads import Upload
from swin_core.attribution.strokes import parse_strokes
from swin_core.attribution.what_if import Edit
from swin_core.figures.files import encode
from swin_core.figures.grid import Grid
from swin_core.figures.viewer_payload import map_payload
from tests.fixtures.pages import bundle, cells, choose, fresh, opened, picture, run, shown

__all__ = ["bundle", "fresh"]

pytestmark = pytest.mark.usefixtures("fresh")

TEXT = "b200-500.400-600.600_r-100.100-300.200"


def test_a_link_with_strokes_shows_what_if_of_each_model() -> None:
    query = {"sample": "mountain", "model": ["first", "second"], "fill": "mean", "keep": "true"}
    app = opened(**query, brush=f"mountain.jpg~{TEXT}")
    image = swin_core.read_image(choices.sample_images()["mountain"])
    for name, cell in zip(("first", "second"), cells(app), strict=True):
        expected = swin_core.what_if(cache.classifier(name), image, TEXT, fill="mean", keep=True)
        assert cell["map"] == map_payload(expected.after.maps[0, 0])
        target = expected.before.targets[0]
        found = next(entry for entry in cell["classes"] if entry["label"] == expected.after.labels[target])
        assert found["probability"] == pytest.approx(float(expected.after.probabilities[target]))
        assert found["before"] == pytest.approx(float(expected.before.probabilities[target]))
        assert f"logit {expected.change[0]:+.2f}" in cell["notes"][0]
    (row,) = shown(app)["rows"]
    assert (row["brush"]["fill"], row["brush"]["keep"], len(row["brush"]["strokes"])) == ("mean", True, 2)
    # An export holds the original image, the strokes and the answers.
    comparison: Comparison = app.session_state["before"]
    report = json.loads(encode(Grid(tuple(comparison.rows()), comparison.columns), "json"))
    assert report["rows"][0]["edit"] == {"strokes": TEXT, "fill": "mean", "keep": True}
    # Without the strokes everything is as before.
    app.session_state["url_lists"] = {**app.session_state["url_lists"], "brush": []}
    run(app)
    assert cells(app)[0]["map"] == map_payload(swin_core.explain(cache.classifier("first"), image).maps[0, 0])
    assert "brush" not in app.query_params


def test_a_region_that_cannot_be_replaced_says_so_under_the_image() -> None:
    app = opened(sample="tulip", model="first", brush="tulip.jpg~r-0.0-1000.1000", keep="true")
    (row,) = shown(app)["rows"]
    assert row["brush"]["fault"] == "the mask leaves nothing to replace; mark a part of the image."
    assert row["brush"]["strokes"]  # so that the stroke can be undone
    assert row["cells"][0]["classes"][0]["before"] is None


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"brush": "tulip.jpg~x9"}, "brush=tulip.jpg~x9 (a region is written as strokes such as"),
        ({"brush": "paint"}, "brush=paint (a region is written as strokes such as"),
        ({"brush": "nothing.jpg~b10-5.5"}, "brush=nothing.jpg~b10-5.5 (no image with this name is shown)"),
        ({"fill": "magic"}, "fill=magic (possible: blur, mean, noise, neighbours)"),
        ({"keep": "yes"}, "keep=yes (possible: true, false)"),
    ],
)
def test_bad_values_of_a_link_are_named_in_one_line(query: dict[str, str], words: str) -> None:
    app = opened(sample="tulip", model="first", **query)
    (warning,) = (each.value for each in app.warning if "were ignored" in each.value)
    assert words in warning.replace("\\", "")
    assert "\n" not in warning
    assert cells(app)[0]["classes"][0]["before"] is None
    assert not set(query) & set(run(app).query_params)


def painted_titles(app: AppTest) -> list[str]:
    """The images whose region is replaced, as the viewer is given them."""
    return [row["title"] for row in shown(app)["rows"] if row["brush"]["strokes"]]


def upload(app: AppTest, *images: Upload) -> AppTest:
    """Show these uploads alone."""
    app.session_state["kept_uploads"] = list(images)
    choose(app, "sample", [])
    return run(app)


def test_strokes_go_with_their_image_and_stay_with_it() -> None:
    files = list(choices.sample_images().values())[:3]
    pasted = [Upload("pasted.png", file.read_bytes(), file.name) for file in files]
    app = upload(opened(sample="tulip", model="first"), pasted[0], pasted[1])
    choose(app, "brush", ["pasted.png (2)~b150-400.300"])
    assert painted_titles(run(app)) == ["pasted.png (2)"]
    assert painted_titles(upload(app, pasted[1])) == ["pasted.png"]
    assert app.query_params["brush"] == "pasted.png~b150-400.300"
    assert painted_titles(upload(app, pasted[2])) == []
    assert "brush" not in app.query_params
    assert not [each.value for each in app.warning if "were ignored" in each.value]
    # Back to the URL with strokes of the image that is gone: another one of its name does not get them.
    choose(app, "brush", ["pasted.png~b150-400.300"])
    assert painted_titles(run(app)) == []
    assert painted_titles(upload(app, pasted[1])) == []
    choose(app, "brush", ["pasted.png~b150-400.300"])
    assert painted_titles(run(app)) == ["pasted.png"]
    # Strokes that this session does not know, as in a link, go to the image of their name.
    choose(app, "brush", ["pasted.png~b150-500.300"])
    assert painted_titles(run(app)) == ["pasted.png"]


def test_few_entries_remember_their_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brush, "OWNERS_AT_MOST", 2)
    app = opened(sample="tulip", model="first")
    entries = [f"tulip.jpg~b100-{number}00.400" for number in (3, 4, 3, 5)]
    for entry in entries:
        choose(app, "brush", [entry])
        run(app)
    assert list(app.session_state["stroke_owners"]) == entries[2:]


def test_the_image_before_is_explained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    explain = swin_core.explain
    monkeypatch.setattr(swin_core, "explain", lambda *args, **options: made.append(args) or explain(*args, **options))
    app = opened(sample="tulip", model="first")
    for number in range(3):
        stroke = f"tulip.jpg~b100-{300 + number}.400"
        app.session_state["url_lists"] = {**app.session_state["url_lists"], "brush": [stroke]}
        run(app)
    assert len(made) == 1 + 3


@pytest.mark.parametrize(
    "stroke",
    [
        {},
        {"row": 1, "strokes": TEXT, "fill": "blur", "keep": False},
        {"row": -1, "strokes": TEXT, "fill": "blur", "keep": False},
        {"row": "0", "strokes": TEXT, "fill": "blur", "keep": False},
        {"row": 0, "strokes": "<script>", "fill": "blur", "keep": False},
        {"row": 0, "strokes": ["b9-1.1"], "fill": "blur", "keep": False},
        {"row": 0, "strokes": TEXT, "fill": "magic", "keep": False},
    ],
)
def test_what_no_brush_sends_is_refused(stroke: dict[str, object]) -> None:
    app = opened(sample="tulip", model="first")
    shown: ShownGrid = app.session_state["shown_grid"]
    assert shown.painted.after(shown.comparison, stroke) == shown.painted == Painted()
    assert answer_stroke(json.dumps({"token": shown.token, "stroke": stroke}).encode()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"5", b"[]", b"{}", b'{"token": [], "stroke": {}}'])
def test_a_request_without_the_token_of_a_session_is_not_answered(content: bytes) -> None:
    app = opened(sample="tulip", model="first")
    shown: ShownGrid = app.session_state["shown_grid"]
    stroke = {"row": 0, "strokes": TEXT, "fill": "blur", "keep": False}
    assert answer_stroke(content) is None
    assert answer_stroke(json.dumps({"token": "guessed", "stroke": stroke}).encode()) is None
    assert answer_stroke(json.dumps({"token": shown.token, "stroke": 5}).encode()) is None
    assert answer_stroke(json.dumps({"token": shown.token, "stroke": stroke}).encode())
    token = shown.token
    del shown, app
    gc.collect()
    assert answer_stroke(json.dumps({"token": token, "stroke": stroke}).encode()) is None  # the session has ended


def test_an_edited_image_keeps_its_title_and_truth() -> None:
    image = picture()
    edit = Edit(parse_strokes(TEXT))
    changed = cache.edited(image, edit)
    assert (changed.title, changed.truth, changed.source, changed.edit) == (image.title, image.truth, image, edit)
    assert np.array_equal(np.asarray(changed.pil), np.asarray(edit.apply(image.pil)))
    assert changed.key != image.key
    assert cache.edited(image, edit).pil is changed.pil


def test_the_probabilities_that_come_first_are_those_of_what_if() -> None:
    """Of the painted image alone, and before any of its maps is computed."""
    app = opened(sample=["tulip", "rose"], model=["first", "second"])
    shown: ShownGrid = app.session_state["shown_grid"]
    comparison = shown.comparison
    strokes = parse_strokes(TEXT)
    lines = tuple(
        replace(line, image=cache.edited(line.image, Edit(strokes))) if line.image.title == "tulip.jpg" else line
        for line in comparison.lines
    )
    changed = replace(comparison, lines=lines)
    assert changed.slow_models() == ["first", "second"]
    stroke = {"row": 0, "strokes": TEXT, "fill": "blur", "keep": False, "time": 5}
    (answer,) = answer_stroke(json.dumps({"token": shown.token, "stroke": stroke}).encode()) or []
    assert changed.slow_models() == ["first", "second"]
    image = swin_core.read_image(choices.sample_images()["tulip"])
    for name, cell in zip(("first", "second"), answer["cells"], strict=True):
        expected = swin_core.what_if(cache.classifier(name), image, strokes)
        for entry in cell["classes"]:
            index = expected.after.labels.index(entry["label"])
            assert entry["probability"] == pytest.approx(float(expected.after.probabilities[index]), rel=1e-4)
            assert entry["before"] == pytest.approx(float(expected.before.probabilities[index]), rel=1e-4)
            assert entry["explained"] == (index == expected.before.targets[0])
    assert (answer["row"], answer["brush"]["strokes"], answer["brush"]["time"]) == (0, strokes.vectors(), 5)
    finished = Grid(tuple(changed.rows()), changed.columns)
    brushes = repaint(comparison, Painted({"tulip.jpg": TEXT}))[1]
    assert first_answers(changed, finished, brushes) == []  # nothing has changed since
