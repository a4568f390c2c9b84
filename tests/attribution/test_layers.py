"""Target layers: layouts of outputs, what is offered, and maps of other libraries' models beside pytorch-grad-cam."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

import swin_core
from swin_core.attribution.explain import explain
from swin_core.attribution.layers import (
    Layout,
    default_layer,
    find_layout,
    layer_positions,
    offered_layers,
    stage_layers,
)
from swin_core.errors import LayerError
from swin_core.zoo.classifier import Classifier
from tests.fixtures.grad_cam import TIMM, grad_cam

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE, CLASSES = 64, 4


def torchvision_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(SIZE, 16, 3, 2, 32, 64, num_classes=CLASSES)


def torchvision_swin(block: Any = None) -> nn.Module:
    options = {"block": block} if block else {}
    return torchvision.models.SwinTransformer([4, 4], 16, [1, 2], [2, 2], [4, 4], num_classes=CLASSES, **options)


def torchvision_swin_v2() -> nn.Module:
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

    return torchvision.models.SwinTransformer(
        [4, 4],
        16,
        [1, 2],
        [2, 2],
        [4, 4],
        num_classes=CLASSES,
        block=SwinTransformerBlockV2,
        downsample_layer=PatchMergingV2,
    )


def torchvision_convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig

    return torchvision.models.ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 2)], num_classes=CLASSES)


def hub(name: str, **settings: Any) -> nn.Module:
    """An image classifier of transformers, of random weights."""
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{name}Config")(num_labels=CLASSES, image_size=SIZE, **settings)
    model: nn.Module = getattr(transformers, f"{name}ForImageClassification")(config)
    return model


SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "patch_size": 16}

MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "torchvision ViT": (torchvision_vit, "encoder.layers.encoder_layer_2.ln_1"),
    "torchvision Swin": (torchvision_swin, "features.3.1.norm1"),
    "torchvision Swin V2": (torchvision_swin_v2, "permute"),
    "torchvision ConvNeXt": (torchvision_convnext, "features.3"),
    "torchvision ResNet": (lambda: torchvision.models.resnet18(num_classes=CLASSES), "layer4"),
    "transformers ViT": (lambda: hub("ViT", **SMALL), ".2.layernorm_before"),
    "transformers DeiT": (lambda: hub("DeiT", **SMALL), ".2.layernorm_before"),
    "transformers BEiT": (
        lambda: hub("Beit", **SMALL, use_relative_position_bias=True, use_mean_pooling=False),
        ".2.layernorm_before",
    ),
    "transformers Swin": (
        lambda: hub("Swin", embed_dim=16, depths=[1, 2], num_heads=[2, 2], window_size=4, patch_size=4),
        "layers.1.blocks.1.layernorm_before",
    ),
    "transformers ConvNeXt": (lambda: hub("ConvNext", hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 2]), ""),
    "timm ViT": (
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=SIZE, depth=3, num_classes=CLASSES),
        "blocks.2.norm1",
    ),
    "timm ViT, mean": (
        lambda: timm.create_model(
            "vit_tiny_patch16_224", img_size=SIZE, depth=2, num_classes=CLASSES, global_pool="avg"
        ),
        "blocks.1.norm1",
    ),
    "timm DeiT, distilled": (
        lambda: timm.create_model("deit_tiny_distilled_patch16_224", img_size=SIZE, depth=2, num_classes=CLASSES),
        "blocks.1.norm1",
    ),
    "timm BEiT": (
        lambda: timm.create_model("beit_base_patch16_224", img_size=SIZE, depth=2, embed_dim=32, num_heads=2,
                                  num_classes=CLASSES),
        "blocks.1.norm1",
    ),
    "timm Swin V2": (
        lambda: timm.create_model("swinv2_tiny_window8_256", img_size=SIZE, window_size=2, embed_dim=24,
                                  num_classes=CLASSES),
        "norm",
    ),
    "timm ConvNeXt": (lambda: timm.create_model("convnext_atto", num_classes=CLASSES), "stages.3"),
    "timm EfficientNet": (lambda: timm.create_model("efficientnet_lite0", num_classes=CLASSES), "bn2"),
    "timm MobileNet": (lambda: timm.create_model("mobilenetv3_small_050", num_classes=CLASSES), "blocks.5"),
    "timm Mixer": (
        lambda: timm.create_model("mixer_s32_224", img_size=SIZE, num_classes=CLASSES),
        "blocks.7.norm1",
    ),
    "timm RegNet": (lambda: timm.create_model("regnetx_002", num_classes=CLASSES), "s4"),
    "wrapped": (lambda: nn.Sequential(nn.Identity(), nn.Sequential(torchvision_vit(), nn.Softmax(1))),
                "1.0.encoder.layers.encoder_layer_2.ln_1"),
}  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def classifier(request: pytest.FixtureRequest) -> Classifier:
    torch.manual_seed(0)
    model = MODELS[request.param][0]()
    for head in [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]:
        nn.init.normal_(head.weight, std=0.1)
    return Classifier(model.eval(), None, 0.5, 0.5, SIZE, name=request.param)


@pytest.fixture
def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8))


def theirs(classifier: Classifier, x: Tensor, layer: str, target: int, grid: tuple[int, int]) -> np.ndarray:
    """pytorch-grad-cam's map on the bare model, with a reshape_transform written by hand, `(h, w)`."""
    module = classifier.model.get_submodule(layer)

    def by_hand(output: Tensor) -> Tensor:
        if output.dim() == 3:
            cells = grid[0] * grid[1]
            return output[:, output.shape[1] - cells :].reshape(1, *grid, -1).permute(0, 3, 1, 2)
        return output if tuple(output.shape[2:]) == grid else output.permute(0, 3, 1, 2)

    bare = Logits(classifier.model)
    with GradCAM(bare, [module], by_hand) as cam:
        cam.compute_input_gradient = False
        logits = cam.activations_and_grads(x)
        ClassifierOutputTarget(target)(logits[0]).backward()
        activations = cam.activations_and_grads.activations[0].numpy()
        gradients = cam.activations_and_grads.gradients[0].numpy()
        return np.maximum(cam.get_cam_image(x, module, None, activations, gradients, False)[0], 0)


