"""Files that cannot be used: skipped and named, the same whether images are kept in memory or read, on every rank."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from swin_core import runs
from swin_core.data.registry import splits
from swin_core.errors import DataError
from swin_core.evaluation.accuracy import evaluate_named
from swin_core.training import TrainConfig, train
from swin_core.training.data import LabelledImages
from tests.fixtures.images import encoded, one_line, write_messy_folder

pytestmark = pytest.mark.usefixtures("one_thread")


def small(data: Path, **changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {"variant": "swin_nano", "image_size": 16, "crop_padding": 2, "cutout": 3, "ema": 0.9}
    settings |= {"data": str(data), "epochs": 2, "batch_size": 8, "holdout": 0.25, "precision": "float32"}
    return TrainConfig(**(settings | {"optimizer": "adamw", "lr": 1e-3} | changes))


def run_of(config: TrainConfig, root: Path, **options: Any) -> Path:
    folder = runs.create(config.to_dict(), root)
    assert train(config, folder, **options) == "finished"
    return folder


@pytest.fixture
def messy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fifteen cats with one cut file, one dog, two cows; a broken image of each class in the training part."""
    monkeypatch.setattr("swin_core.images.read._reads_heif", lambda: False)
    root = write_messy_folder(tmp_path / "messy")
    (root / "cow").mkdir()
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        (root / "cow" / f"{index}.png").write_bytes(encoded(pixels, "PNG"))
    train_set, held_out = splits(str(root), 0.25)
    damage = next(name for name in train_set.names if name.startswith("cow"))
    damage_held_out = next(name for name in held_out.names if name.endswith(".JPG"))
    for name in (damage, damage_held_out):
        (root / name).write_bytes((root / name).read_bytes()[:120])
    return root


def unreadable(root: Path) -> set[str]:
    """The names of the images that cannot be decoded, by a loop over all of them."""
    parts = splits(str(root), 0.25)
    return {
        name
        for part in parts
        for name, row in zip(part.names, part.rows(16), strict=True)
        if isinstance(row, DataError)
    }


def test_a_messy_folder_trains_and_every_file_that_is_left_out_is_named(messy: Path, tmp_path: Path) -> None:
    told: list[str] = []
    run = run_of(small(messy), tmp_path, on_metrics=lambda facts: told.extend(facts.get("data", ())))
    data = runs.read_data(run)
    broken = unreadable(messy)
    assert len(broken) == 3
    by_header = {"cat/empty.jpg", "cat/phone.heic", "cat/notes.txt", "nothing"}
    assert {file["name"] for file in data["skipped"]} == by_header | broken
    train_set, held_out = splits(str(messy), 0.25)
    for key, part in (("train", train_set), ("validation", held_out)):
        used = [name for name in part.names if name not in broken]
        expected = {label: sum(name.startswith(label) for name in used) for label in part.classes}
        assert {label: count[key] for label, count in data["classes"].items()} == expected
    assert told[0] == "skipped 7 files: 5 of cat, 1 of nothing, 1 of cow"
    assert {line.split()[0] for line in told[1:8]} == by_header | broken
    assert told[8:] == ["no validation image of dog: metrics do not include these classes"]
    log = (run / "log.txt").read_text()
    assert all(line in log for line in told)
    assert json.loads((run / "validation.json").read_text())["count"] == len(held_out) - 1
    found = evaluate_named(str(run), str(messy), "val", runs_root=tmp_path)
    assert found.metrics.count == len(held_out) - 1
    assert {file.name for file in found.skipped} == by_header | {name for name in held_out.names if name in broken}
    with pytest.raises(DataError, match="5 files cannot be used: ") as error:
        evaluate_named(str(run), str(messy), "val", runs_root=tmp_path, strict=True)
    one_line(error)


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "mixup": 0.8}])
def test_images_that_are_read_on_demand_give_the_same_run(
    messy: Path, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = run_of(small(messy, **changes), tmp_path / "kept")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4000))
    read = run_of(small(messy, **changes), tmp_path / "read")
    for name in ("model.safetensors", "validation.json"):
        assert (kept / name).read_bytes() == (read / name).read_bytes()
    known, found = (runs.read_data(run) for run in (kept, read))
    assert known["classes"] == found["classes"]
    assert {file["name"] for file in known["skipped"]} == {file["name"] for file in found["skipped"]}


