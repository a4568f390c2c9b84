"""The attention of one token: a row of the softmax, put back on the image's grid."""

from __future__ import annotations

import pytest
import torch

from swin_core.attribution.attention import attention_blocks
from swin_core.attribution.rollout import token_attention
from swin_core.errors import LayerError
from tests.fixtures.attention import softmaxes, timm_swin, token_numbers, vit, whole
from tests.fixtures.reference import relative_error, small

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("head", [None, 1])
@pytest.mark.parametrize("size", [(32, 32), (30, 38)])
def test_token_attention_is_a_row_of_the_softmax(size: tuple[int, int], head: int | None) -> None:
    model = small().double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    grid = (size[0] // 2, size[1] // 2)
    for number, name in enumerate(["layers.0.blocks.0", "layers.0.blocks.1"]):
        attention = softmaxes(model, x)[number][0].unflatten(0, (2, -1))
        picked = attention.mean(2) if head is None else attention[:, :, head]
        windows = token_numbers(grid, 4, 2 * number, rolls_first=False)
        matrix = torch.stack([whole(one, windows, grid[0] * grid[1]) for one in picked])
        for token in [(0, 0), (5, 2), (grid[0] - 1, grid[1] - 1)]:
            found = token_attention(model, x, name, head, token)
            expected = matrix[:, token[0] * grid[1] + token[1]].view(2, *grid)
            assert relative_error(found, expected) < 1e-12
            assert int((found[0] > 0).sum()) <= 16


def test_token_attention_of_timm_models() -> None:
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    model = timm_swin()
    attention = softmaxes(model, x)[3][0].mean(1)
    matrix = whole(attention, token_numbers((8, 8), 4, 2, rolls_first=True), 64)
    found = token_attention(model, x, "layers.1.blocks.1", None, (7, 3))
    assert relative_error(found[0], matrix[7 * 8 + 3].view(8, 8)) < 1e-12
    model = vit(reg_tokens=4)
    attention = softmaxes(model, x)[2][0][0, 1]
    assert relative_error(token_attention(model, x, "blocks.2", 1, (2, 3))[0], attention[5 + 11, 5:].view(4, 4)) < 1e-12
    assert relative_error(token_attention(model, x, "blocks.2", 1)[0], attention[0, 5:].view(4, 4)) < 1e-12


def test_blocks_are_listed_in_order_with_their_heads() -> None:
    found = [(one.name, one.heads) for one in attention_blocks(small())]
    assert found == [(f"layers.{stage}.blocks.{index}", 2 + stage) for stage in range(2) for index in range(2)]
    assert [one.name for one in attention_blocks(vit())] == ["blocks.0", "blocks.1", "blocks.2"]


def test_faults_are_named_in_one_line() -> None:
    x = torch.randn(1, 3, 32, 32)
    model = small()
    with pytest.raises(LayerError, match=r"no block 'norm' with attention; it has layers\.0\.blocks\.0"):
        token_attention(model, x, "norm")
    with pytest.raises(LayerError, match="has heads 0 to 1, not 2"):
        token_attention(model, x, "layers.0.blocks.0", 2, (0, 0))
    with pytest.raises(LayerError, match="is outside the 16 x 16 tokens"):
        token_attention(model, x, "layers.0.blocks.0", 0, (3, 16))
    with pytest.raises(LayerError, match="Swin has no class token; name a token by its row and column"):
        token_attention(model, x, "layers.0.blocks.0", 0)
