"""The attention of one token: a row of the softmax on the image's grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import swin_core
from swin_core.anatomy.internals import block_attention
from swin_core.attribution.attention import attention_blocks
from tests.fixtures.attention import softmaxes, timm_swin, token_numbers, vit, whole
from tests.fixtures.reference import relative_error, small

pytestmark = pytest.mark.usefixtures("one_thread")

HALF = (0.5, 0.5, 0.5)


def noisy(model: nn.Module, size: int) -> tuple[swin_core.Classifier, np.ndarray]:
    """A classifier in float32, and an image as the model sees it."""
    classifier = swin_core.Classifier(model.float(), [str(n) for n in range(7)], HALF, HALF, size)
    return classifier, classifier.view(Image.effect_noise((size, size), 60).convert("RGB"))


@pytest.mark.parametrize("size", [32, 30])
def test_the_attention_of_a_token_is_a_row_of_the_softmax(size: int) -> None:
    classifier, view = noisy(small(), size)
    side = size // 2
    matrices = softmaxes(classifier.model, classifier.tensor(view))
    for number, name in enumerate(["layers.0.blocks.0", "layers.0.blocks.1"]):
        heads = matrices[number][0].transpose(0, 1)  # (heads, windows, N, N)
        windows = token_numbers((side, side), 4, 2 * number, rolls_first=False)
        matrix = torch.stack([whole(head, windows, side * side) for head in heads])
        attention = block_attention(classifier, view, name)
        for token in [(0, 0), (5, 2), (side - 1, side - 1)]:
            maps = torch.from_numpy(attention.of(token))
            assert relative_error(maps, matrix[:, token[0] * side + token[1]].view(-1, side, side)) < 1e-5
            assert int((maps[0] > 0).sum()) <= 16


def test_the_attention_of_a_token_of_timm_models() -> None:
    classifier, view = noisy(timm_swin(), 32)
    attention = softmaxes(classifier.model, classifier.tensor(view))[3][0].mean(1)
    matrix = whole(attention, token_numbers((8, 8), 4, 2, rolls_first=True), 64)
    maps = block_attention(classifier, view, "layers.1.blocks.1").of((7, 3)).mean(0)
    assert relative_error(torch.from_numpy(maps), matrix[7 * 8 + 3].view(8, 8)) < 1e-5
    classifier, view = noisy(vit(reg_tokens=4), 32)
    attention = softmaxes(classifier.model, classifier.tensor(view))[2][0][0, 1]
    maps = block_attention(classifier, view, "blocks.2").of((2, 3))[1]
    assert relative_error(torch.from_numpy(maps), attention[5 + 11, 5:].view(4, 4)) < 1e-5


def test_blocks_are_listed_in_order_with_their_heads() -> None:
    blocks = [(block.name, block.heads) for block in attention_blocks(small())]
    assert blocks == [(f"layers.{stage}.blocks.{index}", 2 + stage) for stage in range(2) for index in range(2)]
    assert [block.name for block in attention_blocks(vit())] == ["blocks.0", "blocks.1", "blocks.2"]
