"""Tests of the demo without a server."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from dashboard import gradio_demo
from dashboard.demo.answers import Demo, likeliest_classes, read_stroke
from dashboard.demo.page import page
from dashboard.demo.viewer import notice
from dashboard.shared.cache import classifier
from dashboard.shared.model_names import sample_images
from dashboard.shared.samples import first_models, first_sample
from dashboard.shared.theme import DARK, LIGHT
from swin_core.attribution.strokes import POINTS_AT_MOST, STROKES_AT_MOST
from swin_core.attribution.what_if import what_if
from swin_core.comparisons.compare import MODELS_AT_MOST
from swin_core.errors import ConfigError, ImageError, ModelError, SwinError
from swin_core.figures.viewer_payload import map_payload, viewer_payload
from tests.fixtures.demo import random_models
from tests.fixtures.pages import FLOWERS, OTHERS, empty_caches

ROOT = Path(__file__).resolve().parents[3]
MANY = ("hostile", *(f"model{number}" for number in range(7)))

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _own_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    empty_caches(monkeypatch)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight models, more than the cache holds."""
    place = tmp_path_factory.mktemp("demo")
    random_models(place, **{name: OTHERS if name == "hostile" else FLOWERS for name in MANY})
    return place / "runs"


@pytest.fixture
def demo(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Demo:
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(runs))
    folder = tmp_path / "uploads"
    folder.mkdir()
    return Demo(MANY, folder)


def upload(demo: Demo, picture: Image.Image | bytes, name: str = "photo.png") -> dict[str, Any]:
    content = picture
    if isinstance(picture, Image.Image):
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        content = stream.getvalue()
    assert isinstance(content, bytes)
    file = demo.new_file(name)
    file.write_bytes(content)
    return {"path": str(file), "orig_name": name}


@pytest.fixture
def tulip(demo: Demo, samples: dict[str, Path]) -> dict[str, Any]:
    return upload(demo, samples["tulip"].read_bytes(), "tulip.jpg")


def test_class_and_file_names_are_data(demo: Demo, samples: dict[str, Path]) -> None:
    """Names that are markup reach the viewer as JSON, which it sets as text, and messages escaped."""
    sent = upload(demo, samples["tulip"].read_bytes()) | {"orig_name": '"><script>alert(1)</script>.jpg'}
    answer = demo.answer(sent, ["hostile", "model0"], OTHERS[4])
    payload = json.loads(json.dumps(viewer_payload(answer.grid)))
    (row,) = payload["rows"]
    assert row["title"] == "script>.jpg"
    assert OTHERS[4] in row["cells"][0]["headline"]
    assert row["cells"][1]["error"] == f"this model has no class {OTHERS[4]}."
    assert "<img" not in notice(OTHERS[4])


def test_likeliest_classes_come_in_order(demo: Demo, tulip: dict[str, Any]) -> None:
    answer = demo.answer(tulip, ["model1"])
    found = answer.cells[0].explanation
    assert found is not None
    named = likeliest_classes(answer.cells[0])
    assert sorted(named, key=lambda one: -one[1]) == named
    assert dict(named) == pytest.approx(dict(zip(found.labels, found.probabilities.tolist(), strict=True)))
    assert answer.grid.rows[0].truth == "tulip"


def test_the_demo_opens_on_right_predictions(demo: Demo) -> None:
    """The bundled models and the sample that the page shows at first."""
    models = first_models()
    content = sample_images()[first_sample(models)].read_bytes()
    answer = Demo(tuple(models), demo.folder).answer(upload(demo, content), models)
    for cell in viewer_payload(answer.grid)["rows"][0]["cells"]:
        assert cell["classes"][0]["right"] is True


def test_a_fifth_model_cannot_be_chosen(demo: Demo) -> None:
    """Gradio closes the list at four models; `demo` offers eight."""
    lists = [block for block in page(demo).blocks.values() if getattr(block, "label", "") == "Models, up to 4"]
    assert [block.max_choices for block in lists] == [MODELS_AT_MOST]  # type: ignore[attr-defined]
    assert len(demo.models) > MODELS_AT_MOST


def test_large_images_are_reduced(demo: Demo) -> None:
    steps = np.linspace(0, 255, 4096).astype(np.uint8)
    large = Image.fromarray(np.stack([np.tile(steps, (2300, 1))] * 3, 2))
    held = demo.picture(upload(demo, large)).pil
    assert held.size == (2048, 1150)
    np.testing.assert_allclose(np.asarray(held)[5, :, 0], (steps[::2].astype(float) + steps[1::2]) / 2, atol=1)
    small = Image.fromarray(np.asarray(large)[:1500, :1500])
    np.testing.assert_array_equal(np.asarray(demo.picture(upload(demo, small)).pil), np.asarray(small))


