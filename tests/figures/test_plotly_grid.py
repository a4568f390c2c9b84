"""The grid as a Plotly figure: its layout, values under the pointer, and escaped text."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pypdf import PdfReader

from swin_core.attribution.overlay import Look, overlay
from swin_core.figures.files import encode
from swin_core.figures.grid import Cell, Grid, Row
from swin_core.figures.matplotlib_grid import matplotlib_figure
from swin_core.figures.plotly_grid import page_layout, plotly_figure
from swin_core.figures.text import NO_BREAK, wrap
from tests.fixtures.grids import Make, heat_maps, made_up_trust, one_row, values_of

ATTACK = "<img src=x onerror=alert(1)>"


def test_all_cells_zoom_together_and_keep_their_aspect_ratio(make: Make) -> None:
    layout = plotly_figure(one_row(Cell(make()), Cell(make()))).to_plotly_json()["layout"]
    for axis in ("x", "y"):
        assert [layout[f"{axis}axis{number}"]["matches"] for number in (2, 3)] == [axis, axis]
    assert layout["yaxis"]["scaleanchor"] == "x"


def test_a_cell_shows_the_crop_that_was_explained(make: Make) -> None:
    explanation = make()
    image = np.asarray(Image.fromarray(explanation.image).resize((4, 4)).resize((64, 64)))
    smooth = replace(explanation, image=image)
    trace = [t for t in plotly_figure(one_row(Cell(smooth))).data if t.type == "image"][1]
    decoded = Image.open(io.BytesIO(base64.b64decode(trace.source.split(",")[1])))
    assert np.abs(np.asarray(decoded).astype(int) - smooth.image).mean() < 4
    # Half a pixel in from 0, and as many steps as there are pixels, so that it fills the cell.
    assert (trace.x0, trace.dx * 64) == (0.5 / 64, 1)


def test_hover_shows_the_value_of_every_column(make: Make) -> None:
    shapes = [(7, 7), (4, 4), (3, 14)]
    cells = [Cell(make(shape=shape)) for shape in shapes]
    for trace, (height, width) in zip(heat_maps(one_row(*cells)), shapes, strict=True):
        for y in range(height):
            for x in range(width):
                for k, (other, (h, w)) in enumerate(zip(cells, shapes, strict=True)):
                    there = values_of(other)[int((y + 0.5) / height * h), int((x + 0.5) / width * w)]
                    assert trace.customdata[y, x, k] == pytest.approx(there)
        assert all(f"%{{customdata[{k}]" in trace.hovertemplate for k in range(3))


def test_hover_names_columns_without_a_map(make: Make) -> None:
    shown = one_row(Cell(make()), Cell(None, error="why not"))
    assert "model 1: no map" in heat_maps(shown)[0].hovertemplate


def test_scale_is_shared_or_per_cell_and_named(make: Make) -> None:
    cells = [Cell(make()), Cell(make())]
    tops = [float(values_of(cell).max()) for cell in cells]
    shared, own = one_row(*cells, scale="shared"), one_row(*cells, scale="cell")
    assert [trace.zmax for trace in heat_maps(shared)] == [pytest.approx(max(tops))] * 2
    assert [trace.zmax for trace in heat_maps(own)] == [pytest.approx(top) for top in tops]
    assert f"scale: shared, 0 to {max(tops):.3g}" in plotly_figure(shared).to_json()
    assert "scale: per cell" in plotly_figure(own).to_json()


def test_scale_of_signed_maps_is_symmetric(make: Make) -> None:
    explanation = make()
    signed = replace(explanation, maps=explanation.maps - 2 * explanation.maps.mean())
    for scale in ("shared", "cell"):
        shown = one_row(Cell(signed), Cell(make()), scale=scale)
        assert shown.signed
        for trace, cell in zip(heat_maps(shown), shown.rows[0].cells, strict=True):
            top = shown.shared_top if scale == "shared" else np.abs(values_of(cell)).max()
            assert (trace.zmin, trace.zmax) == (pytest.approx(-top), pytest.approx(top))
        assert "orange for, blue against" in shown.scale_name
    assert not one_row(Cell(explanation)).signed
    drawn = [np.asarray(axes.images[0].get_array()) for axes in matplotlib_figure(one_row(Cell(signed))).axes]
    image = signed.image[np.arange(240) // 6][:, np.arange(240) // 6]
    top = float(np.abs(signed.maps).max())
    assert (drawn[1] == overlay(image, signed.maps[0, 0], top, Look(), signed=True)).all()


def test_names_from_outside_are_escaped(make: Make) -> None:
    """Plotly reads a little HTML, and fills %{...} in the text under the pointer with data."""
    explanation = make(labels=(ATTACK, "%{z} <b>bold</b>"))
    rows = (
        Row(ATTACK, explanation.image, [Cell(explanation)], ATTACK),
        Row("b", explanation.image, [Cell(None, error=ATTACK)]),
    )
    shown = Grid(rows, ("%{z}" + ATTACK,))
    figure = plotly_figure(shown)
    texts = [note.text for note in figure.layout.annotations] + [t.hovertemplate or "" for t in figure.data]
    for text in texts:
        assert set(re.findall(r"<(/?\w+)", text)) <= {"b", "/b", "br", "extra", "/extra"}
        assert "%{z}" not in text
    assert any("&lt;img" in text for text in texts)


def test_a_failed_cell_shows_the_reason(make: Make) -> None:
    reason = "the weights could not be fetched; connect to the network once. " * 6
    shown = one_row(Cell(make()), Cell(None, error=reason))
    note = next(note for note in plotly_figure(shown).layout.annotations if "fetched" in note.text)
    assert note.xref == "x3 domain"
    assert note.text.replace("<br>", " ") == reason.strip()
    # Its lines fit the cell and the room below it, whatever the width.
    assert 15 * (note.text.count("<br>") + 1) + 18 <= 160 + page_layout(shown).caption


def test_height_has_square_cells_and_room_for_the_longest_caption(make: Make) -> None:
    explanation = make(labels=("a class of a very long name, with a synonym, " * 3, "b"))
    short, long = one_row(Cell(make())), one_row(Cell(explanation))
    lines = 1 + len(wrap(long.caption(long.rows[0], long.rows[0].cells[0]).headline, 22))
    assert page_layout(long).caption - page_layout(short).caption == 18 * (lines - 3)
    room = page_layout(long)
    assert room.height(1000) - room.fixed_height == pytest.approx(1000 * room.cell_fraction)
    assert room.least_width * room.cell_fraction >= 159


@pytest.mark.parametrize(
    ("better", "words"), [(True, "beats baselines · SRG +0.41"), (False, "no better than baselines · SRG -0.02")]
)
def test_badge_is_under_the_headline(make: Make, better: bool, words: str) -> None:
    cell = Cell(make(), trust=made_up_trust(0.41 if better else -0.02, better))
    shown = one_row(cell)
    assert shown.caption(shown.rows[0], cell).badge == words
    texts = [note.text for note in plotly_figure(shown).layout.annotations]
    assert any(f"</b> {words} magnitude" in text.replace("<br>", " ") for text in texts)
    assert words in PdfReader(io.BytesIO(encode(shown, "pdf"))).pages[0].extract_text().replace("\n", " ")
    numbers = json.loads(encode(shown, "json"))["rows"][0]["cells"][0]["trust"]
    assert numbers["better"] == better
    assert numbers["map"] == {"srg": 0.41 if better else -0.02, "road": 0.25, "deletion": 0.5, "insertion": 0.5}
    assert numbers["random"]["road"] is None


def test_badge_room_does_not_depend_on_trust(make: Make) -> None:
    """So the page does not move, and is not drawn again, when a badge arrives."""
    explanation = make(labels=("a class of a very long name that fills lines", "b"))
    plain, known = (
        replace(one_row(Cell(explanation, trust=trust)), badge_room=True) for trust in (None, made_up_trust(0.4))
    )
    assert plotly_figure(plain).to_json() == plotly_figure(known).to_json()
    assert page_layout(plain) == page_layout(known)
    assert page_layout(plain).caption > page_layout(one_row(Cell(make()))).caption
    headline, notes = (
        text.split("<br>") for text in plotly_figure(plain).layout.annotations[3].text.rsplit("</b><br>", 1)
    )
    assert notes[0] == NO_BREAK
    left, pixels, share = page_layout(plain).badge_position(0, 1, len(headline))
    domain = plotly_figure(plain).layout.xaxis2.domain
    assert left == pytest.approx(domain[0])
    assert share == pytest.approx(page_layout(plain).cell_fraction)
    assert page_layout(plain).head < pixels < page_layout(plain).head + page_layout(plain).caption


def test_a_fine_map_is_quantised_and_its_values_can_be_read(make: Make) -> None:
    fine = replace(make(), maps=np.random.default_rng(1).normal(size=(1, 1, 224, 224)).astype(np.float32))
    shown = one_row(Cell(fine), Cell(make()))
    traces = [trace for trace in plotly_figure(shown).data if trace.type == "heatmap" and trace.xaxis == "x2"]
    drawn, pointer = traces
    top = np.percentile(np.abs(fine.maps), 99)
    np.testing.assert_allclose(drawn.z * top / drawn.zmax, fine.maps[0, 0].clip(-top, top), atol=top / 250)
    assert (drawn.zmin, drawn.zmax) == (-127, 127)
    assert pointer.opacity == 0
    assert pointer.customdata.shape == (64, 64, 2)
    assert pointer.customdata[3, 5, 0] == fine.maps[0, 0, int(3.5 / 64 * 224), int(5.5 / 64 * 224)]
    assert len(plotly_figure(shown).to_json()) < 400_000
