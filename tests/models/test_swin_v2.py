"""Swin V2 against timm, torchvision and transformers: logits and gradients, other windows and sizes, a slow loop."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2
from torchvision.models.swin_transformer import SwinTransformer as TorchvisionSwin

from swin_core.errors import ConfigError
from swin_core.models.config import VARIANTS, SwinConfig
from swin_core.models.swin import Swin
from swin_core.models.swin_v2 import CosineWindowAttention
from swin_core.weights.key_layouts import convert
from swin_core.zoo.build import build
from tests.fixtures.reference import naive_attention, randomise, relative_error

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = SwinConfig(
    version=2,
    image_size=64,
    patch_size=4,
    num_classes=7,
    embed_dim=12,
    depths=(2, 2, 1),
    num_heads=(1, 2, 3),
    window_size=4,
)


def small(seed: int = 0, **changes: Any) -> Swin:
    model = Swin(replace(SMALL, **changes))
    randomise(model, seed)
    return model.eval()


def settings(config: SwinConfig, image_size: int | None = None) -> dict[str, Any]:
    """A config as timm takes it."""
    return {
        "img_size": image_size or config.image_size,
        "patch_size": config.patch_size,
        "num_classes": config.num_classes,
        "embed_dim": config.embed_dim,
        "depths": config.depths,
        "num_heads": config.num_heads,
        "window_size": config.window_size,
        "pretrained_window_sizes": config.pretrained_window_sizes or (0,) * len(config.depths),
    }


def timm_model(config: SwinConfig, image_size: int | None = None) -> nn.Module:
    return SwinTransformerV2(**settings(config, image_size))


def torchvision_model(config: SwinConfig, image_size: int | None = None) -> nn.Module:
    return TorchvisionSwin(
        [config.patch_size] * 2,
        config.embed_dim,
        list(config.depths),
        list(config.num_heads),
        [config.window_size] * 2,
        num_classes=config.num_classes,
        block=SwinTransformerBlockV2,
        downsample_layer=PatchMergingV2,
    )


def transformers_model(config: SwinConfig, image_size: int | None = None) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    return transformers.Swinv2ForImageClassification(
        transformers.Swinv2Config(
            image_size=image_size or config.image_size,
            patch_size=config.patch_size,
            embed_dim=config.embed_dim,
            depths=list(config.depths),
            num_heads=list(config.num_heads),
            window_size=config.window_size,
            pretrained_window_sizes=list(config.pretrained_window_sizes or (0,) * len(config.depths)),
            num_labels=config.num_classes,
            drop_path_rate=0.0,
        )
    )


def run(model: nn.Module, x: Tensor) -> Tensor:
    logits = model(x)
    return logits if isinstance(logits, Tensor) else logits.logits


LIBRARIES = [timm_model, torchvision_model, transformers_model]


def copied(theirs: nn.Module, ours: Swin) -> Swin:
    """Give our model the random weights of another library's."""
    randomise(theirs.eval(), 3)
    ours.load_state_dict(convert(theirs.state_dict())[0])
    return ours


@pytest.mark.parametrize("make", LIBRARIES)
def test_logits_equal_the_library(make: Any) -> None:
    ours, theirs = small(), make(SMALL)
    copied(theirs, ours)
    x = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        assert relative_error(ours(x), run(theirs, x)) < 1e-5
        assert relative_error(ours.double()(x.double()), run(theirs.double(), x.double())) < 1e-10


def test_tiny_equals_timm() -> None:
    ours, theirs = build("swinv2_tiny", window_size=16).eval(), timm.create_model("swinv2_tiny_window16_256")
    copied(theirs, ours)
    x = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        assert relative_error(ours(x), theirs(x)) < 1e-5


@pytest.mark.parametrize("name", ["swinv2_tiny", "swinv2_small", "swinv2_base"])
def test_variants_have_the_published_tensors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for initialisation in ("trunc_normal_", "kaiming_uniform_", "uniform_"):  # slow for large models
        monkeypatch.setattr(nn.init, initialisation, lambda tensor, *args, **kwargs: tensor)
    ours = build(name)
    with torch.device("meta"):
        theirs = timm.create_model(f"{name}_window8_256")
    shapes = [{key: value.shape for key, value in convert_names(model).items()} for model in (theirs, ours)]
    assert shapes[0] == shapes[1]


def convert_names(model: nn.Module) -> dict[str, Tensor]:
    """Shapes under our keys, with numbers in place of the tensors of the meta device."""
    return convert({key: torch.empty(value.shape) for key, value in model.state_dict().items()})[0]


@pytest.mark.parametrize("make", LIBRARIES)
def test_gradients_equal_the_library(make: Any) -> None:
    ours, theirs = small().double(), make(SMALL).double()
    copied(theirs, ours)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    at_x = []
    for model in (ours, theirs):
        image = x.clone().requires_grad_()
        run(model, image).square().sum().backward()
        assert image.grad is not None
        at_x.append(image.grad)
    assert relative_error(*at_x) < 1e-9
    expected = convert({key: value.grad for key, value in theirs.named_parameters()})[0]
    gradients = {key: value.grad for key, value in ours.named_parameters()}
    assert expected.keys() == gradients.keys()
    for key, gradient in gradients.items():
        assert gradient is not None
        assert relative_error(gradient, expected[key]) < 1e-8, key


