"""Charts for print hold what the Plotly figure holds."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dashboard.inside.plotly_figures import Lines, bias_figure, cost_figure, image_figure, relevance_figure
from dashboard.shared.chart_drawing import draw_chart
from swin_core.anatomy.structure import Block, anatomy
from swin_core.zoo.classifier import Classifier


def drawn(figure: go.Figure) -> Axes:
    axes = Figure(figsize=(6, 6)).add_axes((0.1, 0.1, 0.8, 0.8))
    draw_chart(figure, axes)
    return axes


@pytest.fixture
def block(small_classifier: Classifier) -> Block:
    return anatomy(small_classifier).blocks[0]


def test_curves_have_the_points_the_scale_and_the_names_of_the_figure(block: Block) -> None:
    figure = cost_figure(block, 4, 4, [(32, "seen"), (480, "own")])
    axes = drawn(figure)
    traces = [trace for trace in figure.data if trace.mode == "lines"]
    for trace, line in zip(traces, axes.lines, strict=False):
        assert np.allclose(line.get_xydata(), np.stack([trace.x, trace.y], 1))
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    for trace, points in zip(dots, axes.collections, strict=True):
        assert np.allclose(points.get_offsets(), np.stack([trace.x, trace.y], 1))
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [trace.name for trace in traces]
    assert [text.get_text() for text in axes.texts] == [note.text for note in figure.layout.annotations]
    assert axes.get_xlim()[1] < 4096  # ticks do not widen the axis


def test_bars_have_their_heights_and_their_texts() -> None:
    axes = drawn(relevance_figure(["Pixels", "Stage 1"], [3.0, -1.5], 2.5))
    heights = [patch.get_height() for patch in axes.patches]
    assert heights == [3.0, -1.5, 2.5]
    assert [text.get_text() for text in axes.texts] == ["+3.00", "-1.50", "+2.50"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["Pixels", "Stage 1", "Logit"]


def test_a_bias_map_has_its_values_with_the_first_row_at_the_top() -> None:
    values = np.arange(15.0).reshape(3, 5) - 7
    axes = drawn(bias_figure(values))
    (mesh,) = axes.collections
    assert np.array_equal(np.asarray(mesh.get_array()).reshape(3, 5), values)
    assert mesh.get_clim() == (-7, 7)
    bottom, top = axes.get_ylim()
    assert bottom > top
    (frame,) = axes.patches
    assert frame.get_bbox().bounds == (-0.5, -0.5, 1, 1)


def test_an_image_lies_under_its_lines_and_numbers_and_targets_of_clicks_are_left_out() -> None:
    image = np.indices((400, 400)).sum(0).astype(np.uint8)[..., None].repeat(3, 2) // 4
    lines = Lines(([0.0, 8.0, None, 4.0, 4.0], [4.0, 4.0, None, 0.0, 8.0]), 1.6, "rgba(255,255,255,0.5)")
    axes = drawn(image_figure(image, (8, 8), [lines], [(2.0, 6.0, 11)], (4, 4), (2, 2), [""] * 16))
    (shown,) = axes.images
    assert np.allclose(shown.get_extent(), (0, 8, 8, 0))
    assert np.abs(np.asarray(shown.get_array()).astype(int) - image).mean() < 2  # Plotly's image is a JPEG
    halo, light = axes.lines
    assert np.allclose(light.get_xdata(), [0, 8, np.nan, 4, 4], equal_nan=True)
    assert light.get_color() == (1, 1, 1, 0.5)
    assert halo.get_linewidth() > light.get_linewidth()
    assert [(text.get_text(), text.get_position()) for text in axes.texts] == [("12", (2.0, 6.0))]
    assert not axes.collections
