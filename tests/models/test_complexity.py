"""Equations 1 and 2 against PyTorch's own count on real attention modules, ours and timm's."""

from __future__ import annotations

import pytest
import torch
from timm.layers.attention import Attention
from timm.models.swin_transformer import WindowAttention as TimmWindowAttention
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from swin_core.errors import ConfigError
from swin_core.models.complexity import msa_complexity, padded_grid, window_msa_complexity
from swin_core.models.window_attention import WindowAttention
from swin_core.zoo.build import build

pytestmark = pytest.mark.usefixtures("one_thread")

# Windows divide the grid; they do not; a side shorter than the window; a single token; Swin-T's first stage.
SIZES = [((8, 8), 12, 4), ((9, 10), 12, 4), ((3, 20), 24, 7), ((1, 1), 6, 4), ((56, 56), 96, 7)]


def counted(module: nn.Module, x: Tensor) -> int:
    """Run a module and return PyTorch's FLOP count."""
    with FlopCounterMode(display=False) as counter:
        module(x)
    return int(counter.get_total_flops())


@pytest.mark.parametrize(("grid", "channels", "window"), SIZES)
@pytest.mark.parametrize("shift", [0, 2])
def test_equation_2_is_what_pytorch_counts(grid: tuple[int, int], channels: int, window: int, shift: int) -> None:
    attention = WindowAttention(channels, 3, window, shift, qkv_bias=True, position_bias=True)
    flops = counted(attention, torch.randn(1, *grid, channels))
    assert 2 * window_msa_complexity(grid, channels, window) == flops


@pytest.mark.parametrize("grid", [(8, 8), (9, 10), (1, 1), (14, 14)])
def test_equation_1_is_what_pytorch_counts(grid: tuple[int, int]) -> None:
    attention = Attention(24, num_heads=3)
    attention.fused_attn = False
    flops = counted(attention, torch.randn(1, grid[0] * grid[1], 24))
    assert 2 * msa_complexity(grid, 24) == flops


def test_timms_windows_cost_the_same() -> None:
    attention = TimmWindowAttention(24, num_heads=3, window_size=4)
    attention.fused_attn = False
    height, width = padded_grid((9, 10), 4)
    windows = height * width // 16
    assert counted(attention, torch.randn(windows, 16, 24)) == 2 * window_msa_complexity((9, 10), 24, 4)


def test_padding_is_counted_and_the_textbook_form_holds_without_it() -> None:
    assert padded_grid((9, 10), 4) == (12, 12)
    assert padded_grid((3, 20), 7) == (3, 21)
    h, w, c, m = 56, 28, 96, 7
    assert window_msa_complexity((h, w), c, m) == 4 * h * w * c**2 + 2 * m**2 * h * w * c
    assert window_msa_complexity((9, 10), 12, 4) == window_msa_complexity((12, 12), 12, 4)


def test_windows_grow_linearly_and_global_attention_does_not() -> None:
    small, large = (14, 14), (28, 28)
    assert window_msa_complexity(large, 96, 7) == 4 * window_msa_complexity(small, 96, 7)
    assert msa_complexity(large, 96) > 4 * msa_complexity(small, 96)
    assert window_msa_complexity((7, 7), 96, 7) == msa_complexity((7, 7), 96)


def test_the_attention_of_a_whole_model_adds_up() -> None:
    model = build("swin_micro", num_classes=5, image_size=32)
    grids = {0: (16, 16), 1: (8, 8), 2: (4, 4)}
    expected = sum(
        window_msa_complexity(grids[stage], model.config.width(stage), model.config.window_size) * depth
        for stage, depth in enumerate(model.config.depths)
    )
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 3, 32, 32))
    found = sum(sum(counts.values()) for name, counts in counter.get_flop_counts().items() if name.endswith(".attn"))
    assert found == 2 * expected


@pytest.mark.parametrize("grid", [(0, 4), (4, -1)])
def test_a_grid_without_tokens_is_refused(grid: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="must be at least 1"):
        msa_complexity(grid, 12)
    with pytest.raises(ConfigError, match="must be at least 1"):
        window_msa_complexity(grid, 12, 4)
