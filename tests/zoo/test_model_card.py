"""Model cards: written and read as TOML, and refused by name when something is wrong."""

import tomllib
from pathlib import Path

import pytest

from swin_core.errors import ModelError
from swin_core.zoo.model_card import ModelCard, card_path, read_card, write_card

LABELS = ["daisy", 'a "quoted" name', "Löwenzahn", "向日葵", "new\nline", "back\\slash"]


def test_card_is_toml_with_the_stated_fields(tmp_path: Path) -> None:
    weights = tmp_path / "flowers.pth"
    card = ModelCard(labels=LABELS, mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25], image_size=96, squash=False)

    path = write_card(weights, card)

    assert path == tmp_path / "flowers.pth.card.toml"
    assert tomllib.loads(path.read_text("utf-8")) == {
        "labels": LABELS,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "image_size": 96,
        "squash": False,
    }
    assert read_card(weights) == card
    assert path.read_text("utf-8").count("\n") > len(LABELS)  # one class a line


def test_card_written_by_hand(tmp_path: Path) -> None:
    (tmp_path / "a.pth.card.toml").write_text('# mine\nmean = [0]\nstd = [1]\nactivation = "none"\n')
    card = read_card(tmp_path / "a.pth")
    assert card is not None
    assert card.facts() == {"mean": [0.0], "std": [1.0], "activation": "none"}


def test_no_card(tmp_path: Path) -> None:
    assert read_card(tmp_path / "a.pth") is None


def test_card_of_a_folder_is_that_of_its_weights_file(tmp_path: Path) -> None:
    assert card_path(tmp_path) == card_path(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labls = ['a']", "a.pth.card.toml: unknown field 'labls'; known are architecture, labels, mean"),
        ("labels = 'a'", "a.pth.card.toml: labels: input should be a valid list"),
        ("labels = ['a', 3]", "a.pth.card.toml: labels.1: input should be a valid string"),
        ("labels = ['a', '']", "a.pth.card.toml: labels.1: string should have at least 1 character"),
        ("labels = ['a', ' ']", "a.pth.card.toml: labels.1: string should match pattern"),
        ("labels = []", "a.pth.card.toml: labels: list should have at least 1 item"),
        ("image_size = 224.0", "a.pth.card.toml: image_size: input should be a valid integer"),
        ("image_size = '224'", "a.pth.card.toml: image_size: input should be a valid integer"),
        ("image_size = true", "a.pth.card.toml: image_size: input should be a valid integer"),
        ("image_size = 5000", "a.pth.card.toml: image_size: input should be less than or equal to 1536"),
        ("std = [0.0]", "a.pth.card.toml: std.0: input should be greater than 0"),
        ("std = [nan]", "a.pth.card.toml: std.0: input should be a finite number"),
        ("mean = [inf]", "a.pth.card.toml: mean.0: input should be a finite number"),
        ("mean = [0.5]\nstd = [1.0, 1.0]", "one number for each channel; counted: mean 1, std 2"),
        ("channels = 1\nmean = [0, 0, 0]", "one number for each channel; counted: channels 1, mean 3"),
        ("interpolation = 'cubic'", "a.pth.card.toml: interpolation: input should be 'nearest', 'bilinear'"),
        ("activation = 'relu'", "a.pth.card.toml: activation: input should be 'softmax', 'sigmoid' or 'none'"),
        ("labels = [", "a.pth.card.toml is not TOML: "),
        ("a = 1\na = 2", "a.pth.card.toml is not TOML: "),
    ],
)
def test_a_wrong_card_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.pth.card.toml").write_text(text)
    with pytest.raises(ModelError) as caught:
        read_card(tmp_path / "a.pth")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_binary_and_giant_cards_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth.card.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="is not TOML"):
        read_card(tmp_path / "a.pth")
    path.write_bytes(b"#" * (16 * 2**20 + 1))
    with pytest.raises(ModelError, match="larger than 16 MiB"):
        read_card(tmp_path / "a.pth")


def test_a_card_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a\.pth\.card\.toml cannot be written"):
        write_card(tmp_path / "missing" / "a.pth", ModelCard(image_size=96))


def test_the_state_dicts_of_a_file_share_its_card(tmp_path: Path) -> None:
    weights = tmp_path / "two.pth"
    weights.touch()
    write_card(f"{weights}#state_dict", ModelCard(labels=["a", "b"]))
    card = read_card(weights)
    assert card is not None
    assert card.labels == read_card(f"{weights}#state_dict").labels  # type: ignore[union-attr]
    assert [path.name for path in tmp_path.iterdir() if path != weights] == ["two.pth.card.toml"]


def test_checkpoints_of_a_run_share_its_card_unless_they_have_their_own(tmp_path: Path) -> None:
    checkpoints = tmp_path / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    write_card(tmp_path / "run" / "model.safetensors", ModelCard(activation="sigmoid"))
    assert read_card(checkpoints / "last.pt") == ModelCard(activation="sigmoid")
    write_card(checkpoints / "best.safetensors", ModelCard(activation="none"))
    assert read_card(checkpoints / "best.safetensors") == ModelCard(activation="none")
