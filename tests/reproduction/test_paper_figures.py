"""The report's figures, drawn by us: what they show is what runs and cards say, and nothing is cut off."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import matplotlib.text
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

import swin_core
from scripts import figures as command
from swin_core.comparisons.compare import Missing, class_grid
from swin_core.data.folders import image_folder
from swin_core.errors import ConfigError, ModelError
from swin_core.reproduction.paper_figures import REPORT, curves, sample_sheet, saved_models, trained_model
from swin_core.training import recipe
from swin_core.trust.assess import assess
from swin_core.weights.files import save_weights
from swin_core.zoo.load import ASSETS
from tests.conftest import FLOWERS

pytestmark = pytest.mark.usefixtures("one_thread")
LINES = [
    {"epoch": 1, "train_loss": 3.0, "loss": 2.5, "top1": 0.25, "top5": None, "seconds": 1.0},
    {"epoch": 2, "train_loss": 2.0, "loss": 1.5, "top1": 0.5, "top5": None, "seconds": 1.0},
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of a name that no column has room for."""
    config = recipe("custom", data=str(tmp_path / "pictures"), name="a" * 64, init=str(tmp_path / ("b" * 64)))
    folder = swin_core.runs.create(config.to_dict(), tmp_path / "runs")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    scale = {"mean": [0.5] * 3, "std": [0.5] * 3, "labels": ["one", "two"]}
    save_weights(swin_core.build("swin_nano", num_classes=2), folder / "model.safetensors", scale)
    return folder


def pictures(folder: Path, classes: int, each: int) -> swin_core.data.dataset.DataSet:
    for number in range(classes * each):
        file = folder / f"class_{number % classes:02}" / f"{number // classes}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8), (number, 2 * (number % 100), 0)).save(file)
    return image_folder(folder)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text() and text.get_visible()]


