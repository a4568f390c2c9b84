"""Ranking: sums that do not depend on how they are shared, figures that equal those of each image alone."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import swin_core
from swin_core.attribution.dispatch import attribute
from swin_core.attribution.lrp import relevance
from swin_core.data.dataset import DataSet
from swin_core.data.folders import image_folder
from swin_core.errors import ConfigError
from swin_core.system.distributed import Ranks
from swin_core.trust.faithfulness import Probe, areas, gain, measure
from swin_core.trust.mosaics import focus, mosaics
from swin_core.trust.randomisation import randomisation
from swin_core.trust.ranking import candidates, rank
from swin_core.zoo.classifier import Classifier

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 16
EACH, MOSAICS, RANDOMISED = 5, 4, 3


@pytest.fixture(autouse=True)
def _little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    measurements = importlib.import_module("swin_core.trust.measurements")
    monkeypatch.setattr(measurements, "_MOSAICS", MOSAICS)
    monkeypatch.setattr(measurements, "_RANDOMISED", RANDOMISED)


@pytest.fixture
def noise(tmp_path: Path) -> DataSet:
    draw = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(EACH):
            Image.fromarray(draw.integers(0, 256, (20, 24, 3)).astype(np.uint8)).save(
                tmp_path / label / f"{number}.png"
            )
    return image_folder(tmp_path)


@pytest.fixture
def nano() -> Classifier:
    model = swin_core.build("swin_nano", num_classes=2, image_size=SIDE)
    return Classifier(model, ["a", "b"], (0.5,) * 3, (0.5,) * 3, SIDE, name="nano")


def test_metrics_equal_those_of_each_image(nano: Classifier, noise: DataSet) -> None:
    found = rank(nano, noise, ["gradcam"], ["layers.0"], steps=3)
    rows = {row.method: row for row in found.rows}
    assert list(rows) == sorted(rows, key=lambda name: -rows[name].srg)
    assert set(rows) == {"gradcam", "random", "centred"}
    figures = []
    for index in range(len(noise)):
        x = nano.tensor(nano.view(noise.image(index)))
        target = nano.model.eval()(x).argmax(1).detach()
        maps = attribute(nano, x, target, "gradcam", "layers.0")[:, 0]
        one = measure(Probe(nano, x, torch.tensor([0]), target), maps, 3)
        area = areas(one.shares, one.deletion), areas(one.shares, one.insertion)
        figures.append([float(value) for value in (one.srg, *area, one.road)])
    mean, row = np.mean(figures, 0), rows["gradcam"]
    # The last bit of a map depends on its batch, and with it the order of pixels that are all but equal.
    assert [row.srg, row.deletion, row.insertion, row.road] == pytest.approx(mean.tolist(), abs=2e-4)
    assert row.srg_error == pytest.approx(np.std(figures, 0, ddof=1)[0] / np.sqrt(len(noise)), abs=2e-4)
    assert rows["random"].focus is rows["random"].milliseconds is rows["centred"].better is None
    assert (found.images, found.mosaics, found.steps) == (2 * EACH, MOSAICS, 3)
    assert row.focus is not None
    assert 0 < row.focus < 1
    batch = torch.cat(
        [
            nano.tensor(nano.view(noise.image(int(n))))
            for n in np.random.default_rng(0).permutation(2 * EACH)[:RANDOMISED]
        ]
    )
    targets = nano.model(batch).argmax(1).detach()
    alike = randomisation(nano, batch, targets, "gradcam", "layers.0")
    assert row.spearman == pytest.approx(alike.spearman)
    assert row.ssim == pytest.approx(alike.ssim)


def test_relevance_is_ranked_at_its_stages_with_its_sign(nano: Classifier, noise: DataSet) -> None:
    """The order of removal goes on below zero; the focus is a share of what speaks for the class."""
    found = rank(nano, noise, ["relevance@layers.0", "relevance@norm"], steps=3, quick=True)
    assert "not at 'norm'" in found.left_out["relevance norm"]
    row = next(row for row in found.rows if row.method == "relevance")
    assert row.layer == "layers.0"
    gains, shares = [], []
    for index in range(len(noise)):
        x = nano.tensor(nano.view(noise.image(index)))
        target = nano.model.eval()(x).argmax(1).detach()
        (stage, *_) = relevance(nano.model, x, target).stages
        assert float(stage.min()) < 0
        gains.append(float(gain(Probe(nano, x, torch.tensor([0]), target), stage, 3).srg))
    assert row.srg == pytest.approx(np.mean(gains), abs=2e-4)
    for scene in mosaics(nano, noise, MOSAICS):
        (stage, *_) = relevance(nano.model, nano.tensor(scene.view), torch.tensor([scene.target])).stages
        shares.append(focus(stage[0].relu().numpy(), scene.cells))
    assert row.focus == pytest.approx(np.mean(shares), abs=1e-4)


@dataclass(frozen=True)
class Recording(Ranks):
    """One process of several, which keeps what it would send to the others."""

    sent: list[Tensor] = field(default_factory=list)
    total: list[Tensor] | None = None

    def sum(self, values: Tensor) -> Tensor:
        self.sent.append(values)
        return values if self.total is None else self.total[len(self.sent) - 1]


def test_shards_add_up(nano: Classifier, noise: DataSet) -> None:
    def ranked(ranks: Ranks) -> Any:
        return rank(nano, noise, ["gradcam", "gradient"], ["norm", "layers.0"], steps=2, images=4, ranks=ranks)

    whole = ranked(Ranks())
    parts: list[list[Tensor]] = [[] for _ in range(3)]
    for number, sent in enumerate(parts):
        ranked(Recording(number, 3, sent=sent))
    total = [torch.stack(values).sum(0) for values in zip(*parts, strict=True)]
    shared = ranked(Recording(1, 3, total=total))
    assert [(row.method, row.layer) for row in shared.rows] == [(row.method, row.layer) for row in whole.rows]
    for one, other in zip(shared.rows, whole.rows, strict=True):
        for name in ("srg", "srg_error", "better", "deletion", "insertion", "road", "focus", "random_logit"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=2e-4), name
        assert one.spearman == pytest.approx(other.spearman, abs=2e-4)


class RedPatch(nn.Module):
    """Says "red" the surer the more red there is; its "layer" is the redness itself."""

    def __init__(self) -> None:
        super().__init__()
        self.redness = nn.Conv2d(3, 1, 1, bias=False)
        self.redness.weight.data = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)
        self.layer = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        score = self.layer(self.redness(x) - 2.4).sum((1, 2, 3))
        return torch.stack([5 - score, score], 1)


def test_the_right_map_comes_first_and_random_ones_gain_nothing(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for label in ("grey", "red"):
        (tmp_path / label).mkdir()
        for number in range(20):
            picture = draw.integers(100, 156, (SIDE, SIDE, 3)).astype(np.uint8)
            top, left = draw.integers(0, SIDE - 5, 2)
            picture[top : top + 5, left : left + 5] = (250, 20, 20) if label == "red" else (128, 128, 128)
            Image.fromarray(picture).save(tmp_path / label / f"{number}.png")
    data = image_folder(tmp_path)
    red = data.subset(np.flatnonzero(data.labels == 1), "red")
    classifier = Classifier(RedPatch(), ["grey", "red"], (0.5,) * 3, (0.5,) * 3, SIDE, name="red patch")
    found = rank(classifier, red, ["layercam"], ["layer"], steps=8)
    first, *others = found.rows
    assert first.method == "layercam"
    assert first.better == 1
    for other in others:
        assert first.srg > other.srg + 0.2
        assert first.deletion < other.deletion - 0.1
        assert first.insertion > other.insertion + 0.05  # type: ignore[operator]
        assert first.road > other.road + 0.1  # type: ignore[operator]
    random = next(row for row in others if row.method == "random")
    assert abs(random.srg) < 3 * random.srg_error
    assert found.mosaics == 0  # one of the classes has no images
    assert first.focus is None


def test_quick_leaves_out_what_is_dear_and_json_and_table_hold_all(nano: Classifier, noise: DataSet) -> None:
    seen: list[tuple[int, int]] = []
    found = rank(
        nano,
        noise,
        ["gradcam", "eigencam"],
        ["norm"],
        steps=2,
        images=3,
        quick=True,
        progress=lambda *n: seen.append(n),
    )
    assert all(row.insertion is row.road is None for row in found.rows)
    assert next(row for row in found.rows if row.method == "eigencam").random_logit == 1
    (total,) = {count for _, count in seen}
    assert seen[-1] == (total, total)
    assert json.loads(json.dumps(found.to_dict()))["rows"][0]["srg"] == found.rows[0].srg
    lines = found.table().splitlines()
    assert len(lines) == 2 + len(found.rows)
    assert len({line.count("|") for line in lines}) == 1


def test_what_cannot_explain_is_left_out_with_its_reason(nano: Classifier, noise: DataSet) -> None:
    found = rank(nano, noise, ["gradcam"], ["norm", "head"], steps=2, images=2, quick=True)
    assert list(found.left_out) == ["gradcam head"]
    assert {row.layer for row in found.rows if row.method == "gradcam"} == {"norm"}
    with pytest.raises(ConfigError, match="no method can explain nano"):
        rank(nano, noise, ["gradcam"], ["head"], steps=2, images=2)
    with pytest.raises(ConfigError, match="unknown method 'x'"):
        candidates(nano, ["x"])
    with pytest.raises(ConfigError, match="at least 2 steps"):
        rank(nano, noise, ["gradcam"], ["norm"], steps=1)


def test_pixel_methods_are_candidates_once(nano: Classifier) -> None:
    found = candidates(nano, ["gradcam", "gradient"], ["norm", "layers.0"])
    assert found == [("gradcam", "norm"), ("gradcam", "layers.0"), ("gradient", "input")]
    assert candidates(nano, ["gradcam", "hirescam@layers.1", "gradcam@norm"], ["norm"]) == [
        ("gradcam", "norm"),
        ("hirescam", "layers.1"),
    ]
    stages = [("relevance", name) for name in ("input", "layers.0", "layers.1", "layers.2")]
    assert candidates(nano, ["relevance"]) == stages
    assert candidates(nano, ["relevance"], ["norm", "layers.1"]) == [stages[0], stages[2]]
    assert candidates(nano, ["relevance@layers.0", "gradient"]) == [stages[1], ("gradient", "input")]
    methods = {method for method, _ in candidates(nano)}
    assert "gradcam" in methods
    assert "scorecam" not in methods  # of many passes
