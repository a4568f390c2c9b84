"""Small models in all layouts, for the tests of weights files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from reference import randomise
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer as TorchvisionSwin

from swin_core.errors import WeightsError
from swin_core.model import Swin, SwinConfig
from swin_core.windows import relative_position_index, shift_mask

SMALL = SwinConfig(
    image_size=56, patch_size=4, num_classes=10, embed_dim=12, depths=(2, 2), num_heads=(2, 3), window_size=7
)
TABLE = "layers.0.blocks.0.attn.relative_position_bias_table"
KERNEL = "patch_embed.proj.weight"


def small(seed: int = 0, **changes: Any) -> Swin:
    model = Swin(replace(SMALL, **changes))
    randomise(model, seed)
    return model.eval()


def copies(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(state[key], other[key]) for key in state)


def microsoft_state(model: Swin) -> dict[str, Tensor]:
    """A model's weights as the authors' code stores them, with index and mask buffers."""
    state = copies(model)
    config = model.config
    side = config.image_size // config.patch_size
    for stage, depth in enumerate(config.depths):
        grid, window = (side >> stage,) * 2, (config.window_size,) * 2
        for block in range(depth):
            prefix = f"layers.{stage}.blocks.{block}."
            state[prefix + "attn.relative_position_index"] = relative_position_index(window, config.window_size)
            if block % 2 and grid[0] > window[0]:
                mask = shift_mask(grid, window, (window[0] // 2,) * 2)
                assert mask is not None
                state[prefix + "attn_mask"] = mask
    return state


def timm_swin(**changes: Any) -> nn.Module:
    settings: dict[str, Any] = {
        "img_size": SMALL.image_size,
        "embed_dim": SMALL.embed_dim,
        "depths": SMALL.depths,
        "num_heads": SMALL.num_heads,
        "num_classes": SMALL.num_classes,
    }
    return randomise(timm.create_model("swin_tiny_patch4_window7_224", **(settings | changes))).eval()


def torchvision_swin() -> nn.Module:
    model = TorchvisionSwin([4, 4], 12, [2, 2], [2, 3], [7, 7], num_classes=10)
    return randomise(model).eval()


def refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