def check_that_nothing_is_cut(figure: Figure) -> None:
    """Every text lies in the figure, and none on another; ticks are matplotlib's own, and some are not drawn."""
    FigureCanvasAgg(figure).draw()
    ticks = {id(label) for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    boxes = [
        (text.get_text(), text.get_window_extent())
        for text in figure.findobj(matplotlib.text.Text)
        if text.get_text() and text.get_visible() and id(text) not in ticks
    ]
    for text, box in boxes:
        assert figure.bbox.contains(*box.min), text
        assert figure.bbox.contains(*box.max), text
    for (one, first), (other, second) in combinations(boxes, 2):
        shared = Bbox.intersection(first, second)
        assert shared is None or min(shared.width, shared.height) < 1.5, (one, other)


def lines_of(figure: Figure, panel: int) -> list[list[float]]:
    return [list(map(float, line.get_ydata())) for line in figure.axes[panel].get_lines()]


def test_curves_are_the_cards_figures_beside_the_reports() -> None:
    card = json.loads((ASSETS / "swin_micro_cifar100.json").read_text())["epochs"]
    figure = curves([trained_model("swin_micro_cifar100")])
    expected = {key: [line[key] for line in card] for key in ("train_loss", "loss", "top1", "top5")}
    assert lines_of(figure, 0) == [expected["train_loss"], expected["loss"], [2.5975, 2.5975]]
    for panel, key in ((1, "top1"), (2, "top5")):
        own, report = lines_of(figure, panel)
        np.testing.assert_allclose(own, 100 * np.array(expected[key]))
        np.testing.assert_allclose(report, 100 * REPORT[key])
    assert {"report, test: 46.04 %", "report, test: 76.03 %", "report, test: 2.5975"} <= set(words(figure))
    check_that_nothing_is_cut(figure)


def test_several_models_share_the_panels_without_the_report_of_other_images(run: Path) -> None:
    own, flowers = trained_model(run.name, run.parent), trained_model("swin_micro_flowers")
    figure = curves([flowers, own])
    assert lines_of(figure, 0)[2:] == [[3.0, 2.0], [2.5, 1.5]]
    assert lines_of(figure, 1)[1] == [25.0, 50.0]
    assert lines_of(figure, 2) == []  # below six classes there is no top-5
    assert not [text for text in words(figure) if "report" in text]
    with pytest.raises(ConfigError, match="1 to 8 models, not for 9"):
        curves([own] * 9)


def test_saved_models_have_size_and_hash_of_their_files(run: Path) -> None:
    models = [trained_model("swin_micro_cifar100"), trained_model("swin_micro_flowers"), trained_model(str(run))]
    figure = saved_models(models)
    shown = words(figure)
    for model in models:
        content = model.weights.read_bytes()
        assert hashlib.sha256(content).hexdigest()[:12] in shown
        assert f"{len(content) / 1e6:.1f} MB" in shown
    assert {"64.60 %", "88.35 %", "87.64 %", "50.00 %", "random weights", "swin_micro_cifar100"} <= set(shown)
    tuned = [line for line in lines_of(figure, len(figure.axes) - 1) if len(line) > 1]
    assert tuned[-1] == [25.0, 50.0]
    check_that_nothing_is_cut(saved_models(models[:2]))
    check_that_nothing_is_cut(saved_models([replace(models[2], name="a" * 64)]))


def test_what_tells_nothing_of_its_training_is_one_line(run: Path, tmp_path: Path) -> None:
    save_weights(swin_core.build("swin_nano"), tmp_path / "plain.safetensors")
    with pytest.raises(ModelError, match="neither a bundled model nor a run"):
        trained_model(str(tmp_path / "plain.safetensors"))
    (run / "metrics.jsonl").unlink()
    with pytest.raises(ModelError, match="no finished epoch"):
        trained_model(str(run))


@pytest.mark.parametrize(("classes", "each", "count"), [(3, 4, 6), (12, 2, 12)])
def test_a_sheet_shows_every_class(classes: int, each: int, count: int, tmp_path: Path) -> None:
    """Of few classes a row of two images each, of many classes one image each."""
    data = pictures(tmp_path / "pictures", classes, each)
    figure = sample_sheet(data, columns=2)
    drawn = [np.asarray(axes.get_images()[0].get_array()) for axes in figure.axes]
    assert len(drawn) == count
    assert all(pixels.shape == (8, 8, 3) for pixels in drawn)  # the square in the middle
    colours = [tuple(pixels[4, 4]) for pixels in drawn]
    labels = [
        int(data.labels[index]) for colour in colours for index in range(len(data)) if first(data, index) == colour
    ]
    assert labels == sorted([*range(classes)] * (count // classes))
    assert words(figure) == [name.replace("_", " ") for name in data.classes]
    check_that_nothing_is_cut(figure)


def first(data: swin_core.data.dataset.DataSet, index: int) -> tuple[int, ...]:
    return tuple(np.asarray(data.image(index))[0, 0])


def test_each_cell_has_the_trust_of_its_map(samples: dict[str, Path]) -> None:
    model = swin_core.build("swin_nano", num_classes=len(FLOWERS), image_size=32)
    classifier = swin_core.Classifier(model, FLOWERS, (0.5,) * 3, (0.5,) * 3, 32, name="small")
    rose, cat = (swin_core.read_image(samples[name]) for name in ("rose", "cat"))
    seen: list[tuple[int, int]] = []
    rows = [("A rose", rose, "rose"), ("cat", cat, ""), ("cat", cat, "cat")]
    columns = [classifier, Missing("far", "no model")]
    drawn = class_grid(rows, columns, progress=lambda done, count: seen.append((done, count)))
    own = swin_core.explain(classifier, rose, 2)
    (expected,) = assess(classifier, own.view, own.maps[0], own.targets)
    cell = drawn.rows[0].cells[0]
    np.testing.assert_array_equal(cell.map, own.maps[0, 0])
    assert cell.trust == expected
    assert f"Map check: {expected.check}" == drawn.caption(drawn.rows[0], cell).badge
    choice = drawn.rows[1].cells[0]
    assert choice.explanation is not None
    assert choice.explanation.targets[0] == int(choice.explanation.probabilities.argmax())
    assert [drawn.rows[2].cells[0].error, *(row.cells[1].error for row in drawn.rows)] == [
        "small has no class 'cat'; it knows daisy, dandelion, roses, sunflowers, tulips, or use an index.",
        *["no model"] * 3,
    ]
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize("suffix", ["png", "jpg", "pdf", "svg"])
def test_the_command_writes_the_kinds_that_it_names(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"figure.{suffix}"
    status = command.main(["curves", "swin_micro_cifar100", "--out", str(out)])
    if suffix == "svg":
        assert status == 1
        assert capsys.readouterr().err == (
            "figures.py: a figure cannot be written as 'figure.svg': name a file .png, .jpg, .pdf.\n"
        )
        return
    assert (status, capsys.readouterr().out) == (0, f"{out}\n")
    marks = {"png": b"\x89PNG", "jpg": b"\xff\xd8", "pdf": b"%PDF"}
    assert out.read_bytes().startswith(marks[suffix])


def test_the_command_draws_the_grid_and_answers_mistakes(
    samples: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, model = tmp_path / "grid.jpg", ["--models", "swin_micro_cifar100"]
    drawn = tmp_path / "grid.json"
    titled = ["classes", f"rose={samples['rose']}", *model, "--titles", "Our Swin"]
    assert command.main([*titled, "--out", str(drawn)]) == 0
    written = json.loads(drawn.read_text("utf-8"))
    assert written["columns"] == ["Our Swin"]
    assert "'rose'" in written["rows"][0]["cells"][0]["trust"]["sentence"]
    assert command.main([*titled, "two", "--out", str(out)]) == 1
    assert "2 titles for 1 models" in capsys.readouterr().err
    assert command.main([*titled, "--out", str(out)]) == 0
    with Image.open(out) as picture:
        assert picture.size[0] > 400
    capsys.readouterr()
    assert command.main(["classes", "rose", *model, "--out", str(out)]) == 1
    assert "'rose' is not a row; write CLASS=IMAGE" in capsys.readouterr().err


def test_what_no_grid_can_be_drawn_of_leaves_no_file(
    samples: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, row = tmp_path / "grid.jpg", f"rose={samples['rose']}"
    assert command.main(["classes", row, "--models", "nowhere", "--out", str(out)]) == 1
    *_, first, last = capsys.readouterr().err.splitlines()  # below the bar
    assert first.startswith("rose, nowhere: there is no model 'nowhere'")
    assert last == f"figures.py: no map could be drawn, so {out} was not written; see the lines above."
    stages = ["classes", row, "--models", "swin_micro_cifar100", "--layer", "stages", "--out", str(out)]
    assert command.main(stages) == 1
    assert "a cell shows one map: name one layer, not stages." in capsys.readouterr().err
    # The suffix is looked at first, before minutes of work, and even before the images.
    assert command.main(["classes", "rose=none.jpg", "--models", "nowhere", "--out", str(tmp_path / "grid")]) == 1
    assert capsys.readouterr().err == (
        "figures.py: a figure cannot be written as 'grid': name a file .jpg, .png, .pdf, .svg, .npz, .json, .html.\n"
    )
    assert not [*tmp_path.iterdir()]


def test_a_figure_that_is_missing_leaves_its_place_empty(run: Path) -> None:
    """A loss that is no number is written as null."""
    (run / "metrics.jsonl").write_text(json.dumps({**LINES[0], "loss": None}) + "\n")
    assert "25.00 %" in words(saved_models([trained_model(str(run))]))
