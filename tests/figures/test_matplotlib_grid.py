"""The grid of heat maps: its colours, its numbers, its captions, and its files."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from pypdf import PdfReader

from swin_core.attribution.overlay import COLORMAPS, DIVERGING, Look, color_scale, overlay
from swin_core.attribution.regions import bilinear
from swin_core.errors import ConfigError
from swin_core.figures.files import encode, save
from swin_core.figures.grid import Cell, Grid, Row
from swin_core.figures.matplotlib_grid import matplotlib_figure
from swin_core.figures.plotly_grid import page_layout, plotly_figure
from swin_core.figures.text import percent, shorten, wrap
from swin_core.trust.similarity import agreement
from tests.fixtures.grids import Make, heat_maps, maker, one_row, values_of

ROOT = Path(__file__).resolve().parents[2]
ATTACK = "<img src=x onerror=alert(1)>"


@pytest.fixture
def make() -> Make:
    return maker()


# -- rendering


@pytest.mark.parametrize(("source", "target"), [((7, 7), (224, 224)), ((4, 6), (33, 50)), ((1, 3), (9, 9))])
def test_enlarging_is_the_bilinear_interpolation_of_pytorch(source: tuple[int, int], target: tuple[int, int]) -> None:
    values = torch.rand(source)
    enlarged = torch.nn.functional.interpolate(values[None, None], target, mode="bilinear")[0, 0]
    np.testing.assert_allclose(bilinear(values.numpy(), *target), enlarged.numpy(), atol=1e-6)


def test_no_opacity_and_no_value_leave_the_picture(make: Make) -> None:
    found = make()
    values = found.maps[0, 0]
    assert (overlay(found.image, values, values.max(), Look(opacity=0)) == found.image).all()
    assert (overlay(found.image, np.zeros((7, 7)), 0, Look(opacity=1)) == found.image).all()


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_weight_is_opacity_times_value_and_nothing_below_the_threshold(colormap: str) -> None:
    """Uniform maps, so that every pixel must be the same known mixture."""
    picture = np.full((8, 8, 3), 100, np.uint8)
    for value in (0.1, 0.39, 0.41, 1.0):
        drawn = overlay(picture, np.full((2, 2), 3 * value), 3, Look(colormap, 0.5, 0.4))
        color = 255 * np.array(matplotlib.colormaps[colormap](np.float32(value))[:3])
        share = 0.5 * value if value > 0.4 else 0
        np.testing.assert_allclose(drawn[0, 0], 100 * (1 - share) + color * share, atol=1)
        assert (drawn == drawn[0, 0]).all()


def test_lightness_of_every_colour_map_rises() -> None:
    """So that grey printing and colour blindness keep the order."""
    for name in (*COLORMAPS, DIVERGING):
        colors = matplotlib.colormaps[name] if isinstance(name, str) else name
        luminance = colors(np.linspace(0, 1, 64))[:, :3] @ [0.2126, 0.7152, 0.0722]
        assert (np.diff(luminance) > 0).all(), name


def test_browser_gets_the_same_colours_and_weights() -> None:
    look = Look("cividis", 0.7, 0.3)
    stops = color_scale(look)
    positions = [position for position, _ in stops]
    assert positions == sorted(positions)
    assert (positions[0], positions[-1]) == (0, 1)
    for position, text in stops:
        r, g, b, alpha = map(float, re.findall(r"[\d.]+", text))
        expected = 255 * np.array(matplotlib.colormaps["cividis"](position)[:3])
        np.testing.assert_allclose([r, g, b], expected, atol=1)
        assert alpha == pytest.approx(0.7 * position if position >= 0.3 else 0, abs=1e-3)
    below, at = (next(p for p in positions[::-1] if p < 0.3), next(p for p in positions if p >= 0.3))
    assert at - below < 1e-6, "the edge at the threshold is not sharp"


@pytest.mark.parametrize("wrong", [{"colormap": "jet"}, {"opacity": 1.1}, {"threshold": 1.0}, {"scale": "log"}])
def test_settings_outside_their_range_are_refused(wrong: dict[str, float | str]) -> None:
    with pytest.raises(ConfigError) as error:
        one_row(Cell(None), **wrong)
    assert "\n" not in str(error.value)


def test_a_row_needs_one_cell_a_column() -> None:
    with pytest.raises(ConfigError, match="2 cells for 1 columns"):
        Grid((Row("x", np.zeros((4, 4, 3), np.uint8), [Cell(None), Cell(None)]),), ("only one",))


# -- agreement


def test_agreement_is_scipys_spearman_with_ties(make: Make) -> None:
    first, second = make(), make()
    tied = replace(second, maps=np.round(second.maps))
    matrix = one_row(Cell(first), Cell(tied)).agreement()[0]
    expected = scipy.stats.spearmanr(first.maps.ravel(), tied.maps.ravel()).statistic
    assert matrix[0, 1] == matrix[1, 0] == pytest.approx(expected)
    assert matrix[0, 0] == pytest.approx(1)


def test_agreement_of_different_grids_and_of_nothing() -> None:
    ramp = np.linspace(0, 1, 4)[:, None] * np.ones((1, 4))
    fine = np.linspace(0, 5, 16)[:, None] * np.ones((1, 16))
    assert agreement(ramp, fine**2) > 0.98
    assert agreement(ramp, -fine) < -0.98
    assert np.isnan(agreement(ramp, np.ones((4, 4))))


def test_a_cell_without_a_map_agrees_with_nothing(make: Make) -> None:
    matrix = one_row(Cell(make()), Cell(None, error="no")).agreement()[0]
    assert np.isnan(matrix[0, 1])
    assert np.isnan(matrix[1, 1])


# -- text


@pytest.mark.parametrize(
    "text",
    [
        "timm/swinv2_base_window12to24_192to384.ms_in22k_ft_in1k",
        "bald eagle, American eagle, Haliaeetus leucocephalus",
        "x" * 90,
        "天竺葵科天竺葵属植物的一种",
        "",
    ],
)
def test_wrapping_keeps_every_character_and_the_width(text: str) -> None:
    lines = wrap(text, 20)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(sum(2 if ord(letter) > 0x2E80 else 1 for letter in line) <= 20 for line in lines)


def test_a_percentage_stays_in_one_piece() -> None:
    assert [percent(value) for value in (0.93, 0.997, 1, 0.042, 0.0001)] == [
        text.replace(" ", "\N{NO-BREAK SPACE}") for text in ("93 %", "99.7 %", "100 %", "4.2 %", "<0.1 %")
    ]
    assert wrap(f"abcdefgh {percent(0.93)}", 10) == ["abcdefgh", percent(0.93)]


def test_caption_says_class_probability_magnitude_and_other_prediction(make: Make) -> None:
    found = make(predicted=1, target=0)
    caption = one_row(Cell(found)).caption(Row("", found.image, []), Cell(found))
    assert caption.headline == f"daisy · {percent(float(found.probabilities[0]))}"
    assert f"magnitude {found.maps.max():.3g}" in caption.notes
    assert f"predicts dandelion · {percent(float(found.probabilities[1]))}" in caption.notes


def test_an_empty_map_says_so_in_its_caption(make: Make) -> None:
    found = make()
    empty = one_row(Cell(replace(found, maps=np.zeros_like(found.maps))))
    notes = empty.caption(empty.rows[0], empty.rows[0].cells[0]).notes
    assert notes == ("empty map: zero everywhere",)


def test_a_long_name_is_cut_in_its_middle() -> None:
    name = "timm/" + "x" * 40 + ".in1k"
    assert len(shorten(name)) == 40
    assert re.fullmatch(r"timm/x+…x+\.in1k", shorten(name))
    assert shorten(name[:40]) == name[:40]
    drawn = Grid((Row("", np.zeros((4, 4, 3), np.uint8), [Cell(None, error="no")]),), (name,))
    assert name not in plotly_figure(drawn).layout.annotations[1].text.replace("<br>", "")
    assert json.loads(encode(drawn, "json"))["columns"] == [name]


@pytest.mark.parametrize(
    ("truth", "mark"), [("rose", "✓ right"), ("Dandelion", "✗ wrong: it is Dandelion"), ("lion", ""), ("", "")]
)
def test_right_and_wrong_are_marked_only_where_the_model_can_know(make: Make, truth: str, mark: str) -> None:
    found = make(predicted=2)
    shown = one_row(Cell(found), truth=truth)
    notes = shown.caption(shown.rows[0], shown.rows[0].cells[0]).notes
    assert notes[1:] == ((mark,) if mark else ())
    other = make(predicted=2, target=0)
    notes = shown.caption(shown.rows[0], Cell(other)).notes
    assert notes[1].startswith("predicts roses · ")
    assert notes[1].endswith(mark)


# -- the browser's figure


def test_all_cells_zoom_together_and_keep_their_shape(make: Make) -> None:
    layout = plotly_figure(one_row(Cell(make()), Cell(make()))).to_plotly_json()["layout"]
    for axis in ("x", "y"):
        assert [layout[f"{axis}axis{number}"]["matches"] for number in (2, 3)] == [axis, axis]
    assert layout["yaxis"]["scaleanchor"] == "x"


def test_picture_of_a_cell_is_the_crop_that_was_explained(make: Make) -> None:
    found = make()
    picture = np.asarray(Image.fromarray(found.image).resize((4, 4)).resize((64, 64)))
    smooth = replace(found, image=picture)
    trace = [t for t in plotly_figure(one_row(Cell(smooth))).data if t.type == "image"][1]
    decoded = Image.open(io.BytesIO(base64.b64decode(trace.source.split(",")[1])))
    assert np.abs(np.asarray(decoded).astype(int) - smooth.image).mean() < 4
    # Half a pixel in from 0, and as many steps as there are pixels, so that it fills the cell.
    assert (trace.x0, trace.dx * 64) == (0.5 / 64, 1)


def test_pointer_shows_the_value_of_every_column(make: Make) -> None:
    shapes = [(7, 7), (4, 4), (3, 14)]
    cells = [Cell(make(shape=shape)) for shape in shapes]
    for trace, (height, width) in zip(heat_maps(one_row(*cells)), shapes, strict=True):
        for y in range(height):
            for x in range(width):
                for k, (other, (h, w)) in enumerate(zip(cells, shapes, strict=True)):
                    there = values_of(other)[int((y + 0.5) / height * h), int((x + 0.5) / width * w)]
                    assert trace.customdata[y, x, k] == pytest.approx(there)
        assert all(f"%{{customdata[{k}]" in trace.hovertemplate for k in range(3))


def test_pointer_says_where_there_is_no_map(make: Make) -> None:
    shown = one_row(Cell(make()), Cell(None, error="why not"))
    assert "model 1: no map" in heat_maps(shown)[0].hovertemplate


def test_scale_is_shared_or_of_the_cell_and_named_in_the_picture(make: Make) -> None:
    cells = [Cell(make()), Cell(make())]
    tops = [float(values_of(cell).max()) for cell in cells]
    shared, own = one_row(*cells, scale="shared"), one_row(*cells, scale="cell")
    assert [trace.zmax for trace in heat_maps(shared)] == [pytest.approx(max(tops))] * 2
    assert [trace.zmax for trace in heat_maps(own)] == [pytest.approx(top) for top in tops]
    assert f"scale: shared, 0 to {max(tops):.3g}" in plotly_figure(shared).to_json()
    assert "scale: per cell" in plotly_figure(own).to_json()


def test_names_from_outside_are_inert_in_the_browser(make: Make) -> None:
    """Plotly reads a little HTML, and fills %{...} in the text under the pointer with data."""
    found = make(labels=(ATTACK, "%{z} <b>bold</b>"))
    rows = (
        Row(ATTACK, found.image, [Cell(found)], ATTACK),
        Row("b", found.image, [Cell(None, error=ATTACK)]),
    )
    shown = Grid(rows, ("%{z}" + ATTACK,))
    figure = plotly_figure(shown)
    texts = [note.text for note in figure.layout.annotations] + [t.hovertemplate or "" for t in figure.data]
    for text in texts:
        assert set(re.findall(r"<(/?\w+)", text)) <= {"b", "/b", "br", "extra", "/extra"}
        assert "%{z}" not in text
    assert any("&lt;img" in text for text in texts)


def test_a_cell_that_failed_says_why_in_its_place(make: Make) -> None:
    reason = "the weights could not be fetched; connect to the network once. " * 6
    shown = one_row(Cell(make()), Cell(None, error=reason))
    note = next(note for note in plotly_figure(shown).layout.annotations if "fetched" in note.text)
    assert note.xref == "x3 domain"
    assert note.text.replace("<br>", " ") == reason.strip()
    # Its lines fit the cell and the room below it, whatever the width.
    assert 15 * (note.text.count("<br>") + 1) + 18 <= 160 + page_layout(shown).caption


def test_height_leaves_square_cells_and_room_for_the_longest_caption(make: Make) -> None:
    found = make(labels=("a class of a very long name, with a synonym, " * 3, "b"))
    short, long = one_row(Cell(make())), one_row(Cell(found))
    lines = 1 + len(wrap(long.caption(long.rows[0], long.rows[0].cells[0]).headline, 22))
    assert page_layout(long).caption - page_layout(short).caption == 18 * (lines - 3)
    room = page_layout(long)
    assert room.height(1000) - room.fixed_height == pytest.approx(1000 * room.cell_fraction)
    assert room.least_width * room.cell_fraction >= 159


# -- files


def test_paper_shows_the_same_overlays(make: Make) -> None:
    cells = [Cell(make()), Cell(None, error="no such layer"), Cell(make())]
    shown = one_row(*cells, opacity=0.5, threshold=0.2, scale="shared", title="costs $5 and $6 {x}", truth="rose")
    figure = matplotlib_figure(shown)
    drawn = [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]
    for number, cell in ((1, cells[0]), (2, cells[2])):
        assert cell.explanation is not None
        # An image of 40 pixels is shown with 6 pixels for each.
        picture = cell.explanation.image[np.arange(240) // 6][:, np.arange(240) // 6]
        expected = overlay(picture, cell.explanation.maps[0, 0], shown.shared_top, shown.look)
        assert (drawn[number] == expected).all()
    text = PdfReader(io.BytesIO(encode(shown, "pdf"))).pages[0].extract_text()
    for words in ("costs $5 and $6 {x}", "daisy", "no such layer", "scale: shared", "gradcam at norm", "viridis"):
        assert words in text


@pytest.mark.parametrize("count", [1, 4])
def test_no_text_is_cut_off_or_covered_on_paper(make: Make, count: int) -> None:
    long = "a class of a very long name, with a synonym, and_with_underscores_too"
    cells = [Cell(make(labels=(long, "b"), predicted=1, target=0)), Cell(None, error="no such layer; " * 20)]
    shown = one_row(*(cells * 2)[:count], title="photo_of_a_long_name_" * 4, truth=long, threshold=0.5)
    figure = matplotlib_figure(shown)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)
    assert all(box.y0 >= 0 and box.y1 <= figure.bbox.height for box in boxes)
    pictures = [axes.get_window_extent() for axes in figure.axes if axes.images]
    assert not [box for box in boxes for picture in pictures if box.overlaps(picture)]


def test_files_hold_the_maps_exactly(make: Make, tmp_path: Path) -> None:
    cells = [Cell(make(predicted=1)), Cell(None, error="why not")]
    shown = one_row(*cells, title=ATTACK)
    for kind in ("png", "pdf", "npz", "json"):
        save(shown, tmp_path / f"grid.{kind}")
    numbers = json.loads((tmp_path / "grid.json").read_text("utf-8"))
    cell = numbers["rows"][0]["cells"][0]
    found = cells[0].explanation
    assert found is not None
    np.testing.assert_array_equal(np.float32(cell["map"]), found.maps[0, 0])
    assert (cell["label"], cell["weights_hash"], cell["layer"]) == ("dandelion", "0123abcd", "norm")
    assert cell["magnitude"] == pytest.approx(found.maps.max())
    assert numbers["rows"][0]["cells"][1] == {"error": "why not"}
    assert numbers["settings"]["colormap"] == "viridis"
    assert numbers["versions"]["torch"] == torch.__version__.split("+")[0]
    arrays = np.load(tmp_path / "grid.npz", allow_pickle=False)
    np.testing.assert_array_equal(arrays["map_0_0"], found.maps[0, 0])
    np.testing.assert_array_equal(arrays["view_0_0"], found.view)
    assert "map_0_1" not in arrays
    with Image.open(tmp_path / "grid.png") as picture:
        assert set(picture.info) <= {"Software", "dpi"}


def test_numbers_that_json_cannot_hold_become_null(make: Make) -> None:
    found = make()
    maps = found.maps.copy()
    maps[0, 0, 0, 0] = np.nan
    text = encode(one_row(Cell(replace(found, maps=maps))), "json").decode()
    assert json.loads(text)["rows"][0]["cells"][0]["map"][0][0] is None


def test_other_files_and_places_are_refused_with_one_line(make: Make, tmp_path: Path) -> None:
    shown = one_row(Cell(make()))
    for path in (tmp_path / "grid.svg", tmp_path / "grid", tmp_path / "no" / "folder" / "grid.json"):
        with pytest.raises(ConfigError) as error:
            save(shown, path)
        assert "\n" not in str(error.value)