class Logits(nn.Module):
    """The logits of a model of transformers, or of one that ends in a softmax."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.model, nn.Sequential):
            return self.model[1][0](x)
        output = self.model(x)
        return output if isinstance(output, Tensor) else output.logits


def test_offered_layers_have_maps(classifier: Classifier, noise: Image.Image, no_hooks_left: Any) -> None:
    no_hooks_left(classifier.model)
    offered = offered_layers(classifier)
    expected = MODELS[classifier.name][1]
    assert offered[0].endswith(expected)
    assert len(set(offered)) == len(offered)
    x = classifier.tensor(classifier.view(noise))
    for layer in offered[:3]:
        found = explain(classifier, noise, 1, "gradcam", layer)
        height, width = found.maps.shape[2:]
        assert 1 < height == width <= SIZE // 2
        peer = theirs(classifier, x, layer, 1, (height, width))
        np.testing.assert_allclose(found.maps[0, 0], peer, rtol=1e-3, atol=1e-5 * float(peer.max()) + 1e-9)
    with torch.no_grad():
        np.testing.assert_allclose(found.logits, Logits(classifier.model)(x)[0], atol=1e-5)


def test_every_offered_layer_is_reached_by_a_gradient(classifier: Classifier, noise: Image.Image) -> None:
    for layer in offered_layers(classifier):
        found = explain(classifier, noise, 1, "hirescam", layer)
        assert np.isfinite(found.maps).all()
    stages = stage_layers(classifier)
    assert all(np.isfinite(explain(classifier, noise, 1, "gradcam", stages).maps).ravel())


def test_positions(classifier: Classifier, noise: Image.Image) -> None:
    positions = layer_positions(classifier)
    assert list(positions) == list(offered_layers(classifier))
    default = positions[default_layer(classifier)]
    assert default.number == default.count
    assert explain(classifier, noise, 1, "gradcam").maps.shape[2:] == default.grid
    assert all(1 <= place.number <= place.count for place in positions.values())


def test_positions_of_a_swin_are_its_stages() -> None:
    model = swin_core.build("swin_micro", num_classes=2)
    positions = layer_positions(Classifier(model, "ab", 0.5, 0.5, SIZE))
    assert [(positions[f"layers.{n}"].number, positions[f"layers.{n}"].count) for n in (0, 1)] == [(1, 3), (2, 3)]
    assert positions["layers.0"].grid == (32, 32)


class Trap(nn.Module):
    """A network with a table that has the grid of a map, an unused map, a reused layer and a pooled token."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 8, 8)
        self.table = nn.Linear(1, 12)
        self.side = nn.Conv2d(12, 12, 1)
        self.twice = nn.Conv2d(12, 12, 3, padding=1)
        self.norm = nn.LayerNorm(12)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        table = self.table(torch.ones(1, 8, 8, 1))
        x = self.stem(x)
        self.side(x)
        tokens = self.twice(self.twice(x)).flatten(2).transpose(1, 2) + table.flatten(1, 2)
        tokens = self.norm(torch.cat([tokens.mean(1, keepdim=True), tokens], 1))
        return self.out(tokens[:, 0])


def test_tables_unused_reused_and_dead_layers_are_not_offered(noise: Image.Image) -> None:
    classifier = Classifier(Trap(), "abc", 0.5, 0.5, SIZE)
    assert offered_layers(classifier) == ("stem",)
    assert explain(classifier, noise).layers == ("stem",)


def test_a_head_of_zeros_has_layers_all_the_same() -> None:
    model = swin_core.build("swin_nano", num_classes=2)
    nn.init.zeros_(model.head.weight)
    assert default_layer(Classifier(model, "ab", 0.5, 0.5, 32)).endswith("norm1")


