"""Class names in the forms that tools write them."""

import json
from pathlib import Path

import pytest
from PIL import Image
from timm.data import imagenet_info
from torchvision.datasets import ImageFolder

from swin_core.errors import ConfigError
from swin_core.zoo.classifier import IMAGENET_COUNTS, default_labels
from swin_core.zoo.labels import folder_labels, labels_of, parse_labels, read_labels

NAMES = ["cat", "dog", "Löwe"]


@pytest.mark.parametrize(
    "value",
    [
        NAMES,
        tuple(NAMES),
        {2: "Löwe", 0: "cat", 1: "dog"},
        {"2": "Löwe", "0": "cat", "1": "dog"},
        {"dog": 1, "cat": 0, "Löwe": 2},
        {"0": ["n1", "cat"], "1": ["n2", "dog"], "2": ["n3", "Löwe"]},
    ],
)
def test_labels_of_lists_and_mappings(value: object) -> None:
    assert labels_of(value) == NAMES


@pytest.mark.parametrize(
    "value", [None, "cat", [], {}, [1, 2], ["cat", ""], {"cat": 1, "dog": 2}, {0: "cat", 2: "dog"}, {"cat": 0.5}, [[]]]
)
def test_other_values_are_no_labels(value: object) -> None:
    assert labels_of(value) is None


def test_digits_as_names() -> None:
    assert labels_of({"1": 0, "0": 1}) == ["1", "0"]


def test_twelve_classes_are_in_the_order_of_their_indices() -> None:
    names = [f"class {index}" for index in range(12)]
    assert labels_of(dict(enumerate(names))) == names
    assert labels_of({name: index for index, name in reversed(list(enumerate(names)))}) == names


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\nLöwe",
        "  cat \r\n\r\ndog\r\nLöwe\n",
        "cat, dog,Löwe",
        json.dumps(NAMES),
        json.dumps(dict(enumerate(NAMES))),
        json.dumps({name: index for index, name in enumerate(NAMES)}),
    ],
)
def test_texts(text: str) -> None:
    assert parse_labels(text) == NAMES
    assert read_labels(text.encode("utf-8-sig"), "names.txt") == NAMES


def test_a_comma_in_a_line_belongs_to_the_name() -> None:
    assert parse_labels("tench, Tinca tinca\ngoldfish") == ["tench, Tinca tinca", "goldfish"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "'a.txt': there are no class names"),
        (b"[1, 2]", "'a.txt': JSON with class names is a list of names"),
        (b"{'a': 0}", "'a.txt': the class names start like JSON, but are not"),
        (b"\xff\xfea", "'a.txt' is no text in UTF-8"),
        (b"PK\0", "'a.txt' is no text"),
    ],
)
def test_refusals(content: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_labels(content, "a.txt")
    assert message in str(caught.value)


@pytest.mark.parametrize("inside", ["", "train"])
def test_class_folders_are_in_the_order_of_torchvision(tmp_path: Path, inside: str) -> None:
    root = tmp_path / inside
    for name in ("b", "B", "a10", "a9", ".hidden"):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(root / name / "x.png")
    if inside:
        (tmp_path / "val" / "a9").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "val" / "a9" / "x.png")
    torchvision_classes = [name for name in ImageFolder(root).classes if not name.startswith(".")]
    assert folder_labels(tmp_path) == torchvision_classes


def test_folders_without_classes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no class folders"):
        folder_labels(tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        folder_labels(tmp_path / "missing")


def test_every_imagenet_that_timm_names_is_known() -> None:
    assert set(IMAGENET_COUNTS) == set(imagenet_info._NUM_CLASSES_TO_SUBSET)
    assert default_labels(1000)[0] == "tench, Tinca tinca"
    assert default_labels(2) == ["class 0", "class 1"]
