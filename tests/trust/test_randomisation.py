"""Randomisation: maps of a model with new parameters are other maps, and the model itself stays what it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

import swin_core
from swin_core.attribution.dispatch import attribute
from swin_core.trust.randomisation import _cascade, parts, random_logit, randomisation
from swin_core.trust.similarity import spearman
from swin_core.zoo.classifier import Classifier

pytestmark = pytest.mark.usefixtures("one_thread")


def test_parts_from_the_head_down() -> None:
    model = swin_core.build("swin_nano", num_classes=3)
    stages = len(model.layers)
    expected = ["head", "norm", *(f"layers.{n}" for n in reversed(range(stages))), "patch_embed"]
    assert [name for name, _ in parts(model)] == expected
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=3, depth=2)
    tokens = ["cls_token", "pos_embed"]
    assert [name for name, _ in parts(vit)] == ["head", "norm", "blocks.1", "blocks.0", "patch_embed", *tokens]


class PooledLinear(nn.Linear):
    """A model without children."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mean((2, 3)))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "class token": lambda: timm.create_model("vit_tiny_patch16_224", num_classes=3, depth=2, img_size=32),
    "absolute position embedding": lambda: swin_core.build("swin_nano", num_classes=3, absolute_embedding=True),
    "batch norm": lambda: timm.create_model("resnet18", num_classes=3),
    "frozen batch norm": lambda: nn.Sequential(
        nn.Conv2d(3, 16, 32), timm.layers.FrozenBatchNormAct2d(16), nn.Flatten(), nn.Linear(16, 3)
    ),
    "no child": lambda: PooledLinear(3, 3),
}


@pytest.mark.parametrize("kind", MODELS)
def test_no_learned_value_is_left(kind: str) -> None:
    """Every parameter and every statistic of a batch norm has new values at the end, and variances stay positive."""
    model = MODELS[kind]()
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5)
    before = {key: value.clone() for key, value in model.state_dict().items() if value.is_floating_point()}
    *_, last = _cascade(Classifier(model, ["a", "b", "c"], (0.5,) * 3, (0.5,) * 3, 32), 0)
    after = last.model.state_dict()
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert all(bool((value > 0).all()) for key, value in after.items() if key.endswith("running_var"))
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())


@pytest.fixture
def small() -> Classifier:
    model = swin_core.build("swin_nano", num_classes=4, image_size=32)
    return Classifier(model, ["a", "b", "c", "d"], (0.5,) * 3, (0.5,) * 3, 32)


def test_similarity_falls_and_the_model_stays(small: Classifier) -> None:
    batch, targets = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    before = {key: value.clone() for key, value in small.model.state_dict().items()}
    names = tuple(name for name, _ in parts(small.model))
    for layer in ("norm", "layers.0"):
        ticks: list[int] = []
        found = randomisation(small, batch, targets, "gradcam", layer, seeds=(0, 1), tick=ticks.append)
        assert found.parts == names
        assert len(found.spearman) == len(found.ssim) == len(names)
        assert all(-1 <= value <= 1 for value in (*found.spearman, *found.ssim))
        assert found.spearman[-1] < 0.6
        assert found.spread > 0
        assert len(ticks) == 2 * len(names)
        assert randomisation(small, batch, targets, "gradcam", layer, seeds=(0, 1)) == found
    after = small.model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


class HeadOnly(nn.Module):
    """A fixed map of the image's brightness, and a head that weighs it; only the head has parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = nn.AvgPool2d(2)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.grid(x).mean((2, 3)))


def test_randomisation_equals_its_definition() -> None:
    """With one part, whose new values are drawn by the seed, all of it can be done by hand."""
    torch.manual_seed(3)
    model = HeadOnly().eval()
    classifier = Classifier(model, ["a", "b"], (0.5,) * 3, (0.5,) * 3, 16)
    batch, targets = torch.rand(5, 3, 16, 16), torch.tensor([0, 1, 0, 1, 1])
    original = torch.einsum("bchw,bc->bhw", model.grid(batch), model.head.weight.detach()[targets]).relu()
    expected = []
    for seed in (0, 1, 2):
        draw = torch.Generator().manual_seed(seed)
        weight = model.head.weight.detach()
        new = weight.mean() + weight.std(correction=0) * torch.randn(2, 3, generator=draw)
        maps = torch.einsum("bchw,bc->bhw", model.grid(batch), new[targets]).relu()
        expected.append(float(spearman(maps, original).mean()))
    found = randomisation(classifier, batch, targets, "gradcam", "grid")
    assert found.parts == ("head",)
    assert found.spearman[0] == pytest.approx(sum(expected) / 3)
    assert found.spread == pytest.approx(float(torch.tensor(expected).std()))


def test_random_logit(small: Classifier) -> None:
    batch, targets, others = torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 2]), torch.tensor([3, 2, 2])
    maps = attribute(small, batch, targets, "gradcam", "norm")[:, 0]
    found = random_logit(small, batch, maps, others, "gradcam", "norm")
    assert float(found[2]) == pytest.approx(1)  # the same class
    for n in range(2):
        one = attribute(small, batch[n : n + 1], targets[n : n + 1], "gradcam", "norm")[0]
        other = attribute(small, batch[n : n + 1], others[n : n + 1], "gradcam", "norm")[0]
        assert float(found[n]) == pytest.approx(float(spearman(one, other)), abs=1e-3)
