"""Options of the trainer: layer decay, freezing, micro-batches, checkpointing, precision, distillation, mixing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import swin_core
from swin_core.errors import ConfigError
from swin_core.models.config import VARIANTS
from swin_core.models.linear import linear
from swin_core.models.precision import has_bfloat16
from swin_core.models.swin import DropPath
from swin_core.system.distributed import SINGLE
from swin_core.training import TrainConfig
from swin_core.training.augment import augment
from swin_core.training.data import MEAN, STD, TrainingData
from swin_core.training.launch import choose_devices, teacher_of
from swin_core.training.mixing import mix
from swin_core.training.muon import Muon
from swin_core.training.objective import Teacher
from swin_core.training.optim import learning_rate
from swin_core.training.random_draws import Draws
from swin_core.training.trainer import Trainer, new_model
from swin_core.weights.files import save_weights
from swin_core.zoo.build import build

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES = ("ant", "bee", "cow")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of eight images of noise, 16 pixels."""
    root = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for name in CLASSES:
        (root / name).mkdir()
        for index in range(8):
            Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / name / f"{index}.png")
    return root


def trainer_of(pictures: Path, teacher: Teacher | None = None, **changes: Any) -> Trainer:
    """A trainer of 18 images in two steps an epoch, with nothing on the disk."""
    settings: dict[str, Any] = {"variant": "swin_nano", "image_size": 16, "crop_padding": 2, "cutout": 3}
    settings |= {"data": str(pictures), "batch_size": 9, "holdout": 0.25, "precision": "float32", "epochs": 3}
    settings |= {"optimizer": "adamw", "lr": 1e-3, "warmup": 0.2}
    config = TrainConfig(**(settings | changes))
    data = TrainingData.load(config, None, torch.device("cpu"))
    return Trainer(config, data, new_model(config, data), teacher=teacher)


def train_some(trainer: Trainer, steps: int) -> list[float]:
    """Mean loss of each of the first steps."""
    losses = []
    for chosen in [*trainer._batches()][:steps]:
        rows = trainer.rows(len(chosen))
        read = trainer.data.train.batches([chosen[part] for part in rows])
        trainer._learner.train()
        losses.append(float(trainer.train_step(len(chosen), rows, read)) / len(chosen))
        trainer.position.index += 1
    return losses


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


# Layer decay, freezing, schedule


def blocks_before(name: str) -> int:
    """How many blocks of a swin_nano come before a parameter, by its name."""
    depths = VARIANTS["swin_nano"].depths
    starts = [sum(depths[:stage]) for stage in range(len(depths))]
    if found := re.match(r"layers\.(\d)\.blocks\.(\d+)\.", name):
        return 1 + starts[int(found[1])] + int(found[2])
    if found := re.match(r"layers\.(\d)\.downsample\.", name):
        return starts[int(found[1]) + 1]  # with the last block of its stage
    return 0 if name.startswith("patch_embed") else 1 + sum(depths)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_each_layer_learns_at_its_own_rate(optimizer: str, pictures: Path) -> None:
    trainer = trainer_of(pictures, optimizer=optimizer, layer_decay=0.7, weight_decay=0.2, schedule="cosine")
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    last = blocks_before("head.weight")
    for step in range(2):
        train_some(trainer, 1)
        rate = learning_rate(step, trainer.steps, trainer.config)
        seen = []
        for kind in trainer.optimizers:
            for group in kind.param_groups:
                for parameter in group["params"]:
                    name = names[id(parameter)]
                    seen.append(name)
                    assert group["lr"] == pytest.approx(rate * 0.7 ** (last - blocks_before(name)), rel=1e-9), name
                    hidden = name.startswith("layers") and parameter.ndim == 2 and "table" not in name
                    assert isinstance(kind, Muon) == (hidden and optimizer == "muon")
                    table_or_vector = parameter.ndim == 1 or "table" in name
                    assert group["weight_decay"] == (0 if table_or_vector else 0.2)
        assert sorted(seen) == sorted(names.values())
    assert rate > 0


