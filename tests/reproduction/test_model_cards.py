"""Bundling a run: the weights stay what they were, and the card's command gives the run's settings back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import swin_core
from scripts import bundle as bundle_command
from swin_core import runs
from swin_core.commands import train as train_command
from swin_core.errors import ConfigError, ModelError
from swin_core.evaluation.accuracy import Evaluation
from swin_core.evaluation.metrics import Metrics
from swin_core.reproduction import model_cards as cards
from swin_core.reproduction.model_cards import bundle, training_data
from swin_core.training import RECIPES, TrainConfig, recipe
from swin_core.weights.files import read_metadata, read_state, save_weights
from swin_core.zoo.load import ASSETS

LABELS = ("daisy", "<img src=x>")


def write_epochs(folder: Path, *epochs: int) -> None:
    line = {"train_loss": 2.0, "loss": 1.0, "top1": 0.5, "top5": None, "seconds": 90.0}
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"epoch": number, **line}) + "\n" for number in epochs))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a finished run, as the trainer leaves it."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = recipe("flowers", epochs=2, flip=False, name="mine")
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    write_epochs(folder, 1, 2)
    runs.write_status(folder, state="finished", machine="8 cores, 2 x Some GPU")
    model = swin_core.build("swin_nano", num_classes=2)
    save_weights(model, folder / "model.safetensors", {"labels": LABELS, "mean": [0.5] * 3, "std": [0.5] * 3})
    return folder


@pytest.fixture
def found() -> Evaluation:
    metrics = Metrics(10, 0.25, 0.8, None, np.array([[4, 1], [1, 4]]))
    return Evaluation("run", "flower_photos", "val", LABELS, (), metrics)


def test_bundle_keeps_the_weights_and_says_what_they_are(run: Path, found: Evaluation, tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    card = bundle(run, "mine_flowers", "A test.", found, assets, "Made by a test.").read_text()
    before, after = (swin_core.load(str(path)) for path in (run, assets / "mine_flowers.safetensors"))
    for key, value in before.model.state_dict().items():
        torch.testing.assert_close(after.model.state_dict()[key], value, rtol=0, atol=0)
    assert after.labels == LABELS
    assert after.description == "A test."
    assert read_metadata(assets / "mine_flowers.safetensors")["mean"] == [0.5] * 3
    for line in (
        "80.00%",
        "0.2500",
        "3.0 minutes",
        "Made by a test.",
        "- Machine: 8 cores, 2 x Some GPU",
        "| daisy | 4 | 1 |",
        "10 images",
    ):
        assert line in card
    facts = json.loads((assets / "mine_flowers.json").read_text())
    assert facts["evaluation"]["confusion"] == [[4, 1], [1, 4]]


@pytest.mark.parametrize("name", list(RECIPES))
@pytest.mark.parametrize("changes", [{}, {"epochs": 3, "flip": False}, {"lr": 0.5, "name": "other", "data": "a b"}])
def test_the_cards_command_gives_the_settings_back(
    name: str, changes: dict, run: Path, found: Evaluation, tmp_path: Path
) -> None:
    config = replace(RECIPES[name].config, **changes)
    (run / "config.json").write_text(json.dumps(config.to_dict()))
    write_epochs(run, *range(1, config.epochs + 1))
    assert training_data(run) == config.data
    bundle(run, "again", "", found, tmp_path)
    command = json.loads((tmp_path / "again.json").read_text())["command"]
    words = shlex.split(command)
    assert words[:2] == ["swinlens", "train"]
    parsed = vars(train_command.parser().parse_args(words[2:]))
    known = {field.name for field in fields(TrainConfig)}
    settings = {key: value for key, value in parsed.items() if key in known and value is not None}
    assert recipe(parsed["recipe"], **settings) == replace(config, name=RECIPES[name].config.name)


def found_again(found: Evaluation, **changes: float) -> Callable[[Path], Evaluation]:
    return lambda file: replace(found, metrics=replace(found.metrics, **changes))


def test_half_precision_is_half_the_file_and_is_computed_in_single(
    run: Path, found: Evaluation, tmp_path: Path
) -> None:
    seen = []

    def again(file: Path) -> Evaluation:
        seen.append(swin_core.load(str(file)).weights_hash)
        return found_again(found, top1=0.801, loss=0.2503)(file)

    card = bundle(run, "mine", "A test.", found, tmp_path, evaluate_half=again)
    stored = tmp_path / "mine.safetensors"
    assert {str(value.dtype) for value in read_state(stored).values()} == {"torch.float16"}
    whole, half = (file.stat().st_size for file in (run / "model.safetensors", stored))
    assert half == pytest.approx(whole / 2, rel=0.01)
    before, after = (swin_core.load(str(path)) for path in (run, stored))
    assert seen == [after.weights_hash]  # what was measured is what lies there now
    for key, value in before.model.state_dict().items():
        loaded = after.model.state_dict()[key]
        assert loaded.dtype == torch.float32
        torch.testing.assert_close(loaded, value, rtol=2**-11, atol=2**-24)
    assert all(words in card.read_text() for words in ("80.10%", "0.2503", "float16", "of the stored file"))


@pytest.mark.parametrize("changes", [{"top1": 0.7985}, {"top1": 0.8015}, {"top5": 0.94}])
def test_half_precision_that_moves_a_figure_is_refused(
    changes: dict[str, float], run: Path, found: Evaluation, tmp_path: Path
) -> None:
    known = replace(found, metrics=replace(found.metrics, top5=0.95, count=1000))
    title = next(iter(changes)).replace("top", "top-")
    with pytest.raises(ModelError, match=f"changes {title} from"):
        bundle(run, "mine", "", known, tmp_path, evaluate_half=found_again(known, **changes))
    assert not [*tmp_path.glob("mine*")]


def test_half_precision_may_move_one_image_of_a_small_set(run: Path, found: Evaluation, tmp_path: Path) -> None:
    few = replace(found, metrics=replace(found.metrics, count=50))
    card = bundle(run, "mine", "", few, tmp_path, evaluate_half=found_again(few, top1=few.metrics.top1 + 1 / 50))
    assert card.is_file()
    with pytest.raises(ModelError, match="changes top-1 from"):
        bundle(run, "other", "", few, tmp_path, evaluate_half=found_again(few, top1=few.metrics.top1 - 2 / 50))


def test_files_that_are_too_large_are_refused(
    run: Path, found: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (run / "model.safetensors").stat().st_size
    monkeypatch.setattr(cards, "FILE_BYTES", size // 2)
    with pytest.raises(ConfigError, match="at most 3 MB; bundle it in half precision"):
        bundle(run, "mine", "", found, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(cards, "ALL_BYTES", int(1.5 * size))
    bundle(run, "mine", "", found, tmp_path)
    bundle(run, "mine", "", found, tmp_path)  # in its own place there is room
    with pytest.raises(ConfigError, match="all bundled files would have"):
        bundle(run, "other", "", found, tmp_path)
    assert not [*tmp_path.glob("other*")]


def test_all_bundled_files_keep_the_limits() -> None:
    files = [file for file in ASSETS.iterdir() if file.is_file()]
    assert max(file.stat().st_size for file in files) <= cards.FILE_BYTES
    assert sum(file.stat().st_size for file in files) <= cards.ALL_BYTES


def test_the_command_bundles_a_run_of_a_folder_by_what_it_held_out(run: Path, tmp_path: Path) -> None:
    """Its figures are those of images that the training has not seen, in single precision as in half."""
    draw = np.random.default_rng(0)
    for place in range(20):
        file = tmp_path / "pictures" / LABELS[place % 2].replace("<img src=x>", "tulip") / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(file)
    config = recipe("custom", data=str(tmp_path / "pictures"), holdout=0.2, epochs=2)
    (run / "config.json").write_text(json.dumps(config.to_dict()))
    metadata = {"labels": ("daisy", "tulip"), "mean": [0.5] * 3, "std": [0.5] * 3, "training": config.to_dict()}
    save_weights(swin_core.build("swin_nano", num_classes=2), run / "model.safetensors", metadata)
    assert bundle_command.main([str(run), "mine", "--description", "x", "--assets", str(tmp_path), "--half"]) == 0
    facts = json.loads((tmp_path / "mine.json").read_text())
    assert (facts["precision"], facts["evaluation"]["split"], facts["evaluation"]["count"]) == ("float16", "val", 4)


def test_what_is_no_run_is_refused(tmp_path: Path, run: Path, found: Evaluation) -> None:
    with pytest.raises(ModelError, match="is not a run"):
        training_data(tmp_path)
    write_epochs(run, 1)
    with pytest.raises(ModelError, match="not a finished run: 1 of 2 epochs"):
        bundle(run, "mine", "", found, tmp_path)
    write_epochs(run, 1, 2)
    runs.write_status(run, state="stopped")
    with pytest.raises(ModelError, match="not a finished run: 2 of 2 epochs, state stopped"):
        training_data(run)
    with pytest.raises(ConfigError, match="not a valid model name"):
        bundle(run, "../mine", "", found, tmp_path)


def test_an_epoch_that_was_done_again_counts_once(run: Path, found: Evaluation, tmp_path: Path) -> None:
    """As where a run died between the figures and the checkpoint."""
    write_epochs(run, 1, 1, 2)
    bundle(run, "mine", "", found, tmp_path)
    facts = json.loads((tmp_path / "mine.json").read_text())
    assert ([epoch["epoch"] for epoch in facts["epochs"]], facts["training_minutes"]) == ([1, 2], 3.0)


def test_a_validation_loss_that_was_no_number_is_left_out(run: Path, found: Evaluation, tmp_path: Path) -> None:
    file = run / "metrics.jsonl"
    file.write_text(file.read_text().replace('"loss": 1.0', '"loss": null', 1))
    card = bundle(run, "mine", "", found, tmp_path).read_text()
    assert "| 1 | 2.000 |  | 50.00% |  |\n| 2 | 2.000 | 1.000 | 50.00% |  |\n" in card


def test_a_place_that_cannot_be_written_is_one_line(
    run: Path, found: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing"
    assert bundle_command.main([str(run), "mine", "--description", "x", "--assets", str(missing)]) == 1
    assert capsys.readouterr() == ("", f"bundle.py: {missing} is not a folder; make it, or name another by --assets.\n")

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("swin_core.system.atomic.atomic_write", full)
    with pytest.raises(ConfigError, match=r"mine\.safetensors' cannot be written: No space left"):
        bundle(run, "mine", "", found, tmp_path)
