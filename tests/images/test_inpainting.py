"""ROAD's imputation: the neighbours' weighted mean, by hand, against a dense system and pytorch-grad-cam's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer

from swin_core.images.inpainting import inpaint, inpaint_directly, inpaint_iteratively

pytestmark = pytest.mark.usefixtures("one_thread")


def test_one_missing_pixel_by_hand() -> None:
    picture = torch.arange(9.0).view(1, 1, 3, 3)
    middle = torch.zeros(1, 3, 3, dtype=torch.bool)
    middle[0, 1, 1] = True
    around = (1 + 3 + 5 + 7) / 6 + (0 + 2 + 6 + 8) / 12
    assert float(inpaint(picture, middle)[0, 0, 1, 1]) == pytest.approx(around)
    corner = torch.zeros(1, 3, 3, dtype=torch.bool)
    corner[0, 0, 0] = True  # beyond the border there are no neighbours, and the weights of the rest grow
    assert float(inpaint(picture, corner)[0, 0, 0, 0]) == pytest.approx(((1 + 3) / 6 + 4 / 12) / (2 / 6 + 1 / 12))


@pytest.mark.parametrize("solve", [inpaint_directly, inpaint_iteratively])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_equals_a_dense_system(solve: object, share: float) -> None:
    pictures, missing = torch.randn(3, 2, 7, 9), torch.rand(3, 7, 9) < share
    found = solve(pictures, missing)  # type: ignore[operator]
    for n in range(3):
        matrix, right = np.eye(63), pictures[n].reshape(2, 63).T.double().numpy().copy()
        for pixel in np.flatnonzero(missing[n]):
            row, column = divmod(int(pixel), 9)
            right[pixel] = 0
            weights = {
                (row + i) * 9 + column + j: 1 / 12 if i and j else 1 / 6
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
                if (i or j) and 0 <= row + i < 7 and 0 <= column + j < 9
            }
            for neighbour, weight in weights.items():
                matrix[pixel, neighbour] -= weight / sum(weights.values())
        expected = np.linalg.solve(matrix, right).T.reshape(2, 7, 9)
        assert found[n].numpy() == pytest.approx(expected, abs=1e-3)


def test_equals_pytorch_grad_cam() -> None:
    picture, missing = torch.randn(3, 16, 16), torch.rand(16, 16) < 0.6
    expected = NoisyLinearImputer(noise=0)(picture, (~missing).float())
    torch.testing.assert_close(inpaint(picture[None], missing[None])[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("solve", [inpaint_directly, inpaint_iteratively])
def test_nothing_or_everything_missing(solve: object) -> None:
    pictures = torch.randn(2, 3, 4, 4)
    missing = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)]).bool()
    found = solve(pictures, missing)  # type: ignore[operator]
    assert torch.equal(found[0], pictures[0])
    assert torch.equal(found[1], torch.zeros(3, 4, 4))
