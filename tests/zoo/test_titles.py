"""Titles of models for people, from the metadata of their files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from swin_core.models.config import VARIANTS
from swin_core.zoo import load as zoo
from swin_core.zoo.titles import ModelTitle, bundled_title, known_classes, title_of


def metadata(variant: str, labels: int, data: str = "", **config: Any) -> Mapping[str, Any]:
    training = {"variant": variant, "data": data}
    described = VARIANTS[variant].to_dict() | config
    return {"training": training, "config": described, "labels": [f"class {index}" for index in range(labels)]}


def test_every_bundled_model_has_a_title_of_its_own_and_the_accuracy_of_its_evaluation() -> None:
    titles = {name: bundled_title(name) for name in zoo.available()}
    assert all(title.title and title.knows for title in titles.values())
    assert len({(title.title, title.knows) for title in titles.values()}) == len(titles)
    for name, title in titles.items():
        evaluation = json.loads((zoo.ASSETS / f"{name}.json").read_text())["evaluation"]
        assert title.accuracy == evaluation["top1"]
        assert f"{100 * evaluation['top1']:.0f} % right" in title.subtitle


@pytest.mark.parametrize(
    ("described", "title"),
    [
        (metadata("swin_milli", 5, "flowers"), ModelTitle("Swin M", "5 flowers")),
        (metadata("swin_nano", 100, "cifar100", shift=False), ModelTitle("Swin XS, no shift", "100 things")),
        (metadata("vit_nano", 7), ModelTitle("ViT XS", "7 classes")),
        (metadata("swin_mlp_nano", 2), ModelTitle("Swin-MLP XS", "class 0, class 1")),
        (metadata("swinv2_tiny", 1000), ModelTitle("Swin V2 tiny", "1,000 classes")),
        ({}, ModelTitle("")),
    ],
)
def test_a_title_says_family_size_and_what_was_changed(described: Mapping[str, Any], title: ModelTitle) -> None:
    assert title_of(described) == title


def test_a_model_that_is_not_bundled_has_no_title() -> None:
    assert bundled_title("nowhere") == ModelTitle("")
    assert known_classes(()) == ""
