"""Statistics of images: a shift moves the statistic as far as asked, back again, and leaves the others."""

from __future__ import annotations

import pytest
import torch

from swin_core.images.statistics import STATISTICS, border_of, shifted

MEASURED = {name: each.measure for name, each in STATISTICS.items() if each.measure is not None}


def images() -> torch.Tensor:
    """Smooth and fine detail, away from black and white so that nothing is clipped."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(3, 3, 8, 8, generator=generator, dtype=torch.float64)
    smooth = torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear")
    return 0.4 + 0.15 * smooth + 0.05 * torch.rand(3, 3, 64, 64, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", [name for name in MEASURED if name != "sharpness"])
def test_a_shift_moves_the_statistic_as_far_as_asked(name: str) -> None:
    before = MEASURED[name](images())
    by = torch.linspace(0.05, 0.1, before.shape[1], dtype=torch.float64).expand(3, -1)
    after = MEASURED[name](shifted(images(), name, by))
    assert after - before == pytest.approx(by, abs=0.01)


@pytest.mark.parametrize("name", list(STATISTICS))
def test_a_shift_by_nothing_changes_nothing(name: str) -> None:
    columns = 1 if name == "aspect" else MEASURED[name](images()).shape[1]
    still = shifted(images(), name, torch.zeros(3, columns))
    assert torch.allclose(still, images(), atol=1e-6)


def test_less_detail_is_a_blur_and_more_detail_undoes_it() -> None:
    by = torch.tensor([[-2.0, -1.0, -0.3]] * 3)
    blurred = shifted(images(), "sharpness", by)
    assert (MEASURED["sharpness"](blurred) < MEASURED["sharpness"](images()))[:, 0].all()
    assert torch.allclose(blurred.mean((2, 3)), images().mean((2, 3)), atol=0.01)
    restored = shifted(blurred, "sharpness", -by)
    assert (restored - images()).abs().mean() < 0.7 * (blurred - images()).abs().mean()


def test_brightness_and_colour_leave_each_other() -> None:
    brighter = shifted(images(), "brightness", torch.full((3, 1), 0.1))
    tinted = shifted(images(), "colour", torch.tensor([[0.3, -0.2]] * 3))
    assert brighter == pytest.approx(images() + 0.1)
    assert tinted.mean((1, 2, 3)) == pytest.approx(images().mean((1, 2, 3)))


def test_only_the_border_changes_with_the_border() -> None:
    changed = shifted(images(), "border", torch.tensor([[0.1, 0.0, -0.1]] * 3)) != images()
    inside = ~border_of(images())
    assert not changed[:, :, inside].any()
    assert inside[4:60, 4:60].all()
    assert inside.sum() == 56 * 56


def test_a_wider_file_is_squashed_more() -> None:
    middle = torch.zeros(1, 1, 64, 64)
    middle[:, :, 16:48, 16:48] = 1
    wide = shifted(middle, "aspect", torch.tensor([[1.5]]).log())
    rows, columns = (wide[0, 0] > 0.5).any(1).sum(), (wide[0, 0] > 0.5).any(0).sum()
    assert columns == pytest.approx(32 / 1.5**0.5, abs=1)
    assert rows == pytest.approx(32 * 1.5**0.5, abs=1)
