"""Duplicates against a slow loop over all pairs, and in a folder where the copies are known."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from swin_core.audit import duplicates
from swin_core.audit.duplicates import BITS, GREY_LEVELS, find_duplicates, image_hashes, near_groups, perceptual_hash
from swin_core.data.folders import image_folder
from tests.fixtures.audit import write_images


def test_groups_are_those_of_a_loop_over_all_pairs() -> None:
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 2**64, 60, np.uint64)
    for number in range(40):  # copies with up to five changed bits
        for bit in draw.choice(64, number % 6, replace=False):
            bits[number] = bits[number % 7] ^ (np.uint64(1) << np.uint64(bit))
    thumbnails = draw.integers(0, 256, (60, 12), np.uint8)
    thumbnails[:50] = thumbnails[0]
    pairs = {
        (one, other)
        for one, other in combinations(range(60), 2)
        if bin(int(bits[one]) ^ int(bits[other])).count("1") <= BITS
        and np.abs(thumbnails[one].astype(int) - thumbnails[other]).mean() <= GREY_LEVELS
    }
    graph = coo_matrix((np.ones(len(pairs)), tuple(np.array(sorted(pairs)).T)), (60, 60))
    expected = connected_components(graph, False)[1]
    found = near_groups(bits, thumbnails)
    assert ((found[:, None] == found) == (expected[:, None] == expected)).all()
    assert len(set(expected.tolist())) < 50


def test_memory_grows_with_the_images_and_not_with_the_pairs() -> None:
    """Frames of one camera: most pairs are alike."""
    draw = np.random.default_rng(0)
    count = 2000
    noise = np.packbits(draw.random((count, 64)) < 0.02, axis=1).view(np.uint64)[:, 0]
    thumbnails = (100 + draw.integers(0, 3, (count, 192))).astype(np.uint8)
    near_groups(noise[:50], thumbnails[:50])
    tracemalloc.start()
    groups = near_groups(noise, thumbnails)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.bincount(groups).max() > 0.9 * count
    assert peak < 20 * 2**20


def photo(seed: int) -> Image.Image:
    """Smooth colours, as a photo has them."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC)


def test_copies_are_found_within_and_between_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
    for number in range(12):
        photo(number).save(tmp_path / "train" / ("cat", "dog")[number % 2] / f"{number}.png")
    photo(0).save(tmp_path / "val" / "cat" / "same.png")
    photo(1).resize((90, 68)).save(tmp_path / "val" / "dog" / "smaller.jpg", quality=80)
    photo(2).save(tmp_path / "train" / "dog" / "label.png")
    photo(99).save(tmp_path / "val" / "cat" / "new.png")
    (tmp_path / "val" / "cat" / "broken.png").write_bytes((tmp_path / "train" / "cat" / "0.png").read_bytes()[:300])
    splits = [replace(image_folder(tmp_path / name), split=name) for name in ("train", "val")]
    counted: list[int] = []
    found = find_duplicates(splits, counted.append, tmp_path / "cache")
    names = [{image.name for image in group.images} for group in found]
    assert names == [{"cat/0.png", "cat/same.png"}, {"dog/1.png", "dog/smaller.jpg"}, {"cat/2.png", "dog/label.png"}]
    assert [group.exact for group in found] == [True, False, True]
    assert [group.across_splits for group in found] == [True, True, False]  # those come first
    assert [group.across_classes for group in found] == [False, False, True]
    assert sum(counted) == sum(map(len, splits))
    kept = image_hashes(splits[0], lambda _: None, tmp_path / "cache")
    assert kept.bits.tolist() == [perceptual_hash(splits[0].image(row)) for row in range(len(splits[0]))]


def test_hashes_go_on_where_they_were_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = image_folder(write_images(tmp_path / "images", 4))
    monkeypatch.setattr(duplicates, "_CHUNK", 5)
    read: list[int] = []
    monkeypatch.setattr(duplicates, "perceptual_hash", lambda image: read.append(1) or perceptual_hash(image))

    class Stopped(Exception):
        pass

    def stop(count: int) -> None:
        if len(read) == 10:
            raise Stopped

    with pytest.raises(Stopped):
        image_hashes(folder, stop, tmp_path / "cache")
    read.append(1)
    hashes = image_hashes(folder, stop, tmp_path / "cache")
    assert len(read) == 12 + 1  # each of the 12 images once
    assert hashes.bits.tolist() == [perceptual_hash(folder.image(row, 64)) for row in range(12)]


def test_different_images_are_no_copies(tmp_path: Path) -> None:
    folder = image_folder(write_images(tmp_path / "images", 10))
    assert find_duplicates([folder], lambda _: None, tmp_path / "cache") == ()


@pytest.mark.parametrize(
    "colours", [("black", "white", "red"), ("black", "black", "red"), ("red", "blue", "red", "blue")]
)
def test_plain_images_are_told_apart_by_their_colour(colours: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "images" / "plain").mkdir(parents=True)
    for number, colour in enumerate(colours):
        Image.new("RGB", (20, 20), colour).save(tmp_path / "images" / "plain" / f"{number}.png")
    found = find_duplicates([image_folder(tmp_path / "images")], lambda _: None, tmp_path / "cache")
    assert len(found) == len(colours) - len(set(colours))
