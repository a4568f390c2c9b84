"""Target classes by index."""

from __future__ import annotations

import torch

from swin_core.attribution.targets import check_targets


def test_check_targets_defaults_to_the_likeliest() -> None:
    assert check_targets(None, torch.tensor([0.1, 3.0, -1.0])) == (1,)
    assert check_targets([0, 2], torch.zeros(3)) == (0, 2)
