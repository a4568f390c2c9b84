"""The Compare page without a browser: its controls, caching, uploads, and names of models."""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

import swin_core
from dashboard.shared import cache, theme
from dashboard.shared import model_names as choices
from dashboard.shared.cache import InputImage, Request
from dashboard.shared.comparison import Comparison, ImageAndClass
from swin_core.attribution.overlay import Look
from swin_core.errors import ModelError
from swin_core.figures.files import KINDS, encode
from swin_core.figures.grid import Grid
from swin_core.figures.viewer_payload import look_payload, viewer_html
from swin_core.zoo import load as zoo
from tests.fixtures.pages import FLOWERS, bundle, cells, choose, fresh, opened, picture, run, shown, texts

__all__ = ["bundle", "fresh"]

pytestmark = pytest.mark.usefixtures("fresh")

ROOT = Path(__file__).resolve().parents[3]
GPS = 0x8825


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models for which an explanation was computed, in order."""
    made: list[str] = []
    explain = swin_core.explain

    def counted(classifier: swin_core.Classifier, *args: Any, **options: Any) -> swin_core.Explanation:
        made.append(classifier.name)
        return explain(classifier, *args, **options)

    monkeypatch.setattr(swin_core, "explain", counted)
    return made


@pytest.fixture
def page() -> AppTest:
    """The page at its first view."""
    return opened()


def photo(**options: Any) -> bytes:
    stream = io.BytesIO()
    Image.effect_mandelbrot((60, 40), (-2, -1, 1, 1), 30).convert("RGB").save(stream, "JPEG", **options)
    return stream.getvalue()


# -- how often files are looked at


def test_a_rerun_resolves_each_model_once_and_reads_no_header_again(monkeypatch: pytest.MonkeyPatch) -> None:
    headers: list[str] = []
    resolved: list[str] = []
    read, source = zoo.read_metadata, choices.model_source
    monkeypatch.setattr(zoo, "read_metadata", lambda file: headers.append(Path(file).stem) or read(file))
    monkeypatch.setattr(choices, "model_source", lambda name: resolved.append(name) or source(name))
    app = opened(model=["first", "second"], sample=["tulip", "rose"])
    # Once for the descriptions and once for loading.
    assert sorted(headers) == ["first", "first", "second", "second"]
    assert {"first", "second"} == set(resolved)
    headers.clear()
    resolved.clear()
    run(app)
    assert headers == []
    assert sorted(resolved) == ["first", "second"]


# -- the first view and the controls


def test_first_view_is_the_samples_that_the_bundled_models_know(page: AppTest) -> None:
    assert all(name in texts(page) for name in ("first", "second", "rose.jpg", "tulip.jpg"))
    assert shown(page)["look"] == look_payload(Look())
    assert len([cell for cell in cells(page) if cell["map"]]) == 2 * 2
    assert any("Bright areas raised the score" in caption.value for caption in page.caption)
    # Five of the first model's five classes, and five of the second's six.
    assert len(page.progress) == 10
    assert not page.error


def test_caption_and_choices_agree_with_the_model() -> None:
    app = opened(sample="tulip")
    image = swin_core.read_image(choices.sample_images()["tulip"])
    probabilities = swin_core.load("first").predict([image])[0]
    best = FLOWERS[int(probabilities.argmax())]
    assert f"{best} · " in texts(app)
    bars = [bar.value for bar in app.progress[:5]]
    np.testing.assert_allclose(bars, 100 * np.sort(probabilities)[::-1], atol=1)


def test_a_link_leads_back_to_the_view() -> None:
    view = {"sample": ["rose", "tulip"], "model": ["second"], "opacity": "35", "threshold": "20", "colors": "cividis"}
    app = opened(**view, scale="Shared")
    look = {"colormap": "cividis", "opacity": 0.35, "threshold": 0.2, "scale": "shared"}
    assert look.items() <= shown(app)["look"].items()
    assert "first" not in texts(app).split()
    assert all(name in texts(app) for name in ("rose.jpg", "tulip.jpg"))


@pytest.mark.parametrize(
    "query",
    [
        {"opacity": "900"},
        {"opacity": "x"},
        {"colors": "jet"},
        {"sample": "../../etc/passwd"},
        {"layer": "no_layer"},
        {"rows": "%00"},
        {"scale": "log"},
        {"model": ["first"] * 9},
    ],
)
def test_an_address_with_nonsense_shows_the_page(query: dict[str, str | list[str]]) -> None:
    assert shown(opened(**query))["rows"]


@pytest.mark.parametrize(
    ("query", "named", "possible"),
    [
        ({"sample": ["tulip", "nothing"]}, "sample=nothing", "tulip"),
        ({"rows": "Sideways"}, "rows=Sideways", "One row per class of an image"),
        ({"scale": "log"}, "scale=log", "Shared, Each map"),
        ({"rows": "One row per class of an image", "classes": ["tulips", "unicorn"]}, "classes=unicorn", "daisy"),
        ({"model": ["first", "second", "a", "b", "c"]}, "model=c", "up to 4 models"),
    ],
)
def test_invalid_query_parameters_are_reported(query: dict[str, str | list[str]], named: str, possible: str) -> None:
    (warning,) = opened(**query).warning
    line = warning.value.replace("\\", "")
    assert named in line
    assert possible in line
    assert "\n" not in line


def test_an_address_that_holds_what_there_is_gives_no_warning() -> None:
    chosen = {"sample": ["rose", "tulip"], "classes": ["tulips", "rocket"], "model": ["first", "second"]}
    assert not opened(**chosen, rows="One row per class of an image", scale="Shared").warning


def test_a_link_with_the_earlier_name_of_the_scale_is_read() -> None:
    app = opened(sample="tulip", scale="Per cell", opacity="35")
    assert not app.warning
    look = {"colormap": "viridis", "opacity": 0.35, "threshold": 0.0, "scale": "cell"}
    assert look.items() <= shown(app)["look"].items()


def test_classes_of_one_picture_are_rows() -> None:
    app = opened(rows="One row per class of an image", sample="tulip", classes=["tulips", "tulip", "rocket"])
    assert [row["title"] for row in shown(app)["rows"]] == ["tulips", "tulip", "rocket"]
    # The first model has no rocket: it says so in its place, and the second is shown.
    assert "no class rocket" in texts(app)
    assert "rocket · " in texts(app)


def test_classes_start_with_the_models_own_first_choices() -> None:
    app = opened(rows="One row per class of an image", sample="tulip")
    image = swin_core.read_image(choices.sample_images()["tulip"])
    for name in ("first", "second"):
        model = swin_core.load(name)
        assert model.labels[int(model.predict([image])[0].argmax())].split("<")[0] in texts(app)


def test_one_class_can_be_named_for_each_picture() -> None:
    app = opened(rows="One row per image (chosen class)", sample=["rose", "tulip"])
    # What a sample shows is the class to start with.
    assert [app.selectbox(key=f"class{number}").value for number in (1, 2)] == ["rose", "tulip"]
    app.selectbox(key="class1").set_value("rocket")
    assert "no class rocket" in texts(run(app))


def test_a_layer_can_be_chosen(page: AppTest) -> None:
    layers = page.selectbox(key="layer").options
    assert len(layers) > 2
    page.selectbox(key="layer").set_value(layers[-1])
    assert all(cell["map"] for cell in cells(run(page)))


def test_nothing_chosen_says_what_to_do(page: AppTest) -> None:
    choose(page, "model", [])
    assert "Choose a model" in run(page).info[0].value


def test_a_column_that_is_not_ready_says_so_and_the_others_stay() -> None:
    comparison = Comparison((ImageAndClass(picture()),), ("first", "second"), "gradcam", None)
    assert comparison.slow_models() == ["first", "second"]
    first, second = comparison.rows(waiting=["second"])[0].cells
    assert first.map is not None
    assert second.error == "Loading the model ..."
    cache.classifier("second")
    assert comparison.rows(waiting=["second"])[0].cells[1].error == "Explaining ..."
    assert comparison.rows()[0].cells[1].map is not None
    assert comparison.slow_models() == []
    # Nothing is taken back when another image is added.
    more = Comparison(
        (ImageAndClass(picture()), ImageAndClass(picture("rose", "another"))), ("second",), "gradcam", None
    )
    assert [row.cells[0].map is None for row in more.rows(waiting=["second"])] == [False, True]


def test_pictures_of_one_name_are_told_apart(page: AppTest) -> None:
    uploader = page.file_uploader(key="uploads_0")
    uploader.upload("a.jpg", photo()).upload("a.jpg", photo(quality=30))
    assert [row["title"] for row in shown(run(page))["rows"]][:2] == ["a.jpg", "a.jpg (2)"]


# -- speed and memory


def test_a_changed_look_explains_nothing_again(calls: list[str]) -> None:
    app = opened(sample="tulip")
    assert calls == ["first", "second"]
    before = shown(app)
    for opacity in (10, 90):
        app.query_params["opacity"] = str(opacity)
        run(app)
    assert calls == ["first", "second"]
    after = shown(app)
    assert after["look"]["opacity"] == 0.9
    assert after["rows"] == before["rows"]


def test_a_second_session_finds_everything(calls: list[str]) -> None:
    opened(sample="tulip")
    opened(sample="tulip")
    assert calls == ["first", "second"]


def test_four_sessions_at_once_get_what_they_would_get_alone(
    no_hooks_left: Callable[[torch.nn.Module], Callable[[], int]],
) -> None:
    image = picture()
    no_hooks_left(cache.classifier("first").model)
    model = cache.classifier("first")
    alone = [swin_core.explain(model, image.pil, [target], "gradcam").maps for target in range(4)]
    found: list[np.ndarray | None] = [None] * 4

    def session(target: int) -> None:
        found[target] = cache.explanation(Request("first", image, (target,), "gradcam", None)).maps

    threads = [threading.Thread(target=session, args=(target,)) for target in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, alone, strict=True):
        assert one is not None
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


# -- uploads


def test_uploads_are_explained_and_take_the_place_of_the_first_sample(page: AppTest) -> None:
    page.file_uploader(key="uploads_0").upload("mine.jpg", photo()).upload("other.jpg", photo(quality=50))
    assert all(name in texts(run(page)) for name in ("mine.jpg", "other.jpg"))
    assert "tulip.jpg" not in texts(page)
    assert "Uploaded images are not part of it" in " ".join(caption.value for caption in page.caption)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.png", b"this is no image"),
        ("empty.jpg", b""),
        ("cut.jpg", photo()[:400]),
        ("drawing.png", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        ("<img src=x onerror=alert(1)>.png", b"GIF89a"),
    ],
)
def test_a_file_that_is_no_picture_is_one_line_and_the_others_stay(page: AppTest, name: str, content: bytes) -> None:
    page.file_uploader(key="uploads_0").upload(name, content).upload("good.jpg", photo())
    assert "good.jpg" in texts(run(page))
    (error,) = page.error
    assert "\n" not in error.value
    assert theme.escape_markdown(name) in error.value
    assert "<img" not in error.value.replace("\\<img", "")


def test_a_picture_of_400_megapixels_is_refused_at_once(page: AppTest) -> None:
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")
    page.file_uploader(key="uploads_0").upload("bomb.png", stream.getvalue())
    start = time.perf_counter()
    assert "bomb" in run(page).error[0].value
    assert time.perf_counter() - start < 5


def test_files_of_the_grid_hold_nothing_of_the_uploads_metadata() -> None:
    place = Image.Exif()
    place.get_ifd(GPS)[1] = "N"
    place.get_ifd(GPS)[29] = "1999:12:31"
    place[0x010E] = "SECRET GARDEN"
    content = photo(exif=place)
    assert b"1999:12:31" in content
    image = swin_core.read_image(content)
    line = ImageAndClass(InputImage("key", "mine.jpg", image, np.asarray(image)))
    drawn = Grid(tuple(Comparison((line,), ("first",), "gradcam", None).rows()), ("first",))
    for kind in KINDS:
        written = encode(drawn, kind)
        assert b"1999:12:31" not in written
        assert b"SECRET" not in written
    assert "1999:12:31" not in viewer_html(drawn)
    assert not Image.open(io.BytesIO(encode(drawn, "png"))).getexif()


# -- names of models


@pytest.mark.parametrize("content", [b"", b"some text", b"cos\nsystem\n(S'touch ran'\ntR."])
def test_a_file_that_is_no_weights_file_is_one_line_and_takes_no_column(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(choices, "ROOT", tmp_path)
    shutil.copytree(ROOT / "assets" / "samples", tmp_path / "assets" / "samples")
    (tmp_path / "broken.pth").write_bytes(content)
    app = opened(model=["first", "broken.pth"], sample="tulip")
    (error,) = app.error
    assert error.value.replace("\\", "").startswith("broken.pth has no column: 'broken.pth' is ")
    assert "first" in texts(app)
    assert "broken" not in json.dumps(shown(app))
    alone = opened(model=["broken.pth"], sample="tulip")
    assert [box.value for box in alone.error] == [error.value]
    assert "Choose a model above" in alone.info[0].value
    assert not (tmp_path / "ran").exists()


def test_without_a_network_a_line_says_what_to_do_and_the_page_does_not_try_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[str] = []

    load = swin_core.load

    def offline(name: str) -> swin_core.Classifier:
        tried.append(name)
        if name.startswith("timm/"):
            raise ModelError(f"the weights of {name} could not be fetched; choose a bundled model.")
        return load(name)

    monkeypatch.setattr(swin_core, "load", offline)
    app = opened(model=["first", "timm/resnet18"])
    assert "choose a bundled model" in app.error[0].value.replace("\\", "")
    assert "magnitude" in texts(app)
    run(app)
    assert tried == ["first", "timm/resnet18"]


def test_a_model_can_be_added_by_its_name(page: AppTest) -> None:
    page.text_input(key="more").set_value("  nowhere.pth ")
    assert run(page).query_params["model"] == ["first", "second", "nowhere.pth"]
    assert "there is no model nowhere.pth" in page.error[0].value.replace("\\", "")
    assert page.text_input(key="more").value == ""


def test_a_fifth_model_replaces_none_and_is_refused_with_one_line() -> None:
    names = ["first", "second", "a.pth", "b.pth"]
    app = opened(model=names)
    app.text_input(key="more").set_value("c.pth")
    assert run(app).query_params["model"] == names
    (warning,) = app.warning
    assert "remove one first, then add c" in warning.value
    assert run(app).warning  # until it is dismissed
    app.button(key="dismiss_models").click()
    assert not run(app).warning


def test_a_fault_nobody_thought_of_stays_in_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    explain = swin_core.explain

    def fragile(classifier: swin_core.Classifier, *args: Any, **options: Any) -> swin_core.Explanation:
        if classifier.name == "second":
            raise RuntimeError("something deep inside")
        return explain(classifier, *args, **options)

    monkeypatch.setattr(swin_core, "explain", fragile)
    app = opened()
    assert "failed unexpectedly (RuntimeError)" in texts(app)
    assert "magnitude" in texts(app)


# -- text and theme


def test_names_of_classes_are_inert_on_the_page() -> None:
    app = opened(model="second")
    bars = " ".join(bar.text for bar in app.progress)
    assert "\\<img src\\=x onerror\\=alert\\(1\\)\\>" in bars
