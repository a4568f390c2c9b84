"""Tests of the Inside page without a browser, and of its drawings."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from streamlit.testing.v1 import AppTest

import swin_core
from dashboard.inside import inspection as inspection_module
from dashboard.inside.controls import _clicked
from dashboard.inside.drawing import TINTS, edges, over_tokens, rolled_view, tint_indices, window_labels
from dashboard.inside.inspection import Inspection
from dashboard.inside.panel_texts import PANELS, available_panels, describe_missing
from dashboard.inside.plotly_figures import cost_figure
from dashboard.shared import cache
from swin_core.anatomy.structure import PADDING, anatomy
from swin_core.errors import ModelError
from swin_core.models.complexity import msa_complexity, window_msa_complexity
from swin_core.system.cache import LRUCache
from swin_core.zoo import load as zoo
from tests.anatomy.test_internals import classifier
from tests.conftest import count_hooks
from tests.fixtures.attention import token_numbers
from tests.fixtures.pages import FLOWERS, empty_caches, picture, run, save_model
from tests.fixtures.reference import small

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small bundled models of random weights; the second has no attention."""
    folder = tmp_path_factory.mktemp("assets")
    save_model(folder, "first", FLOWERS, 1)
    model = swin_core.build("swin_mlp_nano", num_classes=5, image_size=32)
    described = {"labels": FLOWERS, "image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "description": "random"}
    swin_core.save_weights(model, folder / "mlp.safetensors", described)
    return folder


@pytest.fixture(autouse=True)
def fresh(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use these two models as the bundled ones, with empty caches."""
    monkeypatch.setattr(zoo, "ASSETS", bundle)
    empty_caches(monkeypatch, inspection_module)


def opened(**query: str | list[str]) -> AppTest:
    """The Inside page with these query parameters."""
    app = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=120)
    app.switch_page("views/inside.py")
    for name, value in {"model": "first", **query}.items():
        app.query_params[name] = value
    return run(app)


def said(app: AppTest) -> str:
    return " ".join(element.value for element in [*app.markdown, *app.caption, *app.info])


def figures(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def image(figure: dict[str, Any]) -> str:
    return next(str(trace["source"]) for trace in figure["data"] if trace["type"] == "image")


# -- the page


def test_first_view_shows_the_windows_of_a_shifted_block() -> None:
    app = opened()
    assert app.title[0].value == "Inside the model"
    assert app.selectbox(key="block").value == "Stage 1 block 2"
    assert "16 x 16 tokens of 2 x 2 pixels in 16 windows of 4 x 4" in said(app)
    assert "the map rolled 2 tokens up and 2 to the left" in said(app)
    stages, on_picture, rolled = figures(app)
    assert [point[0] for point in stages["data"][1]["customdata"]] == app.selectbox(key="block").options
    assert image(on_picture) != image(rolled)
    assert not app.error
    assert not app.warning


@pytest.mark.parametrize("title", [panel.title for panel in PANELS])
def test_every_panel_has_a_sentence_and_an_equation(title: str) -> None:
    app = opened(panel=title)
    panel = next(panel for panel in PANELS if panel.title == title)
    assert panel.sentence in said(app)
    assert [formula.value.strip("$\n") for formula in app.latex] == list(panel.equation)
    assert not app.error
    assert not app.warning


def test_token_block_and_head_change_what_is_shown() -> None:
    app = opened(panel="Attention")
    before = [image(figure) for figure in figures(app)[1:]]
    app.number_input(key="row").set_value(3)
    run(app)
    moved = [image(figure) for figure in figures(app)[1:]]
    assert before[0] != moved[0]
    assert before[1] != moved[1]
    app.session_state.head = "2"
    run(app)
    assert [image(figure) for figure in figures(app)[1:]] != moved
    assert "head 2" in said(app)
    app.selectbox(key="block").select("Stage 2 block 1")
    run(app)
    assert app.number_input(key="row").value == 2
    assert "head 2" in said(app)


def test_a_link_restores_the_view() -> None:
    query = {"panel": "Attention", "block": "Stage 2 block 2", "row": "7", "column": "2", "head": "3"}
    app = opened(**query)
    assert (app.number_input(key="row").value, app.number_input(key="column").value) == (7, 2)
    assert app.selectbox(key="block").value == "Stage 2 block 2"
    assert "head 3" in said(app)
    assert not app.warning


@pytest.mark.parametrize(
    ("query", "named"),
    [
        (
            {"block": "Stage 9 block 1", "panel": "<script>", "row": "-1", "column": "1e3", "drawn": "Everything"},
            [
                "block=Stage 9 block 1 (possible: Stage 1 block 1",
                "panel=<script> (possible: Windows, Attention",
                "row=-1 (possible: 1 to 16)",
                "column=1e3 (possible: 1 to 16)",
                "drawn=Everything (possible: Patches, Windows",
            ],
        ),
        (
            {
                "sample": ["rose", "tulip"],
                "picture": "lion.jpg",
                "model": ["first", "mlp"],
                "inside": "third",
                "panel": "Attention",
                "head": "3",
                "row": "17",
                "column": "\N{ARABIC-INDIC DIGIT THREE}",
            },
            [
                "picture=lion.jpg (possible: rose.jpg, tulip.jpg)",
                "inside=third (possible: first, mlp)",
                "head=3 (possible: Mean, 1, 2)",
                "row=17 (possible: 1 to 16)",
                "column=\N{ARABIC-INDIC DIGIT THREE} (possible: 1 to 16)",
            ],
        ),
        ({"panel": "Relevance", "relevant": "unicorn"}, ["relevant=unicorn (possible: daisy"]),
    ],
)
def test_invalid_query_parameters_are_reported(query: dict[str, str | list[str]], named: list[str]) -> None:
    app = opened(**query)
    (warning,) = app.warning
    line = warning.value.replace("\\", "")
    assert all(words in line for words in named), line
    assert "\n" not in line
    assert not app.error


def test_a_token_keeps_its_position_when_the_grid_changes() -> None:
    app = opened(row="13", column="4")
    app.selectbox(key="block").select("Stage 2 block 1")
    run(app)
    assert (app.number_input(key="row").value, app.number_input(key="column").value) == (7, 2)
    app.selectbox(key="block").select("Stage 3 block 1")
    run(app)
    assert (app.number_input(key="row").value, app.number_input(key="column").value) == (4, 1)
    assert not app.warning


def test_a_model_without_attention_shows_the_other_panels() -> None:
    app = opened(model="mlp", panel="Attention")
    assert "no attention, mask or position bias to show" in app.info[0].value.replace("\\", "")
    assert "panel=Attention" in app.warning[0].value.replace("\\", "")
    assert "without a roll" in said(app)
    app = opened(model="mlp", panel="Relevance")
    assert "its logit is" in said(app)
    assert not app.error


def test_changing_the_model_drops_a_missing_panel_without_warning() -> None:
    app = opened(model=["first", "mlp"], panel="Attention")
    app.selectbox(key="inside").select("mlp")
    run(app)
    assert "no attention" in app.info[0].value.replace("\\", "")
    assert not app.warning
    assert not app.error


def test_a_cnn_shows_its_feature_maps_and_a_vit_its_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    half, names = (0.5, 0.5, 0.5), list(FLOWERS)
    resnet = timm.create_model("resnet18", num_classes=5).eval()
    vit = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=5, depth=2, embed_dim=24, num_heads=3)
    ready = {
        "timm/resnet": swin_core.Classifier(resnet, names, half, half, 64, name="timm/resnet"),
        "timm/vit": swin_core.Classifier(vit.eval(), names, half, half, 64, name="timm/vit"),
    }
    monkeypatch.setattr(swin_core, "load", ready.__getitem__)
    app = opened(model="timm/resnet")
    assert "This page cannot read windows or attention of ResNet" in app.info[0].value.replace("\\", "")
    assert "Each stage describes the image" in said(app)
    assert not app.get("plotly_chart")
    app = opened(model="timm/vit")
    assert "since each token sees all others" in app.info[0].value.replace("\\", "")
    assert "all of them in one window" in said(app)
    for panel in ("Attention", "Cost"):
        app = opened(model="timm/vit", panel=panel)
        assert not app.error
        assert not app.warning


def test_a_missing_image_or_invalid_model_is_reported() -> None:
    assert "Choose an image" in opened(sample=[""]).info[0].value
    (error,) = opened(model="../../etc/passwd").error
    assert "a model's name consists of letters" in error.value.replace("\\", "")


def test_clicks_are_read_as_lists_and_as_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    class State(dict[str, Any]):
        pass

    def selected(data: object) -> list[Any] | None:
        points = [] if data is None else [{"customdata": data}]
        selection = type("Selection", (), {"points": points})
        monkeypatch.setattr("streamlit.session_state", State(chart=type("Event", (), {"selection": selection})))
        return _clicked("chart")

    assert selected([3, 4]) == [3, 4]
    assert selected({"0": 3, "1": 4}) == [3, 4]
    assert selected(None) is None


# -- what the models have


def test_panels_depend_on_the_model() -> None:
    whole = [panel.title for panel in PANELS]
    assert [panel.title for panel in available_panels(anatomy(classifier(small())))] == whole
    assert describe_missing(anatomy(classifier(small()))) == ""
    unbiased = anatomy(classifier(small(relative_position_bias=False)))
    assert [panel.title for panel in available_panels(unbiased)] == [
        title for title in whole if title != "Position bias"
    ]
    assert describe_missing(unbiased) == "Not shown for this Swin: position bias, since it was built without one."
    assert "shift and mask, since none of its blocks" in describe_missing(anatomy(classifier(small(shift=False))))
    mlp = anatomy(classifier(small(mixer="mlp")))
    assert [panel.title for panel in available_panels(mlp)] == ["Windows", "Feature maps", "Relevance"]


# -- what is drawn


@pytest.mark.parametrize("size", [32, 30, 18])
def test_edges_separate_pixels_of_different_windows(size: int) -> None:
    for block in anatomy(classifier(small(), size)).blocks:
        token = (2 * block.stage, 2 * block.stage)
        numbers = block.positions().on_map(block.positions().windows)
        pixels = np.zeros((size, size), int)
        windows = token_numbers(block.grid, 4, 2 if block.number == 2 else 0, rolls_first=False)
        where = {one: number for number, tokens in enumerate(windows) for one in tokens if one is not None}
        for y, x in np.ndindex(size, size):
            pixels[y, x] = where[y // token[0] * block.grid[1] + x // token[1]]
        assert np.array_equal(over_tokens(numbers, token, (size, size)), pixels)
        expected = set()
        for y, x in np.ndindex(size, size):
            if x == 0 or pixels[y, x] != pixels[y, x - 1]:
                expected.add(("|", x, y))
            if y == 0 or pixels[y, x] != pixels[y - 1, x]:
                expected.add(("-", x, y))
        expected |= {("|", size, y) for y in range(size)} | {("-", x, size) for x in range(size)}
        xs, ys = edges(numbers, token, (size, size))
        drawn = set()
        for start in range(0, len(xs), 3):
            x0, x1, y0, y1 = (
                int(value) for value in (*xs[start : start + 2], *ys[start : start + 2]) if value is not None
            )
            assert (x0 == x1) != (y0 == y1)
            drawn |= {("|", x0, y) for y in range(y0, y1)} if x0 == x1 else {("-", x, y0) for x in range(x0, x1)}
        assert drawn == expected


@pytest.mark.parametrize("size", [32, 30, 56])
def test_neighbouring_windows_have_different_tints(size: int) -> None:
    block = anatomy(classifier(small(), size)).blocks[1]
    numbers = block.positions().on_map(block.positions().windows)
    # In another order of numbers more of them compete for one tint.
    numbers = np.random.default_rng(0).permutation(numbers.max() + 1)[numbers]
    tints = tint_indices(numbers)
    assert tints.max() < len(TINTS)
    for number in np.unique(numbers):
        assert len(np.unique(tints[numbers == number])) == 1
    for one, other in ((numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])):
        first, second = (tints[1:], tints[:-1]) if one.shape[1] == numbers.shape[1] else (tints[:, 1:], tints[:, :-1])
        assert not ((one != other) & (first == second)).any()
    labelled = window_labels(numbers, (2, 2))
    assert {number for _, _, number in labelled} == set(np.unique(numbers).tolist())
    for x, y, number in labelled:
        assert numbers[int((y - 0.5) // 2), int((x - 0.5) // 2)] == number


@pytest.mark.parametrize("size", [32, 30])
def test_the_rolled_view_equals_the_rolled_image(size: int) -> None:
    block = anatomy(classifier(small(), size)).blocks[1]
    positions = block.positions()
    view = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    laid = rolled_view(view, positions, (2, 2))
    height, width = positions.tokens.shape
    assert laid.shape == (2 * height, 2 * width, 3)
    for y, x in np.ndindex(2 * height, 2 * width):
        row, column = (y // 2 + 2) % height, (x // 2 + 2) % width
        inside = row < size // 2 and column < size // 2
        assert inside == (positions.tokens[y // 2, x // 2] != PADDING)
        expected = view[2 * row + y % 2, 2 * column + x % 2] if inside else [127, 127, 127]
        assert np.array_equal(laid[y, x], expected)


def test_the_cost_curves_equal_the_equations() -> None:
    block = anatomy(classifier(small())).blocks[0]
    figure = cost_figure(block, 2, 4, [(32, "seen"), (300, "own")])
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    equations = (msa_complexity, lambda grid, width: window_msa_complexity(grid, width, 4))
    for trace, equation in zip([*lines, *dots], [*equations, *equations], strict=True):
        for side, cost in zip(trace.x, trace.y, strict=True):
            grid = (-(-int(side) // 2),) * 2
            assert cost == pytest.approx(equation(grid, block.channels) / 1e9)
    assert [list(trace.x) for trace in dots] == [[32, 300]] * 2
    assert [note.text.strip() for note in figure.layout.annotations] == ["seen, 32 px", "own, 300 px"]


# -- what is held


def test_results_are_cached_until_the_weights_change(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    made: list[str] = []
    read_internals = inspection_module.read_internals
    monkeypatch.setattr(
        inspection_module, "read_internals", lambda *given: made.append("pass") or read_internals(*given)
    )
    inspection = Inspection("first", picture())
    block = inspection.anatomy().blocks[1]
    one = inspection.token_attention(block, (3, 4), 1)
    assert inspection.token_attention(block, (3, 4), 1) is one
    assert Inspection("first", picture(key="an image")).internals() is inspection.internals()
    assert made == ["pass"]
    Inspection("first", picture("cat", "another")).internals()
    assert made == ["pass"] * 2
    kept = (bundle / "first.safetensors").read_bytes()
    monkeypatch.setattr(cache, "_classifiers", LRUCache(6))  # a bundled model's file is not watched
    try:
        save_model(bundle, "first", FLOWERS, 9)
        assert not np.array_equal(inspection.token_attention(block, (3, 4), 1).heads, one.heads)
        assert made == ["pass"] * 3
    finally:
        (bundle / "first.safetensors").write_bytes(kept)


def test_caches_stay_within_their_limits() -> None:
    inspection = Inspection("first", picture())
    blocks = inspection.anatomy().blocks
    for block in blocks:
        for token in np.ndindex(*block.grid):
            inspection.token_attention(block, token, None)
    assert len(inspection_module._token_attentions) == inspection_module._token_attentions.entries
    assert len(inspection_module._attentions) <= inspection_module._attentions.entries


def test_concurrent_sessions_get_the_same_results(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [picture(name, name) for name in ("tulip", "rose", "cat", "coffee")]

    def work(place: int) -> list[np.ndarray]:
        inspection = Inspection("first", pictures[place])
        attention = inspection.token_attention(inspection.anatomy().blocks[place], (1, 2), None)
        return [attention.heads, attention.rollout, *inspection.relevance(place).maps, inspection.internals().logits]

    alone = [work(place) for place in range(4)]
    empty_caches(monkeypatch, inspection_module)
    hooks = count_hooks(cache.classifier("first").model)
    start = threading.Barrier(4)

    def together(place: int) -> list[np.ndarray]:
        start.wait()
        return work(place)

    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(together, range(4)), alone, strict=True):
            assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert count_hooks(cache.classifier("first").model) == hooks == 0


def test_an_unknown_model_is_an_error() -> None:
    with pytest.raises(ModelError, match="there is no model nowhere"):
        Inspection("nowhere", picture()).internals()
