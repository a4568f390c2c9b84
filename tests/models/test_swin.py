"""Swin against timm and torchvision; input sizes, options and the feature pyramid."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer as TorchvisionSwin
from torchvision.ops import FeaturePyramidNetwork

from swin_core.errors import ConfigError
from swin_core.models.config import VARIANTS, SwinConfig
from swin_core.models.swin import Swin
from swin_core.weights.key_layouts import convert
from swin_core.zoo.build import build
from tests.fixtures.reference import SMALL, randomise, relative_error, small


@pytest.fixture
def no_initialisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip initialisation, which is slow for large models; the test sets every weight itself."""
    for name in ("trunc_normal_", "kaiming_uniform_", "uniform_", "normal_", "xavier_uniform_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)


def copy_into(other: nn.Module, ours: Swin) -> nn.Module:
    """Copy our weights into timm's or torchvision's model, by the keys that `convert` returns."""
    theirs, _ = convert(other.state_dict())  # tensors that share memory with `other`
    state = ours.state_dict()
    assert theirs.keys() == state.keys()
    for key, value in theirs.items():
        assert value.shape == state[key].shape, key
        value.copy_(state[key])
    return other.eval()


def torchvision_of(config: SwinConfig) -> nn.Module:
    return TorchvisionSwin(
        [config.patch_size] * 2,
        config.embed_dim,
        list(config.depths),
        list(config.num_heads),
        [config.window_size] * 2,
        num_classes=config.num_classes,
    )


# Equal to the public implementations


@pytest.mark.usefixtures("no_initialisation")
@pytest.mark.parametrize(
    ("variant", "timm_name"),
    [
        ("swin_tiny", "swin_tiny_patch4_window7_224"),
        ("swin_small", "swin_small_patch4_window7_224"),
        ("swin_base", "swin_base_patch4_window7_224"),
        ("swin_large", "swin_large_patch4_window7_224"),
        ("swin_base_384", "swin_base_patch4_window12_384"),
    ],
)
def test_logits_equal_timm_and_torchvision(variant: str, timm_name: str) -> None:
    """The whole models have the same parameters; logits are compared with two blocks in the long third stage."""
    whole = build(variant)
    for other in (timm.create_model(timm_name, weight_init="skip"), torchvision_of(whole.config)):
        theirs, _ = convert(other.state_dict())
        assert {key: value.shape for key, value in theirs.items()} == {
            key: value.shape for key, value in whole.state_dict().items()
        }
    ours = Swin(replace(whole.config, depths=(2, 2, 2, 2))).eval()
    randomise(ours)
    x = torch.randn(1, 3, ours.config.image_size, ours.config.image_size)
    with torch.inference_mode():
        logits = ours(x)
        for other in (
            timm.create_model(timm_name, depths=(2, 2, 2, 2), weight_init="skip"),
            torchvision_of(ours.config),
        ):
            assert relative_error(logits, copy_into(other, ours)(x)) < 1e-4


@pytest.mark.parametrize("size", [(56, 252), (92, 64), (60, 60)])
def test_logits_equal_torchvision_where_windows_do_not_divide(size: tuple[int, int]) -> None:
    # Whole patches, since torchvision cuts off what is left; and maps of at least 7 tokens, since it pads
    # smaller ones to a window where the authors, timm and we shrink the window.
    config = replace(VARIANTS["swin_tiny"], depths=(2, 2), num_heads=(3, 6), num_classes=10)
    ours = Swin(config).eval()
    randomise(ours)
    x = torch.randn(2, 3, *size)
    with torch.inference_mode():
        assert relative_error(ours(x), copy_into(torchvision_of(config), ours)(x)) < 1e-4


def test_swin_tiny_equals_torchvision_at_200_by_264() -> None:
    ours = build("swin_tiny").eval()
    randomise(ours)
    x = torch.randn(1, 3, 200, 264)
    with torch.inference_mode():
        assert relative_error(ours(x), copy_into(torchvision_of(ours.config), ours)(x)) < 1e-4


def published_keys(config: SwinConfig) -> set[str]:
    """Keys of the authors' `swin_transformer.py` and `swin_mlp.py` without their index and mask buffers."""
    pair = ("weight", "bias")
    keys = {f"{name}.{part}" for name in ("patch_embed.proj", "patch_embed.norm", "norm", "head") for part in pair}
    if config.absolute_embedding:
        keys.add("absolute_pos_embed")
    for stage, depth in enumerate(config.depths):
        for index in range(depth):
            block = f"layers.{stage}.blocks.{index}."
            names = ["norm1", "norm2", "mlp.fc1", "mlp.fc2"]
            names += ["attn.proj", "attn.qkv"] if config.mixer == "attention" else ["spatial_mlp"]
            keys |= {f"{block}{name}.{part}" for name in names for part in pair}
            if config.mixer == "attention":
                keys.add(f"{block}attn.relative_position_bias_table")
        if stage < len(config.depths) - 1:
            merging = f"layers.{stage}.downsample."
            keys |= {merging + "norm.weight", merging + "norm.bias", merging + "reduction.weight"}
    return keys


@pytest.mark.parametrize("changes", [{}, {"mixer": "mlp"}, {"absolute_embedding": True}])
def test_state_dict_keys_are_the_published_ones(changes: dict[str, Any]) -> None:
    config = replace(SMALL, depths=(2, 3, 1), num_heads=(2, 2, 2), **changes)
    assert set(Swin(config).state_dict()) == published_keys(config)


@pytest.mark.parametrize(
    ("variant", "millions"),
    [("swin_tiny", 28.288), ("swin_small", 49.606), ("swin_base", 87.768), ("swin_large", 196.532)],
)
@pytest.mark.usefixtures("no_initialisation")
def test_variants_have_the_published_number_of_parameters(variant: str, millions: float) -> None:
    count = sum(parameter.numel() for parameter in build(variant).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=5e-4)


def test_the_plain_vit_equals_timms_with_mean_pooling() -> None:
    ours = build("vit_nano").eval()
    embedding = partial(timm.layers.PatchEmbed, norm_layer=torch.nn.LayerNorm)
    settings = {"img_size": 32, "patch_size": 4, "num_classes": 100, "embed_dim": 144, "depth": 5, "num_heads": 6}
    settings |= {"class_token": False, "global_pool": "avg", "fc_norm": False}
    peer = timm.models.VisionTransformer(**settings, embed_layer=embedding, norm_layer=torch.nn.LayerNorm).eval()
    names = {"absolute_pos_embed": "pos_embed"}
    with torch.no_grad():
        for value in ours.parameters():
            value.copy_(torch.randn_like(value) * 0.05)
    peer.load_state_dict(
        {names.get(key, key.replace("layers.0.blocks", "blocks")): value for key, value in ours.state_dict().items()}
    )
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), peer(images), rtol=1e-4, atol=1e-5)
    sizes = [sum(value.numel() for value in build(name).parameters()) for name in ("vit_nano", "swin_nano")]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.03)