def test_the_first_step_of_adamw_moves_each_layer_by_its_rate(pictures: Path) -> None:
    """Adam's first step is the rate times the sign of the gradient, so that the largest change is the rate."""
    trainer = trainer_of(pictures, layer_decay=0.7, weight_decay=0.0, clip=0.0)
    before = weights(trainer.model)
    train_some(trainer, 1)
    rate = learning_rate(0, trainer.steps, trainer.config)
    for name, value in weights(trainer.model).items():
        moved = float((value - before[name]).abs().max())
        assert moved == pytest.approx(rate * 0.7 ** (blocks_before("head.weight") - blocks_before(name)), rel=0.02), (
            name
        )


FROZEN = {1: ("patch_embed",), 2: ("patch_embed", "layers.0."), 4: ("patch_embed", "layers.")}


@pytest.mark.parametrize("parts", FROZEN)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_frozen_parts_keep_their_weights_and_the_others_learn(parts: int, optimizer: str, pictures: Path) -> None:
    trainer = trainer_of(pictures, freeze=parts, optimizer=optimizer, weight_decay=0.5, checkpointing=True)
    before = weights(trainer.model)
    train_some(trainer, 2)
    trainer.validate()
    averaged = dict(trainer.validated.named_parameters())
    for name, value in weights(trainer.model).items():
        assert torch.equal(value, before[name]) == name.startswith(FROZEN[parts]), name
        assert torch.equal(averaged[name], before[name]) == name.startswith(FROZEN[parts]), name


def test_freezing_everything_is_refused_in_one_line(pictures: Path) -> None:
    with pytest.raises(ConfigError, match=r"^freeze is at most 4 for a model of 3 stages.*\.$"):
        trainer_of(pictures, freeze=5)


# Pieces, checkpointing, drop path, precision

EVERYTHING: dict[str, Any] = {"drop_path": 0.4, "mixup": 0.8, "cutmix": 1.0, "erasing": 0.5, "randaugment": 5}


def calm(trainer: Trainer) -> Trainer:
    """Adam's step is the sign of a gradient even where rounding made that; a wider epsilon leaves such ones alone."""
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group["eps"] = 1e-4
    return trainer


@pytest.mark.parametrize("changes", [{}, EVERYTHING])
def test_a_step_in_pieces_is_the_whole_step(changes: dict[str, Any], pictures: Path) -> None:
    whole = calm(trainer_of(pictures, **changes))
    losses = train_some(whole, 2)
    for count in (2, 3):
        pieced = calm(trainer_of(pictures, accumulate=count, **changes))
        assert len(pieced.rows(9)) == count
        assert train_some(pieced, 2) == pytest.approx(losses, abs=1e-5)
        for name, value in weights(pieced.model).items():
            torch.testing.assert_close(value, whole.model.get_parameter(name), atol=1e-5, rtol=0, msg=name)