def test_files_of_answers_have_separate_folders(demo: Demo) -> None:
    first, second = demo.new_file("a.png"), demo.new_file("a.png")
    assert first != second
    assert first.parent.parent == second.parent.parent == demo.folder


@pytest.mark.parametrize(
    "name", ["../model0", "/etc/passwd", "model0/../model1", "a\0b", "nobody", "timm/resnot50", ""]
)
def test_an_invalid_model_is_refused_before_the_start(
    demo: Demo, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError):
        Demo((name,), demo.folder)
    assert gradio_demo.main(["--models", "model0", name]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("auth", ["guest", "guest:", ":secret", ":", ""])
def test_an_invalid_login_is_refused_in_one_line(auth: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert gradio_demo.main(["--auth", auth]) == 1
    said = capsys.readouterr().err
    assert "a user and a password with a colon between them" in said
    assert said.count("\n") == 1


def test_damaged_weights_are_refused_before_the_start(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(tmp_path))
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "config.json").write_text("{}")
    whole = (runs / "model0" / "model.safetensors").read_bytes()
    (tmp_path / "short" / "model.safetensors").write_bytes(whole[:-100])
    assert gradio_demo.main(["--models", "short"]) == 1
    assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize("sent", [None, {}, {"path": None}, {"path": ""}, {"path": 3}, "photo.png"])
def test_a_missing_upload_is_reported(demo: Demo, sent: Any) -> None:
    with pytest.raises(ImageError, match="there is no image"):
        demo.picture(sent)


def test_files_outside_the_folder_are_not_opened(demo: Demo, samples: dict[str, Path]) -> None:
    link = demo.new_file("link.jpg")
    link.symlink_to(samples["cat"])
    beside = demo.folder.parent / f"{demo.folder.name}2"
    beside.mkdir()
    (beside / "cat.jpg").write_bytes(samples["cat"].read_bytes())
    inside = demo.new_file("cat.jpg")
    inside.write_bytes(samples["cat"].read_bytes())
    for path in (samples["cat"], link, beside / "cat.jpg", demo.folder / ".." / beside.name / "cat.jpg", "/dev/zero"):
        with pytest.raises(ImageError, match="must be an upload"):
            demo.picture({"path": str(path)})
    assert demo.picture({"path": str(inside)}).truth == "cat"


STROKES = "b200-500.400-600.600_r-100.100-300.200"


@pytest.mark.parametrize("fill", ["blur", "neighbours"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_painted_region_is_answered_as_what_if_does(demo: Demo, tulip: dict[str, Any], fill: str, keep: bool) -> None:
    painted = read_stroke(tulip, {"row": 0, "strokes": STROKES, "fill": fill, "keep": keep, "time": 7})
    payload = demo.answer(tulip, ["model0", "model1"], "", "gradcam", painted).payload()
    (row,) = payload["rows"]
    mask = painted.edit.strokes.mask(*demo.picture(tulip).pil.size[::-1])
    for name, cell in zip(("model0", "model1"), row["cells"], strict=True):
        expected = what_if(classifier(name), demo.picture(tulip).pil, mask, method="gradcam", fill=fill, keep=keep)
        assert cell["map"] == map_payload(expected.after.maps[0, 0])
        for entry in cell["classes"]:
            index = expected.after.labels.index(entry["label"])
            assert entry["probability"] == pytest.approx(float(expected.after.probabilities[index]))
            assert entry["before"] == pytest.approx(float(expected.before.probabilities[index]))
    assert (row["brush"]["strokes"], row["brush"]["fault"]) == (painted.edit.strokes.vectors(), "")
    assert row["brush"]["time"] == 7


def test_a_region_is_replaced_in_its_own_image_only(
    demo: Demo, tulip: dict[str, Any], samples: dict[str, Path]
) -> None:
    painted = read_stroke(tulip, {"strokes": STROKES, "fill": "mean", "keep": False})
    cat = upload(demo, samples["cat"].read_bytes(), "cat.jpg")
    brushes = [demo.answer(sent, ["model0"], None, "gradcam", painted).payload()["rows"][0] for sent in (tulip, cat)]
    assert [len(row["brush"]["strokes"]) for row in brushes] == [2, 0]
    assert brushes[1]["cells"][0]["classes"][0]["before"] is None


def test_a_region_that_cannot_be_replaced_is_reported_under_the_image(demo: Demo, tulip: dict[str, Any]) -> None:
    painted = read_stroke(tulip, {"strokes": "r-0.0-1000.1000", "fill": "blur", "keep": True})
    (row,) = demo.answer(tulip, ["model0"], None, "gradcam", painted).payload()["rows"]
    assert row["brush"]["fault"] == "the mask leaves nothing to replace; mark a part of the image."
    assert row["brush"]["strokes"]  # so that the stroke can be undone
    assert row["cells"][0]["map"]


@pytest.mark.parametrize(
    ("stroke", "message"),
    [
        ({}, "a stroke has its text"),
        ({"strokes": ["b9-1.1"], "fill": "blur"}, "a stroke has its text"),
        ({"strokes": "b9-1.1", "fill": ["blur"]}, "a stroke has its text"),
        ({"strokes": "b9-1.1", "fill": "magic"}, "not 'magic'"),
        ({"strokes": "<img src=x>", "fill": "blur"}, "a region is written as strokes"),
        ({"strokes": "b9-1.1001", "fill": "blur"}, "are 0 to 1000"),
        ({"strokes": "_".join(["b9-1.1"] * (STROKES_AT_MOST + 1)), "fill": "blur"}, "paint it with fewer"),
        ({"strokes": "b9" + "-1.1" * (POINTS_AT_MOST + 1), "fill": "blur"}, "paint it with fewer"),
        ({"strokes": "b" + "9" * 10**6, "fill": "blur"}, "a region is written as strokes"),
    ],
)
def test_what_no_brush_sends_is_refused(stroke: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        read_stroke({"path": "photo.png"}, stroke)
    assert len(str(error.value)) < 200


def test_changing_models_does_not_leak_memory(demo: Demo, samples: dict[str, Path]) -> None:
    """Use eight models in turn, of which six are cached, so that each change loads one."""
    sent = upload(demo, samples["cat"].read_bytes())

    def change(times: int) -> int:
        for number in range(times):
            viewer_payload(demo.answer(sent, [MANY[number % 8]], None, "gradcam").grid)
        return psutil.Process().memory_info().rss

    before = change(16)
    # A model takes some 10 MiB: were they all kept, forty would take 400 MiB.
    assert change(40) - before < 100 * 2**20


def test_dashboard_and_demo_share_one_palette() -> None:
    config = tomllib.loads((ROOT / "dashboard" / ".streamlit" / "config.toml").read_text())["theme"]
    for palette, shown in ((LIGHT, config["light"]), (DARK, config["dark"])):
        assert {name: shown[name] for name in palette} == palette


def test_the_space_is_complete() -> None:
    """The front matter is valid, and the requirements are the project's."""
    text = (ROOT / "docs" / "space" / "README.md").read_text()
    front = dict(line.split(": ", 1) for line in text.split("---\n")[1].splitlines())
    assert front["sdk"] == "gradio"
    assert (ROOT / "docs" / "space" / front["app_file"]).is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"], *extras["train"], *extras["demo"]]
    listed += (ROOT / "requirements.txt").read_text().splitlines()
    for line in (ROOT / "docs" / "space" / "requirements.txt").read_text().splitlines():
        if line and not line.startswith(("#", "--")):
            assert line in listed
    assert f"gradio>={front['sdk_version'].removesuffix('.0')}" in listed


def test_errors_of_explain_are_raised(demo: Demo) -> None:
    with pytest.raises(SwinError, match="single colour"):
        demo.answer(upload(demo, Image.new("RGB", (50, 50), "red")), ["model0"])


def test_equal_uploads_are_decoded_once(demo: Demo, tulip: dict[str, Any]) -> None:
    again = dict(tulip)
    assert demo.picture(tulip) is demo.picture(again)
    key = demo.picture(tulip).key
    assert key == (hashlib.sha256(Path(tulip["path"]).read_bytes()).hexdigest(), "tulip.jpg")


def test_the_idle_queue_polls_twenty_times_a_second(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run Gradio's own loop with a replaced `asyncio.sleep`: each pause is 50 ms."""
    pauses: list[float] = []
    queue = page(demo)._queue

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            queue.close()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(queue.start_processing())
    assert pauses == [0.05] * 3