@pytest.mark.parametrize("make", [timm_model, transformers_model])
@pytest.mark.parametrize("size", [32, 48, 96])
def test_other_image_sizes_keep_the_bias_of_an_offset(make: Any, size: int) -> None:
    """On small maps windows shrink; the offsets stay relative to the windows of training."""
    ours = small().double()
    theirs = make(replace(SMALL, pretrained_window_sizes=ours.config.trained_windows()), size).double()
    copied(theirs, ours)
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    with torch.inference_mode():
        assert relative_error(ours(x), run(theirs, x)) < 1e-10


@pytest.mark.parametrize("make", [timm_model, transformers_model])
def test_another_window_than_pretrained(make: Any) -> None:
    config = replace(SMALL, window_size=8, pretrained_window_sizes=(4, 4, 2))
    ours, theirs = Swin(config).double().eval(), make(config).double()
    copied(theirs, ours)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        logits = ours(x)
        assert relative_error(logits, run(theirs, x)) < 1e-10
        ours.set_trained_windows((8, 8, 4))
        assert relative_error(logits, ours(x)) > 1e-6
        ours.set_trained_windows((4, 4, 2))
        assert relative_error(ours(x), logits) < 1e-12


@pytest.mark.parametrize("size", [(64, 80), (72, 100)])
def test_windows_that_do_not_divide_equal_torchvision(size: tuple[int, int]) -> None:
    # Maps of at least a window, since torchvision pads smaller ones.
    config = replace(SMALL, depths=(2, 2), num_heads=(1, 2))
    ours, theirs = Swin(config).double().eval(), torchvision_model(config).double()
    copied(theirs, ours)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        assert relative_error(ours(x), theirs(x)) < 1e-10


@pytest.mark.parametrize("grid", [(8, 8), (9, 13), (4, 11), (3, 10), (1, 1), (1, 6)])
@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("options", [{}, {"position_bias": False}, {"qkv_bias": False}])
def test_attention_equals_a_loop(
    grid: tuple[int, int], shift: int, options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    biases = {"qkv_bias": True, "position_bias": True} | options
    module = CosineWindowAttention(6, 2, 4, shift, trained_window=3, **biases).double()
    randomise(module)
    with torch.no_grad():
        module.logit_scale[1] = 7.0  # above the largest scale
    x = torch.randn(1, *grid, 6, dtype=torch.float64)
    expected = torch.from_numpy(naive_attention(module, x[0].numpy()))
    assert relative_error(module(x)[0].detach(), expected) < 1e-7  # the path that training takes
    for most in (2**21, 0):  # by plain products, then by the fused kernel
        monkeypatch.setattr("swin_core.models.window_attention._FEW_SCORES", most)
        with torch.inference_mode():
            assert relative_error(module(x)[0], expected) < 1e-7


def test_cached_bias_follows_the_network() -> None:
    model = small()
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        before = model(x)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "cpb_mlp" in name:
                parameter.mul_(-2)
    fresh = copy.deepcopy(model)
    with torch.inference_mode():
        after = model(x)
    assert relative_error(after, before) > 1e-3
    assert relative_error(after, fresh(x).detach()) < 1e-5  # with gradients nothing is cached


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_survives_padded_tokens(dtype: torch.dtype) -> None:
    """Without biases a padded token has a key of norm 0."""
    model = small(qkv_bias=False)
    x = torch.randn(1, 3, 72, 60)
    with torch.inference_mode():
        exact = model(x)
        assert relative_error(model.to(dtype)(x.to(dtype)).float(), exact) < 0.1


def test_blocks_start_as_the_identity() -> None:
    model = Swin(SMALL).eval()
    x = torch.randn(1, 16, 16, 12)
    assert torch.equal(model.layers[0](x), x)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 3}, "version must be 1 or 2, not 3"),
        ({"mixer": "mlp"}, "no all-MLP form"),
        ({"pretrained_window_sizes": (4, 4)}, "one entry of at least 1 for each stage"),
        ({"pretrained_window_sizes": (4, 4, 0)}, "one entry of at least 1 for each stage"),
        ({"version": 1, "pretrained_window_sizes": (4, 4, 4)}, "belong to Swin V2"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        replace(SMALL, **changes)
    assert "\n" not in str(caught.value)


def test_a_config_of_json_equals_its_source() -> None:
    config = replace(VARIANTS["swinv2_tiny"], pretrained_window_sizes=(12, 12, 12, 6))
    assert SwinConfig.from_dict(config.to_dict() | {"pretrained_window_sizes": [12, 12, 12, 6]}) == config