def test_pieces_that_are_too_small_are_refused_in_one_line(pictures: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^a batch of 9 images is too small for 1 processes with 5 micro-batches.*\.$"
    ):
        trainer_of(pictures, accumulate=5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_computing_activations_again_changes_nothing(precision: str, pictures: Path) -> None:
    kept, again = (
        trainer_of(pictures, checkpointing=on, precision=precision, clip=0.0, **EVERYTHING) for on in (False, True)
    )
    calls: list[str] = []
    for trainer, name in ((kept, "kept"), (again, "again")):
        # Not a hook after the pass: computing again ends as soon as it has what it needs.
        trainer.model.layers[2].blocks[0].register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    assert train_some(kept, 1) == train_some(again, 1)
    for name, parameter in kept.model.named_parameters():
        torch.testing.assert_close(parameter.grad, again.model.get_parameter(name).grad, atol=1e-6, rtol=0, msg=name)
    assert calls == ["kept", "again", "again"]


class Spy(DropPath):
    """Notes which images keep the branch."""

    seen: list[Tensor]

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if self.training:
            self.seen.append((y != 0).flatten(1).any(1))
        return y


def spied(trainer: Trainer) -> list[list[Tensor]]:
    """For each place of stochastic depth what it will have kept, pass by pass."""
    notes = []
    for module in trainer._objective.drop_paths:
        module.__class__ = Spy
        module.seen = []
        notes.append(module.seen)
    return notes


def test_drop_path_is_drawn_for_the_whole_batch(pictures: Path) -> None:
    """Both branches of a block share the drawn numbers, and so do the micro-batches of a step."""
    masks = []
    for count in (1, 3):
        trainer = trainer_of(pictures, drop_path=0.5, accumulate=count)
        notes = spied(trainer)
        train_some(trainer, 1)
        assert len(notes) == sum(trainer.model.config.depths) - 1  # the first block is never dropped
        for seen in notes:
            assert len(seen) == 2 * count
            assert torch.equal(torch.cat(seen[::2]), torch.cat(seen[1::2]))
        masks.append(torch.stack([torch.cat(seen[::2]) for seen in notes]))
    assert torch.equal(masks[0], masks[1])
    assert len({tuple(row.tolist()) for row in masks[0]}) > 1  # each block draws its own


def test_drop_path_keeps_its_share() -> None:
    module = DropPath(0.3).train()
    module.kept = Draws((0, 1, 2), 20_000).chance(1 - module.rate)
    kept = module(torch.ones(20_000, 2))
    assert float((kept[:, 0] > 0).float().mean()) == pytest.approx(0.7, abs=4 * (0.21 / 20_000) ** 0.5)
    assert float(kept.mean()) == pytest.approx(1, abs=0.02)
    assert set(kept.flatten().tolist()) == {0.0, float(torch.tensor(1 / 0.7))}


def test_precision_decides_the_arithmetic_of_products_and_nothing_else(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {}
    for precision, able in (("float32", True), ("bfloat16", False), ("auto", True), ("auto", False)):
        monkeypatch.setattr("swin_core.models.precision.has_bfloat16", lambda device, able=able: able)
        trainer = trainer_of(pictures, precision=precision)
        kinds = set()
        trainer.model.layers[0].blocks[0].mlp.fc1.register_forward_hook(
            lambda *got, kinds=kinds: kinds.add(got[2].dtype)
        )
        losses[precision, able] = train_some(trainer, 2)
        narrow = precision == "bfloat16" or (precision == "auto" and able)
        assert kinds == {torch.bfloat16 if narrow else torch.float32}
        assert {value.dtype for value in weights(trainer.model).values()} == {torch.float32}
    assert losses["auto", True] == losses["bfloat16", False] != losses["float32", True] == losses["auto", False]
    assert losses["bfloat16", False] == pytest.approx(losses["float32", True], abs=0.05)


def test_auto_asks_the_processor() -> None:
    flags = Path("/proc/cpuinfo")
    if not flags.is_file() or "flags" not in (text := flags.read_text()):
        pytest.skip("the processor does not list its abilities here")
    assert has_bfloat16(torch.device("cpu")) == bool(re.search(r"\b(avx512_bf16|amx_tile)\b", text))


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 1021, 1024, 1536, 4096])
def test_a_linear_layer_cut_into_rows_is_the_linear_layer(tokens: int) -> None:
    """1021 is a prime, which no number of rows divides."""
    x, weight, bias = torch.randn(tokens, 24), torch.randn(40, 24), torch.randn(40)
    ours, exact = (
        [v.detach().clone().to(kind).requires_grad_() for v in (x, weight, bias)]
        for kind in (torch.float32, torch.float64)
    )
    y, expected = linear(*ours), F.linear(*exact)
    torch.testing.assert_close(y.double(), expected, atol=1e-4, rtol=1e-5)
    slope = torch.randn_like(y)
    y.backward(slope)
    expected.backward(slope.double())
    for value, slow in zip(ours, exact, strict=True):
        torch.testing.assert_close(value.grad.double(), slow.grad, atol=2e-3, rtol=1e-4)


