"""The Inside page without a browser."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from pypdf import PdfReader
from streamlit.testing.v1 import AppTest

import swin_core
from dashboard.inside.panel_texts import PANELS
from dashboard.shared import cache, export_menu
from dashboard.shared.model_names import sample_images
from swin_core.anatomy.internals import block_attention
from swin_core.anatomy.structure import anatomy
from swin_core.attribution.overlay import Look
from swin_core.figures.viewer_payload import look_payload
from tests.fixtures.pages import FLOWERS, run, shown

pytestmark = pytest.mark.usefixtures("one_thread", "fresh")

ROOT = Path(__file__).resolve().parents[3]


def opened(**query: str | list[str]) -> AppTest:
    """The Inside page with these query parameters."""
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=120)
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


def attention(app: AppTest) -> list[dict[str, Any]]:
    """The attention maps: in the window, and rolled out."""
    return list(shown(app, "attention_maps")["rows"][0]["cells"])


def titles(app: AppTest) -> list[str]:
    return [column["title"] for column in shown(app, "attention_maps")["columns"]]


def test_first_view_shows_the_windows_of_a_shifted_block() -> None:
    app = opened()
    assert app.title[0].value == "Inside the model"
    assert app.selectbox(key="block").value == "Stage 1 block 2"
    assert "16 x 16 tokens of 2 x 2 pixels in 16 windows of 4 x 4" in said(app)
    assert "its window, and nothing outside it" in said(app)
    stages, on_picture, window = figures(app)
    assert [point[0] for point in stages["data"][1]["customdata"]] == app.selectbox(key="block").options
    assert image(on_picture) != image(window)
    app.session_state.drawn = ["Windows", "Shift"]
    run(app)
    assert "the map rolled 2 tokens up and 2 to the left" in said(app)
    assert image(figures(app)[2]) != image(window)
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


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("Windows", ["16 x 16 tokens of 2 x 2 pixels in 16 windows", "query token in row 9, column 9", "window 16"]),
        ("Attention", ["In its window", "Stage 1 block 2", "Attention rollout", "Head 2", "viridis"]),
        ("Position bias", ["mean of all heads", "columns to the right", "Head 1"]),
        ("Feature maps", ["Model input", "Stage 2, strength", "Stage 3, kind"]),
        ("Relevance", ["Pixels", "% of the logit", "its logit is", "orange for, blue against"]),
        ("Cost", ["Global attention, eq. 1", "side of the image in pixels", "multiply-adds"]),
    ],
)
def test_every_panel_is_saved_with_what_it_shows(title: str, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[Any] = []
    monkeypatch.setattr(export_menu, "show_exports", lambda *arguments, **options: offered.append(arguments))
    opened(sample="tulip", panel=title, drawn=["Windows", "Shift", "Mask"])
    ((kinds, encode, name),) = offered
    assert list(kinds) == ["png", "pdf", "svg"]
    assert name == f"swinlens-{title.lower().replace(' ', '-')}"
    text = " ".join(PdfReader(io.BytesIO(encode("pdf"))).pages[0].extract_text().split())
    sentence = next(panel.sentence for panel in PANELS if panel.title == title)
    for words in (title, "tulip.jpg", sentence, *said):
        assert words in text
    assert encode("svg").startswith(b"<?xml")
    assert encode("png").startswith(b"\x89PNG")


def test_a_saved_panel_has_the_look_that_was_dragged_since(monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[Any] = []
    monkeypatch.setattr(export_menu, "show_exports", lambda *arguments, **options: offered.append(arguments))
    app = opened(sample="tulip", panel="Attention")
    app.session_state["look"].look = Look("magma", 0.3)
    text = PdfReader(io.BytesIO(offered[0][1]("pdf"))).pages[0].extract_text()
    assert "magma" in text
    assert "opacity 0.3" in text


def test_token_block_and_head_change_what_is_shown() -> None:
    app = opened(panel="Attention")
    before = attention(app)
    app.number_input(key="row").set_value(3)
    run(app)
    moved = attention(app)
    for number in range(2):
        assert before[number]["map"] != moved[number]["map"]
        assert before[number]["marks"] != moved[number]["marks"]
    app.session_state.head = "2"
    run(app)
    assert [cell["map"] for cell in attention(app)] != [cell["map"] for cell in moved]
    assert titles(app)[0] == "In its window · Stage 1 block 2, head 2"
    app.selectbox(key="block").select("Stage 2 block 1")
    run(app)
    assert app.number_input(key="row").value == 2
    assert titles(app)[0] == "In its window · Stage 2 block 1, head 2"


def test_the_viewer_holds_each_tokens_weight_and_takes_the_look_of_the_url() -> None:
    """The weights are those of the block, summed head by head."""
    app = opened(sample="cat", panel="Attention", row="5", column="4", opacity="30", colors="magma")
    image = swin_core.read_image(sample_images()["cat"])
    model = cache.classifier("first")
    view = model.view(image)
    whole = block_attention(model, view, anatomy(model).blocks[1].name)
    expected = sum(whole.of((4, 3))[head] for head in range(len(whole.of((4, 3))))) / len(whole.of((4, 3)))
    sent = attention(app)[0]["map"]
    codes = np.frombuffer(base64.b64decode(sent["data"]), "<u2").reshape(16, 16)
    values = sent["low"] + codes * (sent["high"] - sent["low"]) / 65535
    np.testing.assert_allclose(values, expected, atol=1e-5)
    assert shown(app, "attention_maps")["look"] == {**look_payload(Look("magma", 0.3))}
    assert not app.warning


def test_relevance_is_drawn_by_the_viewer() -> None:
    app = opened(panel="Relevance")
    payload = shown(app, "relevance_maps")
    assert [column["title"] for column in payload["columns"]] == ["Pixels", "Stage 1", "Stage 2", "Stage 3"]
    assert all(cell["signed"] for cell in payload["rows"][0]["cells"])


def test_a_link_restores_the_view() -> None:
    query = {"panel": "Attention", "block": "Stage 2 block 2", "row": "7", "column": "2", "head": "3"}
    app = opened(**query)
    assert (app.number_input(key="row").value, app.number_input(key="column").value) == (7, 2)
    assert app.selectbox(key="block").value == "Stage 2 block 2"
    assert "head 3" in titles(app)[0]
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
        ({"panel": "Attention", "wipe": "7"}, ["wipe=7 (possible: image, or 0 to 1)"]),
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
    app = opened(model="mlp", panel="Attention", drawn="Shift")
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
