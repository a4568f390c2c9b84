"""What a grid shows beyond plain maps: signs, classes to compare with, and how far to believe a map."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from pypdf import PdfReader

from swin_core.attribution.overlay import DIVERGING, Look, color_scale, overlay
from swin_core.figures.files import encode
from swin_core.figures.grid import Cell, Row
from swin_core.figures.matplotlib_grid import matplotlib_figure
from swin_core.figures.plotly_grid import page_layout, plotly_figure
from swin_core.figures.text import NO_BREAK
from swin_core.trust.assess import Measures, ProbabilityCurve, Trust
from tests.fixtures.grids import Make, heat_maps, maker, one_row, values_of


@pytest.fixture
def make() -> Make:
    return maker()


def test_what_speaks_against_is_blue_and_what_is_zero_leaves_the_picture() -> None:
    picture = np.full((8, 8, 3), 100, np.uint8)
    look = Look(opacity=0.5, threshold=0.4)
    for value in (-1.0, -0.41, -0.39, 0.0, 0.39, 0.41, 1.0):
        drawn = overlay(picture, np.full((2, 2), 3 * value), 3, look, signed=True)[0, 0]
        color = 255 * np.array(DIVERGING((1 + value) / 2)[:3])
        share = 0.5 * abs(value) if abs(value) > 0.4 else 0
        np.testing.assert_allclose(drawn, 100 * (1 - share) + color * share, atol=1)
        if share:
            assert (drawn[2] > drawn[0]) == (value < 0), "blue against, orange for"


def test_browser_gets_the_same_colours_of_both_signs() -> None:
    look = Look(opacity=0.7, threshold=0.3)
    stops = color_scale(look, signed=True)
    positions = [position for position, _ in stops]
    assert positions == sorted(positions)
    assert (positions[0], positions[-1]) == (0, 1)
    for position, text in stops:
        r, g, b, alpha = map(float, re.findall(r"[\d.]+", text))
        fraction = 2 * position - 1
        np.testing.assert_allclose([r, g, b], 255 * np.array(DIVERGING(position)[:3]), atol=3)
        at_the_edge = abs(abs(fraction) - 0.3) < 1e-9  # where it jumps, there is a stop on either side
        assert at_the_edge or alpha == pytest.approx(0.7 * abs(fraction) if abs(fraction) > 0.3 else 0, abs=1e-3)
    near = sorted(round(2 * position - 1, 6) for position in positions if abs(abs(2 * position - 1) - 0.3) < 1e-9)
    assert near == [-0.3, -0.3, 0.3, 0.3]


def test_scale_of_maps_with_a_sign_has_zero_in_its_middle(make: Make) -> None:
    found = make()
    signed = replace(found, maps=found.maps - 2 * found.maps.mean())
    for scale in ("shared", "cell"):
        shown = one_row(Cell(signed), Cell(make()), scale=scale)
        assert shown.signed
        for trace, cell in zip(heat_maps(shown), shown.rows[0].cells, strict=True):
            top = shown.shared_top if scale == "shared" else np.abs(values_of(cell)).max()
            assert (trace.zmin, trace.zmax) == (pytest.approx(-top), pytest.approx(top))
        assert "orange for, blue against" in shown.scale_name
    assert not one_row(Cell(found)).signed
    drawn = [np.asarray(axes.images[0].get_array()) for axes in matplotlib_figure(one_row(Cell(signed))).axes]
    picture = signed.image[np.arange(240) // 6][:, np.arange(240) // 6]
    top = float(np.abs(signed.maps).max())
    assert (drawn[1] == overlay(picture, signed.maps[0, 0], top, Look(), signed=True)).all()


def test_caption_names_the_class_to_compare_with(make: Make) -> None:
    found = replace(make(predicted=0, target=0), against=(2,))
    caption = one_row(Cell(found, note="layers.0")).caption(Row("", found.image, []), Cell(found, note="layers.0"))
    assert caption.notes[0] == "contrast with roses"
    assert caption.notes[-1] == "layers.0"


def measured(srg: float, better: bool = True) -> Trust:
    """Made-up figures of trust."""
    curve = ProbabilityCurve((0.0, 1.0), (0.9, 0.1), 0.5)
    own = Measures(curve, curve, curve, srg, 0.25)
    nothing = Measures(curve, curve, curve, 0.0, float("nan"))
    return Trust(**vars(own), target=0, random=nothing, centred=nothing, chance=0.1, better=better, sentence="It is.")


@pytest.mark.parametrize(
    ("better", "words"), [(True, "beats baselines · SRG +0.41"), (False, "no better than baselines · SRG -0.02")]
)
def test_trust_stands_under_the_headline_by_word_and_sign(make: Make, better: bool, words: str) -> None:
    cell = Cell(make(), trust=measured(0.41 if better else -0.02, better))
    shown = one_row(cell)
    assert shown.caption(shown.rows[0], cell).badge == words
    texts = [note.text for note in plotly_figure(shown).layout.annotations]
    assert any(f"</b> {words} magnitude" in text.replace("<br>", " ") for text in texts)
    assert words in PdfReader(io.BytesIO(encode(shown, "pdf"))).pages[0].extract_text().replace("\n", " ")
    numbers = json.loads(encode(shown, "json"))["rows"][0]["cells"][0]["trust"]
    assert numbers["better"] == better
    assert numbers["map"] == {"srg": 0.41 if better else -0.02, "road": 0.25, "deletion": 0.5, "insertion": 0.5}
    assert numbers["random"]["road"] is None


def test_room_for_a_badge_is_the_same_with_trust_and_without(make: Make) -> None:
    """So that nothing moves, and nothing is drawn anew, when it is measured."""
    found = make(labels=("a class of a very long name that fills lines", "b"))
    plain, known = (replace(one_row(Cell(found, trust=trust)), badge_room=True) for trust in (None, measured(0.4)))
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


def test_a_map_of_the_pixels_is_light_and_its_values_can_be_read(make: Make) -> None:
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


@pytest.mark.parametrize("size", [(100, 80), (32, 32), (16, 16)], ids=["pixels", "patches", "coarse patches"])
def test_places_far_above_the_rest_do_not_darken_a_fine_map(make: Make, size: tuple[int, int]) -> None:
    fine = replace(make(), maps=np.random.default_rng(1).random((1, 1, *size)).astype(np.float32))
    fine.maps[0, 0, 3, 3] = 50
    cell = Cell(fine)
    assert cell.top == pytest.approx(np.sort(fine.maps.ravel())[-size[0] * size[1] // 100 - 1], rel=0.01)
    assert cell.magnitude == 50
    assert "99th percentile" in one_row(cell).scale_name
    assert "percentile" not in one_row(Cell(make())).scale_name
    rare = replace(fine, maps=np.zeros_like(fine.maps))
    rare.maps[0, 0, 3, 3] = 2
    assert Cell(rare).top == 2