# Free shapes and options


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 9), (3, 64), (17, 31), (32, 32), (100, 36)])
@pytest.mark.parametrize("mixer", ["attention", "mlp"])
def test_any_input_size_works(size: tuple[int, int], mixer: str) -> None:
    model = small(mixer=mixer)
    x = torch.randn(2, 3, *size)
    with torch.inference_mode():
        logits = model(x)
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    grid = [math.ceil(math.ceil(side / 2) / 2) for side in size]
    assert model.forward_features(x).shape == (2, *grid, 24)


@pytest.mark.parametrize(
    "changes",
    [
        {"in_chans": 1},
        {"in_chans": 13},
        {"patch_size": 1},
        {"patch_size": 5},
        {"depths": (1, 3), "window_size": 5},
        {"depths": (2,), "num_heads": (4,)},
        {"depths": (1, 1, 1, 1, 1), "num_heads": (1, 2, 3, 4, 6)},
        {"window_size": 1},
        {"mlp_ratio": 2.5},
        {"qkv_bias": False},
        {"num_classes": 1},
    ],
)
def test_shapes_are_free(changes: dict[str, Any]) -> None:
    model = small(**changes)
    logits = model(torch.randn(2, model.config.in_chans, 26, 33))
    assert logits.shape == (2, model.config.num_classes)
    assert logits.isfinite().all()


def test_without_classes_the_pooled_features_come_out() -> None:
    model = small(num_classes=0)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(x), model.forward_features(x).mean((1, 2)))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 4, 32, 32), (0, 3, 32, 32), (1, 3, 0, 32)])
def test_wrong_inputs_are_refused_in_one_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"takes \(B, 3, height, width\)") as caught:
        small()(torch.zeros(shape))
    assert "\n" not in str(caught.value)


def test_no_shift_leaves_windows_apart() -> None:
    x = torch.randn(1, 3, 32, 32)
    touched = x.clone()
    touched[..., :8, :8] += 1  # the first window: 4 tokens of 2 pixels
    for shift in (False, True):
        model = small(shift=shift)
        with torch.inference_mode():
            maps = [model.pyramid(image)["stage1"] for image in (x, touched)]
        changed = (maps[0] != maps[1]).any(1)[0]
        assert changed[:4, :4].all()
        changed[:4, :4] = False
        assert bool(changed.any()) is shift


