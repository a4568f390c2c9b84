"""The curves of a finding: the values that were measured, at their places in the drawing."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from swin_core.audit import results
from swin_core.audit.bench import Estimate
from swin_core.audit.results import STRENGTHS
from swin_core.figures.audit_curves import curve_svg, effect_curves


def share(value: float) -> Estimate:
    return Estimate(value, value - 0.05, value + 0.05)


@pytest.fixture
def finding() -> results.Tested:
    return results.Tested(
        class_name="tulip",
        kind="place",
        region=(0.0, 0.0, 0.2, 0.2),
        frame=False,
        relevance=9.0,
        pairs=300,
        flip=share(0.8),
        flip_control=share(0.1),
        effect=share(0.7),
        drop=share(0.6),
        drop_control=share(-0.2),
        curves={
            "flip": (0.1, 0.4, 0.7),
            "flip_control": (0.0, 0.0, 0.05),
            "drop": (0.0, 0.2, 0.5),
            "drop_control": (0.0, -0.1, -0.1),
        },
    )


def test_a_curve_goes_from_no_change_to_the_effect_of_the_table(finding: results.Tested) -> None:
    pasted, removed = effect_curves(finding)
    assert pasted.strengths == removed.strengths == (0.0, *STRENGTHS, 1.0)
    assert (pasted.effect, pasted.control) == ((0.0, 0.1, 0.4, 0.7, 0.8), (0.0, 0.0, 0.0, 0.05, 0.1))
    assert (removed.effect, removed.control) == ((0.0, 0.0, 0.2, 0.5, 0.6), (0.0, 0.0, -0.1, -0.1, -0.2))
    assert "strength 50 %: 40 %, control 0 %" in str(pasted).replace("\N{NO-BREAK SPACE}", " ")
    assert list(effect_curves(replace(finding, curves={}))) == []


def test_the_lines_are_drawn_to_scale(finding: results.Tested) -> None:
    both_small = replace(finding, drop=share(0.02), drop_control=share(0.01))
    for curve in (*effect_curves(finding), *effect_curves(both_small)):
        drawing = ElementTree.fromstring(curve_svg(curve))
        grid = [float(re.findall(r"[\d.]+", path.attrib["d"])[1]) for path in drawing.iter("path")]
        zero, half, whole = grid
        assert zero - half == pytest.approx(half - whole, abs=0.2)
        for line, shares in zip(drawing.iter("polyline"), (curve.control, curve.effect), strict=True):
            x, y = np.array([point.split(",") for point in line.attrib["points"].split()], float).T
            np.testing.assert_allclose((x - x[0]) / (x[-1] - x[0]), curve.strengths, atol=0.01)
            np.testing.assert_allclose((zero - y) / (zero - whole), shares, atol=0.01)
        words = [text.text for text in drawing.iter("text")][-2:]
        heights = [float(text.attrib["y"]) for text in drawing.iter("text")][-2:]
        assert words[0] is not None
        assert words[0].startswith("effect")
        assert heights[1] - heights[0] >= 14
        assert heights[1] <= 132  # above the labels of the axis
