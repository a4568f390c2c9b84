"""Matching class names: the rules, and the callers that follow them."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

import swin_core
from swin_core.class_names import candidates, find_class, match_classes, unique_labels
from swin_core.comparisons.compare import ExplainSettings, compare
from swin_core.errors import TargetError

BIRDS = ("crane", "daisy", "crane")


@pytest.mark.parametrize(
    ("name", "labels", "index"),
    [
        ("bee", ["ant", "bee"], 1),
        ("maple_tree", ["rose", "maple tree"], 1),
        ("aquarium-fish", ["aquarium_fish", "roses"], 0),
        ("Roses", ["rose", "ant"], 0),
        ("daisies", ["ant", "daisy"], 1),
        ("fox", ["ant", "foxes"], 1),
        ("brass", ["bras", "ant"], None),
        ("rose", ["roses", "rose"], 1),  # an equal name comes before a similar one
        ("tench", ["goldfish, Carassius auratus", "tench, Tinca tinca"], 1),
        ("tinca tinca", ["goldfish, Carassius auratus", "tench, Tinca tinca"], 1),
        ("partridge", ["ruffed grouse, partridge", "partridge"], 1),  # a label comes before a synonym
        ("sunglasses", ["sunglass", "sunglasses, dark glasses, shades"], 1),  # a synonym comes before a plural
        ("Cardigan", ["Cardigan, Cardigan Welsh corgi", "cardigan"], 0),  # and before another case
        ("cardigan", ["Cardigan, Cardigan Welsh corgi", "cardigan"], 1),
        ("cat", ["tabby, tabby cat", "Persian cat"], None),
        ("", ["ant", "s"], None),
    ],
)
def test_a_name_fits_one_label_or_none(name: str, labels: list[str], index: int | None) -> None:
    assert find_class(labels, name) == index
    assert candidates(labels, name) == ([] if index is None else [index])
    assert match_classes([name], labels) == [index]


@pytest.mark.parametrize(
    ("name", "labels", "known"),
    [
        ("crane", BIRDS, "0 'crane', 2 'crane'"),
        ("roses", ("rose", "ant", "Rose"), "0 'rose', 2 'Rose'"),
        ("horn", ("cornet, horn", "French horn, horn"), "0 'cornet, horn', 1 'French horn, horn'"),
    ],
)
def test_an_ambiguous_name_is_refused_with_the_candidates(name: str, labels: tuple[str, ...], known: str) -> None:
    for ask in (lambda: find_class(labels, name), lambda: match_classes(["daisy", name], labels)):
        with pytest.raises(TargetError, match=f"'{name}' fits several classes: {known}"):
            ask()


def test_every_label_of_imagenet_finds_itself() -> None:
    info = timm.data.ImageNetInfo("imagenet-1k")
    labels = unique_labels([info.index_to_description(index) for index in range(1000)])
    assert [find_class(labels, label) for label in labels] == list(range(1000))
    assert match_classes(labels, labels) == list(range(1000))
    with pytest.raises(TargetError, match="134 'crane, class 134', 517 'crane, class 517'"):
        find_class(labels, "crane")
    assert find_class(labels, "crane, class 517") == find_class(labels, "class 517") == 517


@pytest.fixture
def cranes() -> swin_core.Classifier:
    torch.manual_seed(0)
    model = swin_core.build("swin_nano", num_classes=3, embed_dim=24, depths=(2, 2), num_heads=(2, 4))
    nn.init.normal_(model.head.weight, std=0.5)
    return swin_core.Classifier(model, BIRDS, (0.5,) * 3, (0.5,) * 3, 32, name="cranes")


def test_explain_and_grid_refuse_an_ambiguous_class(cranes: swin_core.Classifier) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    known = "0 'crane, class 0', 2 'crane, class 2'"
    with pytest.raises(TargetError, match=known):
        swin_core.explain(cranes, image, "crane")
    with pytest.raises(TargetError, match=known):
        swin_core.explain(cranes, image, "daisy", against="Cranes")
    (row,) = compare([("bird", image)], [cranes], ["crane"], settings=ExplainSettings("gradcam")).rows
    assert known in row.cells[0].error
    assert swin_core.explain(cranes, image, ["crane, class 2", "Daisies"]).targets == (2, 1)