def test_no_bias_equals_a_table_of_zeros() -> None:
    plain, biased = small(relative_position_bias=False), small()
    biased.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 3, 30, 38)
    with torch.no_grad():
        assert relative_error(plain(x), biased(x)) > 1e-3
        for name, parameter in biased.named_parameters():
            if "bias_table" in name:
                parameter.zero_()
        assert relative_error(plain(x), biased(x)) < 1e-5


def entering(model: Swin, x: Tensor) -> Tensor:
    """Return the input of the first stage."""
    seen: list[Tensor] = []
    hook = model.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    model(x)
    hook.remove()
    return seen[0]


def test_absolute_embedding_is_added_and_resized() -> None:
    model, plain = small(absolute_embedding=True), small()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k != "absolute_pos_embed"})
    embedding = model.absolute_pos_embed
    assert embedding is not None
    assert embedding.shape == (1, 16 * 16, 12)
    grid = embedding.detach().view(1, 16, 16, 12).permute(0, 3, 1, 2)
    for size in ((32, 32), (22, 48)):
        x = torch.randn(1, 3, *size)
        added = F.interpolate(grid, (size[0] // 2, size[1] // 2), mode="bicubic", align_corners=False)
        added = grid if size == (32, 32) else added
        difference = entering(model, x) - entering(plain, x)
        torch.testing.assert_close(difference, added.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-5)
    model(torch.randn(1, 3, 22, 48)).sum().backward()
    assert embedding.grad is not None


def test_drop_path_acts_in_training_only_and_keeps_the_mean() -> None:
    model = small(drop_path=0.5)
    rates = [block.drop_path.rate for stage in model.layers for block in stage.blocks]
    assert rates == pytest.approx([0, 1 / 6, 1 / 3, 0.5])
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))
    drop = model.layers[1].blocks[1].drop_path
    kept = drop(torch.ones(20000, 1, 1, 1))
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert float(kept.mean()) == pytest.approx(1, abs=0.05)


# The feature pyramid


def test_pyramid_feeds_a_feature_pyramid_network() -> None:
    model = build("swin_tiny", depths=(1, 1, 1, 1), num_classes=0).eval()
    height, width = 160, 224
    with torch.inference_mode():
        maps = model.pyramid(torch.randn(2, 3, height, width))
        assert list(maps) == ["stage1", "stage2", "stage3", "stage4"]
        for stage, (stride, features) in enumerate(zip((4, 8, 16, 32), maps.values(), strict=True)):
            assert features.shape == (2, 96 * 2**stage, height // stride, width // stride)
        pyramid = FeaturePyramidNetwork([features.shape[1] for features in maps.values()], 32)
        for name, features in pyramid(maps).items():
            assert features.shape == (2, 32, *maps[name].shape[-2:])


def test_pyramid_ends_where_the_classifier_begins() -> None:
    model = small()
    x = torch.randn(2, 3, 30, 38)
    last = list(model.pyramid(x).values())[-1].permute(0, 2, 3, 1)
    torch.testing.assert_close(model.head(model.norm(last).mean((1, 2))), model(x))


# Building


@pytest.mark.parametrize("variant", sorted(VARIANTS))
@pytest.mark.usefixtures("no_initialisation")
def test_every_variant_is_a_valid_config(variant: str) -> None:
    config = VARIANTS[variant]
    assert SwinConfig.from_dict(config.to_dict()) == config
    assert build(variant).config == config


def test_overrides_replace_fields() -> None:
    assert build("swin_nano", num_classes=5).head.out_features == 5


@pytest.mark.parametrize(
    ("variant", "changes", "message"),
    [
        ("swin_huge", {}, "unknown variant 'swin_huge'"),
        ("swin_nano", {"windows": 7}, "unknown model setting 'windows'"),
        ("swin_nano", {"num_heads": (5, 5, 5)}, "5 heads do not divide"),
        ("swin_nano", {"depths": (2, 2)}, "one entry for each stage"),
        ("swin_nano", {"window_size": 0}, "window_size must be at least 1"),
        ("swin_nano", {"num_classes": -1}, "num_classes must be 0 or more"),
        ("swin_nano", {"drop_path": 1.0}, "drop_path must be in"),
        ("swin_nano", {"mixer": "lstm"}, "mixer must be"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(variant: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build(variant, **changes)
    assert "\n" not in str(caught.value)
