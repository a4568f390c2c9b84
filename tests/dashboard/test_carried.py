"""Choices survive a visit to another page, and are part of the URL."""

from __future__ import annotations

import io
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from dashboard.shared import uploads
from dashboard.shared.model_names import MAX_IMAGES
from swin_core.data.dataset import DataSet
from swin_core.zoo import load as zoo
from tests.fixtures.pages import FLOWERS, OTHERS, choose, empty_caches, opened, run, save_model, shown, texts

pytestmark = pytest.mark.usefixtures("one_thread")

CHOSEN: dict[str, str | list[str]] = {
    "sample": ["tulip", "cat"],
    "model": ["second", "first"],
    "colors": "cividis",
    "opacity": "40",
    "threshold": "10",
    "scale": "Shared",
    "rows": "One row per class of an image",
    "picture": "cat.jpg",
    "classes": ["tulips", "daisy"],
    "method": "Grad-CAM",
    "layer": "layers.1",
    "against": "roses",
    "detail": "2. daisy",
    "means": "true",
    "means_data": "others",
    "means_class": "sunflowers",
    "means_count": "16",
    "trust": "false",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assets")
    save_model(folder, "first", FLOWERS, 1)
    save_model(folder, "second", (*OTHERS, *FLOWERS), 2)
    return folder


@pytest.fixture(autouse=True)
def fresh(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two models are the bundled ones, and nothing is held from an earlier test."""
    monkeypatch.setattr(zoo, "ASSETS", bundle)
    section = "dashboard.compare.class_mean_section"
    monkeypatch.setattr(f"{section}.mean_splits", lambda: {"made up": ("made_up", "val"), "others": ("others", "val")})
    monkeypatch.setattr(f"{section}.open_split", lambda *name: flowers())
    empty_caches(monkeypatch)


def flowers() -> DataSet:
    draw, labels = np.random.default_rng(0), np.arange(2 * len(FLOWERS)) % len(FLOWERS)
    pictures = [draw.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in labels]
    names = tuple(map(str, range(len(labels))))
    return DataSet("made_up", "val", FLOWERS, labels, names, pictures, lambda source, size: Image.fromarray(source))


def photo(number: int = 0) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def there_and_back(app: AppTest) -> AppTest:
    app.switch_page("views/train.py")
    assert "Training runs" in run(app).title[0].value
    app.switch_page("views/compare.py")
    return run(app)


def values(app: AppTest) -> dict[str, object]:
    """What each widget of the page holds."""
    kinds = ("selectbox", "multiselect", "slider", "button_group", "toggle", "select_slider", "pills")
    return {widget.key: widget.value for kind in kinds for widget in app.get(kind) if widget.key}


def link(app: AppTest) -> dict[str, list[str]]:
    (code,) = app.code
    return parse_qs(urlsplit(code.value).query)


def test_what_is_chosen_outlives_another_page() -> None:
    app = opened(**CHOSEN)
    before, address, drawn = values(app), app.query_params, texts(app)
    assert {"classes", "means_class", "detail"} <= set(before)
    there_and_back(app)
    assert values(app) == before
    assert app.query_params == address
    assert texts(app) == drawn


def test_the_link_holds_every_choice_also_after_another_page() -> None:
    app = opened(**CHOSEN)
    wanted = {name: [value] if isinstance(value, str) else value for name, value in CHOSEN.items()}
    assert link(app) == wanted
    assert link(there_and_back(app)) == wanted


def test_a_choice_made_on_the_page_outlives_another_page() -> None:
    app = opened()
    app.query_params["opacity"] = "25"
    choose(app, "model", ["second"])
    run(app)
    there_and_back(app)
    assert shown(app)["look"]["opacity"] == 0.25
    assert app.query_params["model"] == "second"
    assert link(app)["opacity"] == ["25"]


def test_uploads_outlive_another_page_until_they_are_removed() -> None:
    app = opened()
    app.file_uploader[0].upload("mine.png", photo())
    assert "mine.png" in texts(run(app))
    there_and_back(app)
    assert "mine.png" in texts(app)
    assert "tulip.jpg" not in texts(app)
    (button,) = [one for one in app.button if one.key and one.key.startswith("remove_")]
    button.click()
    run(app)
    assert not app.session_state["kept_uploads"]
    assert not [one for one in app.button if one.key and one.key.startswith("remove_")]


def test_the_same_picture_is_kept_once_and_few_are_kept() -> None:
    app = opened()
    for number in range(MAX_IMAGES):
        app.file_uploader[0].upload(f"{number}.png", photo(number))
    app.file_uploader[0].upload("again.png", photo(0)).upload("more.png", photo(99))
    run(app)
    assert [one.name for one in app.session_state["kept_uploads"]] == [f"{n}.png" for n in range(MAX_IMAGES)]
    (warning,) = [one.value for one in app.warning]
    assert "more" in warning
    assert "again" not in warning
    assert [one.value for one in run(app).warning] == [warning]  # until it is dismissed


def test_the_bytes_that_are_kept_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_BYTES", len(photo(0)) + 10)
    app = opened()
    app.file_uploader[0].upload("one.png", photo(0)).upload("two.png", photo(1))
    run(app)
    assert [one.name for one in app.session_state["kept_uploads"]] == ["one.png"]
    assert "two" in app.warning[0].value