@pytest.mark.filterwarnings("ignore")
def test_torchscript_has_no_layers_and_quantised_layers_no_gradient() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    scripted = torch.jit.script(plain)
    quantised = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear})
    with pytest.raises(LayerError, match="no layer of"):
        offered_layers(Classifier(scripted, "abc", 0.5, 0.5, SIZE))
    with pytest.raises(LayerError, match="use the unquantised model"):
        offered_layers(Classifier(quantised, "abc", 0.5, 0.5, SIZE))


@pytest.mark.parametrize("size", [224, 256])
def test_layouts_are_found_at_any_size(size: int) -> None:
    """No grid is assumed: the same layers work at another input size."""
    model = timm.create_model("swin_tiny_patch4_window7_224", num_classes=3, img_size=size).eval()
    side = -(-size // 32)
    for layer in ("norm", "layers.3.blocks.1.norm2"):
        found = grad_cam(model, torch.randn(1, 3, size, size), [0], [layer])
        assert found.maps[0][0].shape == (side, side)


@pytest.mark.parametrize(
    ("shape", "size", "prefix", "expected"),
    [
        ((1, 7, 7, 768), (224, 224), None, Layout("channels_last", (7, 7))),
        ((1, 768, 7, 7), (224, 224), None, Layout("channels_first", (7, 7))),
        ((1, 49, 768), (224, 224), None, Layout("tokens", (7, 7))),
        ((1, 197, 192), (224, 224), None, Layout("tokens", (14, 14), 1)),
        ((1, 198, 192), (224, 224), 2, Layout("tokens", (14, 14), 2)),
        ((1, 7, 10, 96), (200, 300), None, Layout("channels_last", (7, 10))),
        ((1, 70, 96), (200, 300), None, Layout("tokens", (7, 10))),
    ],
)
def test_find_layout(shape: tuple[int, ...], size: tuple[int, int], prefix: int | None, expected: Layout) -> None:
    output = torch.arange(float(np.prod(shape))).view(shape)
    found = find_layout("layer", nn.Identity(), output, size, prefix=prefix)
    assert found == expected
    arranged = found.channels_first(output)
    assert arranged.shape[2:] == expected.grid
    row, column = expected.grid[0] - 1, 1
    if found.kind == "tokens":
        cell = output[0, expected.prefix + row * expected.grid[1] + column]
    else:
        cell = output[0, row, column] if found.kind == "channels_last" else output[0, :, row, column]
    torch.testing.assert_close(arranged[0, :, row, column], cell)


def test_what_fits_two_ways_is_refused_unless_the_layer_knows() -> None:
    output = torch.zeros(1, 8, 8, 8)
    with pytest.raises(LayerError, match="both fit"):
        find_layout("x", nn.Identity(), output, (64, 64))
    output = torch.zeros(1, 8, 8, 9)
    assert find_layout("x", nn.LayerNorm(9), output, (64, 64)).kind == "channels_last"
    assert find_layout("x", nn.Conv2d(3, 8, 1), output, (64, 72)).kind == "channels_first"


def test_behind_the_last_attention_only_the_class_token_counts(cat: Image.Image) -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=4, depth=2)
    vit = swin_core.Classifier.from_timm(model, "vit")
    for layer in ("norm", "blocks.1"):
        with pytest.raises(LayerError, match="only the class token"):
            explain(vit, cat, [0], layers=[layer])


def test_attention_matrices_are_no_maps(cat: Image.Image) -> None:
    model = timm.create_model("swin_tiny_patch4_window7_224", num_classes=4)
    model.layers[3].blocks[1].attn.fused_attn = False
    with pytest.raises(LayerError, match="returns attention matrices"):
        explain(swin_core.Classifier.from_timm(model), cat, [0], layers=["layers.3.blocks.1.attn.attn_drop"])


def test_offered_layers_depend_on_the_image_size() -> None:
    model = swin_core.build("swin_nano", num_classes=2)
    small, large = (swin_core.Classifier(model, "ab", (0.5,) * 3, (0.5,) * 3, size) for size in (4, 64))
    assert offered_layers(small) != offered_layers(large)
    alone = swin_core.Classifier(swin_core.build("swin_nano", num_classes=2), "ab", (0.5,) * 3, (0.5,) * 3, 64)
    assert offered_layers(large) == offered_layers(alone)


def test_offered_layers_can_all_be_explained(peer: swin_core.Classifier, cat: Image.Image) -> None:
    offered = offered_layers(peer)
    assert offered[0] == TIMM[peer.name][0] == default_layer(peer)
    for layer in offered:
        assert np.isfinite(explain(peer, cat, [1], layers=[layer]).maps).all()


def test_the_last_norm_is_offered_for_every_swin() -> None:
    ours = swin_core.Classifier(swin_core.build("swin_nano"), [str(i) for i in range(100)], (0.5,) * 3, (0.5,) * 3, 32)
    second = swin_core.Classifier.from_timm(timm.create_model("swinv2_tiny_window8_256", num_classes=2))
    for classifier in (ours, second):
        assert "norm" in offered_layers(classifier)