def test_two_ranks_find_what_one_finds(messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank reads its own rows of every batch: together they read every image, and the batches are those of one."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4000))
    images = LabelledImages(splits(str(messy), 0.25)[0], 16, torch.device("cpu"), fills=True)
    batches = list(torch.arange(len(images)).split(6))
    whole = [pixels for pixels, _ in images.batches(batches)]
    parts, found = [], {}
    for rows in (slice(0, 2), slice(2, None)):
        rank = LabelledImages(splits(str(messy), 0.25)[0], 16, torch.device("cpu"), fills=True)
        parts.append([pixels for pixels, _ in rank.batches([batch[rows] for batch in batches])])
        found |= rank.unreadable
    assert found == images.unreadable
    for pixels, first, second in zip(whole, *parts, strict=True):
        assert torch.equal(pixels, torch.cat([first, second]))


def test_the_next_image_of_the_class_takes_the_place_of_a_broken_one(messy: Path) -> None:
    part = splits(str(messy), 0.25)[0]
    broken = unreadable(messy)
    images = LabelledImages(part, 16, torch.device("cpu"), fills=True)
    ((pixels, labels),) = images.batches([torch.arange(len(part))])
    rows = part.rows(16)
    assert torch.equal(labels, torch.tensor(part.labels))
    for index, name in enumerate(part.names):
        of_class = [i for i in np.flatnonzero(part.labels == part.labels[index]) if part.names[i] not in broken]
        used = index if name not in broken else next((i for i in of_class if i > index), of_class[0])
        np.testing.assert_array_equal(pixels[index].numpy(), rows[used])


def test_strict_refuses_and_names_every_file(messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(messy, strict=True)
    for memory in (None, 4000):
        if memory:
            monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4000))
        with pytest.raises(DataError, match="files cannot be used: ") as error:
            train(config, runs.create(config.to_dict(), tmp_path))
        assert all(name in one_line(error) for name in ("cat/notes.txt", "cat/phone.heic", "nothing"))
        assert all(name in str(error.value) for name in unreadable(messy))
    clean = small(messy, strict=True)
    for name in unreadable(messy) | {"cat/notes.txt", "cat/phone.heic", "cat/empty.jpg"}:
        (messy / name).unlink()
    (messy / "nothing").rmdir()
    assert not runs.read_data(run_of(clean, tmp_path))["skipped"]


def test_a_class_of_which_no_image_can_be_decoded_is_an_error(messy: Path, tmp_path: Path) -> None:
    for file in (messy / "cow").iterdir():
        file.write_bytes(file.read_bytes()[:120])
    with pytest.raises(DataError, match=r"no training image of the class cow can be read: cow/.*; mend these") as error:
        train(small(messy), runs.create(small(messy).to_dict(), tmp_path))
    one_line(error)


@pytest.mark.parametrize("memory", [None, 4000])
def test_a_class_whose_validation_images_are_broken_is_left_out_of_the_metrics(
    messy: Path, memory: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if memory:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=memory))
    for index in range(3):
        (messy / "ant").mkdir(exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        (messy / "ant" / f"{index}.png").write_bytes(encoded(pixels, "PNG"))
    held_out = splits(str(messy), 0.25)[1]
    (first,) = (name for name in held_out.names if name.startswith("ant"))
    assert held_out.names[0] == first
    (messy / first).write_bytes((messy / first).read_bytes()[:120])
    run = run_of(small(messy), tmp_path)
    assert runs.read_data(run)["classes"]["ant"] == {"train": 2, "validation": 0}
    validation = json.loads((run / "validation.json").read_text())
    assert validation["per_class"][validation["labels"].index("ant")] is None
    for name in held_out.names:
        (messy / name).write_bytes((messy / name).read_bytes()[:60])
    with pytest.raises(DataError, match=r"no val image of messy can be read; mend|needs at least one image"):
        train(small(messy), runs.create(small(messy).to_dict(), tmp_path))
