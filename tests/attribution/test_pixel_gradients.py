"""Input gradients against captum, and on functions whose gradient is known."""

from __future__ import annotations

import pytest
import torch
from captum.attr import (
    IntegratedGradients,
    NoiseTunnel,
    Saliency,
)
from torch import Tensor, nn

from swin_core.attribution.dispatch import run_method
from swin_core.attribution.methods import METHODS
from swin_core.attribution.pixel_gradients import smooth_grad
from swin_core.attribution.targets import batch_targets, image_targets

pytestmark = pytest.mark.usefixtures("one_thread")


def test_input_gradient_equals_captum(swin: nn.Module, x: Tensor) -> None:
    classes = torch.tensor([3, 2])
    ours = run_method(swin, x, batch_targets(classes), METHODS["gradient"], ["input"]).maps[0][0]
    theirs = Saliency(swin).attribute(x.clone().requires_grad_(), classes).amax(1)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_integrated_gradients_equal_captum(swin: nn.Module, x: Tensor) -> None:
    classes = torch.tensor([3, 2])
    found = run_method(swin, x, batch_targets(classes), METHODS["integrated"], ["input"])
    theirs, missing = IntegratedGradients(swin).attribute(
        x, target=classes, n_steps=32, method="gausslegendre", return_convergence_delta=True
    )
    torch.testing.assert_close(found.maps[0][0], theirs.sum(1).float(), rtol=1e-3, atol=1e-5)
    assert found.completeness is not None
    torch.testing.assert_close(found.completeness[0], missing.abs().double(), rtol=1e-2, atol=2e-5)


def test_integrated_gradients_are_exact_for_a_polynomial() -> None:
    """A Gauss-Legendre sum of 32 points integrates a cubic without error: the map adds up to the score."""

    class Cubic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            total = x.sum((1, 2, 3))
            return torch.stack([total, total**3], 1)

    x = torch.randn(1, 2, 4, 4)
    found = run_method(Cubic(), x, image_targets([1]), METHODS["integrated"], ["input"])
    torch.testing.assert_close(found.maps[0][0][0], (x * x.sum() ** 2).sum(1)[0], rtol=1e-4, atol=1e-5)
    assert float(found.completeness[0]) < 1e-4


def test_smooth_grad_equals_captum_with_the_same_noise(
    swin: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = x[:1]
    drawn = torch.randn(7, *x.shape[1:], generator=torch.Generator().manual_seed(5))
    spread = float(0.15 * (x.max() - x.min()))
    monkeypatch.setattr(torch, "normal", lambda mean, deviation: drawn * deviation)
    theirs = NoiseTunnel(Saliency(swin)).attribute(
        x, nt_type="smoothgrad", nt_samples=7, stdevs=spread, target=2, abs=False
    )
    ours = smooth_grad(swin, x, image_targets([2]), samples=7, seed=5).maps[0][0]
    torch.testing.assert_close(ours, theirs.abs().amax(1), rtol=1e-3, atol=1e-6)


def test_smooth_grad_without_noise_is_the_gradient(swin: nn.Module, x: Tensor) -> None:
    smooth = smooth_grad(swin, x, batch_targets(torch.tensor([1, 1])), samples=3, noise=0).maps[0][0]
    plain = run_method(swin, x, batch_targets(torch.tensor([1, 1])), METHODS["gradient"], ["input"]).maps[0][0]
    torch.testing.assert_close(smooth, plain, rtol=1e-4, atol=1e-7)