# Losses: teachers and mixing


def objective_of(trainer: Trainer) -> Callable[[Tensor, Tensor, Draws], Tensor]:
    return trainer._objective.loss


def soft_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """Summed cross-entropy with probabilities, float64, entry by entry."""
    total = 0.0
    for row, target in zip(logits, targets, strict=True):
        exponentials = np.exp(row - row.max())
        for share, wanted in zip(exponentials / exponentials.sum(), target, strict=True):
            total -= wanted * np.log(share)
    return total


@pytest.mark.parametrize(("share", "heat"), [(0.3, 2.0), (1.0, 0.5), (0.0, 4.0)])
def test_distillation_against_a_slow_loop(share: float, heat: float, pictures: Path) -> None:
    taught = torch.randn(9, 3)
    trainer = trainer_of(
        pictures, lambda batch: taught, distillation=share, temperature=heat, label_smoothing=0.1, cutout=0
    )
    images, labels = torch.randint(0, 256, (9, 16, 16, 3), dtype=torch.uint8), torch.randint(0, 3, (9,))
    loss = objective_of(trainer)(images, labels, Draws((0, 0, 0), 9))
    batch = augment(images, trainer.config, Draws((0, 0, 0), 9))
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    logits = trainer.model.double()((batch.double() - mean) / std).detach().numpy()
    expected = 0.0
    for given, wanted, label in zip(logits, taught.double().numpy(), labels.tolist(), strict=True):
        target = np.full(3, 0.1 / 3)
        target[label] += 0.9
        p, q = (np.exp(row / heat) / np.exp(row / heat).sum() for row in (wanted, given))
        divergence = sum(p[k] * (np.log(p[k]) - np.log(q[k])) for k in range(3)) * heat**2
        expected += (1 - share) * soft_loss(given[None], target[None]) + share * divergence
    assert loss.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("changes", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_mixed_pictures_is_that_of_soft_labels(
    changes: dict[str, float], smoothing: float, pictures: Path
) -> None:
    trainer = trainer_of(pictures, label_smoothing=smoothing, **changes)
    images, labels = torch.randint(0, 256, (9, 16, 16, 3), dtype=torch.uint8), torch.tensor([0, 1, 2] * 3)
    seen = []
    hook = trainer.model.register_forward_hook(lambda *got: seen.append((got[1][0], got[2])))
    loss = objective_of(trainer)(images, labels, Draws((5,), 9))
    hook.remove()
    draws = Draws((5,), 9)
    mixed = mix(
        augment(images, trainer.config, draws), labels, *(changes.get(key, 0.0) for key in ("mixup", "cutmix")), draws
    )
    [(given, logits)] = seen
    torch.testing.assert_close(given, trainer.data.normalise(mixed.images))
    soft = torch.zeros(9, 3)
    for row, (own, share) in enumerate(zip(labels.tolist(), mixed.shares.tolist(), strict=True)):
        soft[row, own] += share
        soft[row, int(labels[row ^ 1]) if row < 8 else own] += 1 - share
    assert bool(((mixed.shares > 0.01) & (mixed.shares < 0.99)).any())
    expected = F.cross_entropy(logits, soft, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    assert loss.item() == pytest.approx(
        soft_loss(logits.detach().double().numpy(), ((1 - smoothing) * soft + smoothing / 3).double().numpy()), rel=1e-5
    )


@pytest.fixture
def taught_by(tmp_path: Path) -> Callable[..., TrainConfig]:
    """Saves a model of some classes and size, and names it as teacher."""

    def make(labels: tuple[str, ...], size: int, channels: int = 3) -> TrainConfig:
        torch.manual_seed(5)
        model = build("swin_nano", num_classes=len(labels), image_size=size, in_chans=channels)
        values = [0.4, 0.5, 0.6, 0.5, 0.5][:channels]
        file = tmp_path / "teacher.safetensors"
        save_weights(model, file, {"labels": labels, "mean": values, "std": values, "image_size": size})
        return TrainConfig(teacher=str(file))

    return make


@pytest.mark.parametrize("size", [16, 24])
def test_a_teacher_sees_its_own_size_and_knows_the_classes_by_any_of_their_names(
    size: int, taught_by: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    labels = ("cow, Bos taurus", "yak", "Ants", "bee")
    config = taught_by(labels, size)
    batch = torch.rand(4, 3, 16, 16) * 1.1 - 0.05  # augmentation may leave the range a little
    teach = teacher_of(config, CLASSES, SINGLE, tmp_path)
    random = torch.get_rng_state()
    found = teach(batch)
    assert torch.equal(torch.get_rng_state(), random)
    assert not found.requires_grad
    model = swin_core.load(config.teacher, runs_root=tmp_path).model
    if size != 16:
        batch = F.interpolate(batch, (size, size), mode="bicubic", align_corners=False, antialias=True)
    values = torch.tensor([0.4, 0.5, 0.6])[:, None, None]
    with torch.no_grad():
        logits = model((batch.clamp(0, 1) - values) / values)
    torch.testing.assert_close(found, logits[:, [2, 3, 0]])


def test_a_teacher_that_does_not_know_a_class_is_refused_in_one_line(
    taught_by: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"^the teacher .*teacher.* does not know bee; choose another one\.$"):
        teacher_of(taught_by(("ant", "cow"), 16), CLASSES, SINGLE, tmp_path)


# Compilation and devices


def test_a_compiled_step_has_the_loss_of_the_plain_one(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is traced forward and backward as ever, but no code is generated, which takes minutes on one core."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    source = trainer_of(pictures, drop_path=0.3)
    trainers = []
    for on in (False, True):
        torch.manual_seed(0)
        model = build("swin_nano", depths=(1, 1), num_heads=(1, 2), num_classes=3, image_size=16, patch_size=2)
        model.layers[1].blocks[0].drop_path.rate = 0.3
        trainers.append(Trainer(replace(source.config, compile=on), source.data, model))
    plain, compiled = trainers
    assert train_some(compiled, 1) == pytest.approx(train_some(plain, 1), abs=1e-5)
    for name, parameter in plain.model.named_parameters():  # by their own names, which are what is saved
        torch.testing.assert_close(compiled.model.get_parameter(name).grad, parameter.grad, atol=1e-5, rtol=1e-3)


def test_a_missing_compiler_is_one_line(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"^torch\.compile needs a C\+\+ compiler.*leave --compile out\.$"):
        trainer_of(pictures, compile=True)


@pytest.mark.parametrize(
    ("gpus", "names", "count", "expected"),
    [
        (0, (), None, (("cpu",), 1)),
        (0, (), 4, (("cpu",), 4)),
        (2, (), None, (("cuda:0", "cuda:1"), 2)),
        (2, ("cpu",), None, (("cpu",), 1)),
        (2, ("cuda:1", "cuda:1"), None, (("cuda:1",), 1)),
        (0, ("cuda:0",), None, "there is no device 'cuda:0'"),
        (2, ("cpu", "cuda:0"), None, "not both"),
        (2, (), 3, "3 processes do not fit"),
        (0, (), 0, "0 processes do not fit"),
    ],
)
def test_devices_are_chosen_by_name_and_number(
    gpus: int, names: tuple[str, ...], count: int | None, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if isinstance(expected, str):
        with pytest.raises(ConfigError, match=expected) as caught:
            choose_devices(names, count)
        assert "\n" not in str(caught.value)
    else:
        assert choose_devices(names, count) == expected
