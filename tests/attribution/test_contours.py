"""Contour lines against matplotlib's, and what is drawn of them."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from swin_core.attribution.contours import FIELD, contour_lines, with_lines
from swin_core.attribution.regions import bilinear


def test_lines_are_those_of_matplotlib() -> None:
    values = np.random.default_rng(3).random((5, 9))
    field = bilinear(values, FIELD, FIELD)
    for level in (0.2, 0.5, 0.8):
        drawn = Figure().add_subplot().contour(field, [level]).allsegs[0]
        expected = sum(np.hypot(*np.diff(line, axis=0).T).sum() for line in drawn)
        lines = contour_lines(values, [level]) * FIELD
        found = np.hypot(*(lines[:, 1] - lines[:, 0]).T).sum()
        assert found == np.float64(expected) or abs(found / expected - 1) < 0.01
        corners = np.concatenate(drawn) + 0.5
        for point in lines[::7, 0]:
            assert np.hypot(*(corners - point).T).min() < 1


def test_without_lines_the_image_stays() -> None:
    image = np.full((64, 64, 3), 90, np.uint8)
    assert contour_lines(np.zeros((3, 3)), [0.5]).shape == (0, 2, 2)
    assert with_lines(image, contour_lines(np.ones((3, 3)), [])) is image
    half = np.repeat([[0.0, 1.0]], 2, axis=0)
    drawn = with_lines(image, contour_lines(half, [0.5]))
    assert (drawn[:, 31:33].min(axis=(1, 2)) > 140).all()  # the line in the middle, from top to bottom
    assert (drawn[8:56, 30] < 90).all()  # its shadow
    assert (drawn[:, :20] == 90).all()
