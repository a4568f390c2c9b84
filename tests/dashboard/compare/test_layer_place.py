"""Where the chosen layer lies, and models of other heads and channels, on the Compare page and in the demo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dashboard.compare.layer_place import position_text
from dashboard.demo.answers import Demo
from swin_core.attribution.layers import LayerPosition
from swin_core.figures.files import encode
from swin_core.zoo.offered import VARIABLE
from tests.fixtures.pages import bundle, cells, fresh, opened, run, shown

__all__ = ["bundle", "fresh"]

pytestmark = pytest.mark.usefixtures("fresh")

ROOT = Path(__file__).resolve().parents[3]

CODE = """
import swin_core
import torch
from torch import nn

def load():
    torch.manual_seed(1)
    layers = nn.Conv2d({channels}, 8, 4, 4), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1)
    return swin_core.Classifier(nn.Sequential(*layers), {labels}, 0.5, 0.5, 32, activation="{activation}")
"""


def test_position_text() -> None:
    assert position_text(LayerPosition((14, 14), 3, 4)) == "middle · 3 of 4 · 14 x 14"
    words = [position_text(LayerPosition((7, 7), number, 3)).split(" · ")[0] for number in (1, 2, 3)]
    assert words == ["early", "middle", "late"]
    assert position_text(LayerPosition((7, 8), 1, 1)) == "7 x 8"


def test_the_chosen_layer_is_drawn() -> None:
    def drawn(**query: str) -> list[str]:
        texts = [element.proto.body for element in opened(model="first", **query).get("html")]
        return [text for text in texts if 'role="img"' in text]

    assert not drawn()  # the default method explains the pixels
    (text,) = drawn(method="Grad-CAM", layer="layers.0")
    assert 'title="layers.0"' in text  # the exact name, where the pointer rests
    assert "layers.0" not in text.replace('title="layers.0"', "")
    assert "early · 1 of " in text
    assert text.count("background: currentColor") == 1
    (text,) = drawn(method="Grad-CAM")
    assert '.norm1"' in text


def test_exact_names_of_layers_are_offered_to_those_who_ask() -> None:
    app = opened(model="first", sample="tulip", method="Grad-CAM")
    assert not [name for name in app.selectbox(key="layer").options if "." in name]
    app.toggle(key="exact_layers").set_value(True)
    assert "layers.0" in run(app).selectbox(key="layer").options
    assert "layers.0" in opened(model="first", method="Grad-CAM", layer="layers.0").selectbox(key="layer").options
    # Under each map the name stands with the raw values.
    (cell,) = cells(app)
    assert cell["magnitude"].endswith(".norm1")
    assert not [note for note in cell["notes"] if "." in note]


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A regression of grey images and a binary classifier."""
    (tmp_path / "age.py").write_text(CODE.format(channels=1, labels=["age"], activation="none"))
    (tmp_path / "rose.py").write_text(CODE.format(channels=3, labels=["no rose", "rose"], activation="sigmoid"))
    monkeypatch.setenv(VARIABLE, f"{tmp_path / 'age.py'}:{tmp_path / 'rose.py'}")


@pytest.mark.usefixtures("offered")
def test_a_page_shows_outputs_of_a_regression_and_both_sides_of_a_logit() -> None:
    app = opened(model=["age.py", "rose.py"], sample=["tulip"])
    age, rose = (cell["headline"] for cell in cells(app))
    assert [len(cell["classes"]) for cell in cells(app)] == [0, 2]
    assert "age · 0." in age or "age · -0." in age
    assert "%" not in age
    assert "%" in rose
    assert "wrong" not in json.dumps(shown(app))


@pytest.mark.usefixtures("offered")
def test_the_demo_and_every_export_take_them(tmp_path: Path) -> None:
    demo = Demo(("age.py", "rose.py"), tmp_path)
    (tmp_path / "upload").mkdir()
    upload = tmp_path / "upload" / "image.jpg"
    upload.write_bytes((ROOT / "assets" / "samples" / "cat.jpg").read_bytes())
    answer = demo.answer({"path": str(upload)}, ["age.py", "rose.py"])
    numbers = answer.numbers()
    (age,), rose = (numbers["predictions"][name] for name in ("age.py", "rose.py"))
    assert set(age) == {"label", "output"}
    assert sum(entry["probability"] for entry in rose) == pytest.approx(1, rel=1e-5)
    assert {"output", "probability"} & set(numbers["figures"]["age.py"]) == {"output"}
    cells = json.loads(encode(answer.grid, "json"))["rows"][0]["cells"]
    assert [cell["activation"] for cell in cells] == ["none", "sigmoid"]
    page = encode(answer.grid, "html").decode()
    assert f"age · {age['output']:.4g}" in page
