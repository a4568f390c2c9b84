"""Overlays: weights, colours and scales."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pytest

from swin_core.attribution.overlay import COLORMAPS, SIGNED_COLORMAP, Look, overlay
from swin_core.errors import ConfigError


def test_zero_opacity_and_zero_maps_leave_the_image() -> None:
    draw = np.random.default_rng(0)
    image, values = draw.integers(0, 256, (40, 40, 3), np.uint8), draw.random((7, 7)).astype(np.float32)
    assert (overlay(image, values, values.max(), Look(opacity=0)) == image).all()
    assert (overlay(image, np.zeros((7, 7)), 0, Look(opacity=1)) == image).all()


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_weight_is_opacity_times_value_and_zero_below_the_threshold(colormap: str) -> None:
    """Uniform maps, so that every pixel must be the same known mixture."""
    image = np.full((8, 8, 3), 100, np.uint8)
    for value in (0.1, 0.39, 0.41, 1.0):
        drawn = overlay(image, np.full((2, 2), 3 * value), 3, Look(colormap, 0.5, 0.4))
        color = 255 * np.array(matplotlib.colormaps[colormap](np.float32(value))[:3])
        share = 0.5 * value if value > 0.4 else 0
        np.testing.assert_allclose(drawn[0, 0], 100 * (1 - share) + color * share, atol=1)
        assert (drawn == drawn[0, 0]).all()


def test_negative_values_are_blue_and_zero_leaves_the_image() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    look = Look(opacity=0.5, threshold=0.4)
    for value in (-1.0, -0.41, -0.39, 0.0, 0.39, 0.41, 1.0):
        drawn = overlay(image, np.full((2, 2), 3 * value), 3, look, signed=True)[0, 0]
        color = 255 * np.array(SIGNED_COLORMAP((1 + value) / 2)[:3])
        share = 0.5 * abs(value) if abs(value) > 0.4 else 0
        np.testing.assert_allclose(drawn, 100 * (1 - share) + color * share, atol=1)
        if share:
            assert (drawn[2] > drawn[0]) == (value < 0), "blue against, orange for"


def test_lightness_of_every_colour_map_rises() -> None:
    """So that grey printing and colour blindness keep the order."""
    for name in (*COLORMAPS, SIGNED_COLORMAP):
        colors = matplotlib.colormaps[name] if isinstance(name, str) else name
        luminance = colors(np.linspace(0, 1, 64))[:, :3] @ [0.2126, 0.7152, 0.0722]
        assert (np.diff(luminance) > 0).all(), name


@pytest.mark.parametrize(
    "wrong",
    [
        *({"colormap": "jet"}, {"opacity": 1.1}, {"threshold": 1.0}, {"scale": "log"}, {"image": 1}, {"raw": ""}),
        *({"contours": (0.0,)}, {"contours": (float("nan"),)}, {"contours": (0.5,) * 11}),
        *({"wipe": "no"}, {"wipe": "-1"}, {"split": 1.1}),
    ],
)
def test_settings_outside_their_range_are_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        Look(**wrong)
    assert "\n" not in str(error.value)
