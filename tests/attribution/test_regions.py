"""Resizing of maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from swin_core.attribution.regions import bilinear


@pytest.mark.parametrize(("source", "target"), [((7, 7), (224, 224)), ((4, 6), (33, 50)), ((1, 3), (9, 9))])
def test_bilinear_is_the_interpolation_of_pytorch(source: tuple[int, int], target: tuple[int, int]) -> None:
    values = torch.rand(source)
    enlarged = torch.nn.functional.interpolate(values[None, None], target, mode="bilinear")[0, 0]
    np.testing.assert_allclose(bilinear(values.numpy(), *target), enlarged.numpy(), atol=1e-6)
