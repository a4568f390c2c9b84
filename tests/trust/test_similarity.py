"""Similarity of maps: against SciPy, and against a slow loop over windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from swin_core.trust.similarity import agreement, spearman, ssim

pytestmark = pytest.mark.usefixtures("one_thread")


def test_spearman_equals_scipy_with_ties() -> None:
    first, second = torch.randn(6, 5, 7).relu(), torch.randn(6, 5, 7).relu()
    second[3:] += first[3:]
    found = spearman(first, second)
    for n in range(6):
        expected = spearmanr(first[n].flatten(), second[n].flatten()).statistic
        assert float(found[n]) == pytest.approx(expected, abs=1e-12)
        assert float(found[n]) == pytest.approx(agreement(first[n].numpy(), second[n].numpy()), abs=1e-12)


def test_spearman_by_hand() -> None:
    rising = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert float(spearman(rising, rising.exp())) == pytest.approx(1)
    assert float(spearman(rising, -rising)) == pytest.approx(-1)
    # One swap of neighbours among four: 1 - 6 * 2 / (4 * 15).
    assert float(spearman(rising, torch.tensor([[[2.0, 1.0], [3.0, 4.0]]]))) == pytest.approx(0.8)
    assert float(spearman(rising, torch.zeros(1, 2, 2))) == 0


def slow_ssim(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first / first.max(), second / second.max()
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for row in range(first.shape[0] - 10):
        for column in range(first.shape[1] - 10):
            x, y = (one[row : row + 11, column : column + 11] for one in (first, second))
            mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
            var_x, var_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
            both = (weights * (x - mean_x) * (y - mean_y)).sum()
            above = (2 * mean_x * mean_y + 0.01**2) * (2 * both + 0.03**2)
            values.append(above / ((mean_x**2 + mean_y**2 + 0.01**2) * (var_x + var_y + 0.03**2)))
    return float(np.mean(values))


def test_ssim_equals_a_slow_loop() -> None:
    first, second = torch.rand(3, 14, 17), 3 * torch.rand(3, 14, 17)
    second[1] += 2 * first[1]
    found = ssim(first, second)
    for n in range(3):
        expected = slow_ssim(first[n].double().numpy(), second[n].double().numpy())
        assert float(found[n]) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_maps_smaller_than_its_window() -> None:
    maps = torch.rand(2, 4, 20)
    assert ssim(maps, 7 * maps).tolist() == pytest.approx([1, 1])
    assert float(ssim(maps, maps.flip(2))[0]) < 0.9
    empty = torch.zeros(1, 4, 4)
    assert float(ssim(empty, empty)) == pytest.approx(1)
    assert ssim(-maps, -7 * maps).tolist() == pytest.approx([1, 1])  # all of it speaks against the class
    assert float(ssim(maps[:1], torch.zeros(1, 4, 20))) < 0.1
