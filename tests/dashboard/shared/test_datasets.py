"""Data sets on this machine: which are offered, and which names of images are refused before a file is opened."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dashboard.shared.datasets import data_image, data_sets, image_name, open_catalog, open_split, trainable_folders
from dashboard.shared.model_names import MAX_IMAGES
from swin_core.data.flowers import CLASSES as FLOWERS
from swin_core.data.folders import image_folder
from swin_core.data.registry import splits
from swin_core.errors import DataError
from tests.fixtures.images import one_line, small_cifar, write_hub
from tests.fixtures.pages import choose, opened, texts
from tests.fixtures.runs import make_run

REFUSED = (
    "../secret/all/0",
    "/etc/all/0",
    "photos/all/../../secret",
    "photos/all/0\0",
    "photos\0/all/0",
    "photos/../secret/0",
    "photos/all/-1",
    "photos/all/1.5",
    "photos/all/" + "9" * 400,
    ".hidden/all/0",
    "photos//0",
    "photos/all",
    "",
    "photos/all/0\n",
    "..\\secret/all/0",
    "photos\x85/all/0",
    "photos/all/٣",
)


def write_picture(file: Path, shade: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((24, 32, 3), shade, np.uint8)).save(file)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with CIFAR-100, flower_photos, five folders of class folders, and what is none."""
    place = tmp_path / "data"
    write_hub(place / "cifar100", small_cifar())
    for shade, name in enumerate(FLOWERS):
        for number in range(12):
            write_picture(place / "flower_photos" / name / f"{number:02}.png", 10 * shade + number)
    for shade, file in enumerate(("cat/b.png", "cat/a.png", "dog_big/c.png")):
        write_picture(place / "photos" / file, 50 * shade)
    for split in ("train", "val"):
        write_picture(place / "own" / split / "a" / "1.png", 7)
    for shade, split in enumerate(("train", "valid")):
        write_picture(place / "valid" / split / "a" / f"{split}.png", shade)
    write_picture(place / "Fotos, ÄÖ & co" / "a" / "1.png", 7)
    write_picture(place / "two\nlines" / "a" / "1.png", 7)
    (place / "empty" / "folder").mkdir(parents=True)
    write_picture(tmp_path / "secret" / "a" / "1.png", 9)
    (place / "linked").symlink_to(tmp_path / "secret")
    monkeypatch.setenv("SWIN_DATA_ROOT", str(place))
    return place


def test_the_data_sets_that_are_there_are_offered(root: Path) -> None:
    found = {one.name: one.splits for one in data_sets()}
    assert found == {
        "cifar100": ("test", "train"),
        "flowers": ("val", "train"),
        "Fotos, ÄÖ & co": ("all",),
        "own": ("val", "train"),
        "photos": ("all",),
        "valid": ("val", "train"),
    }
    assert open_split("valid", "val").names == ("a/valid.png",)
    assert [one.name for one in data_sets()][:2] == ["cifar100", "flowers"]


def test_without_data_there_is_nothing_to_offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        monkeypatch.setenv("SWIN_DATA_ROOT", str(place))
        assert data_sets() == []
        for name in ("cifar100/test/0", "flowers/val/0", "photos/all/0"):
            with pytest.raises(DataError) as error:
                data_image(name)
            assert "swinlens data" in one_line(error)


def test_a_picture_is_found_by_its_place_in_the_split(root: Path) -> None:
    small = small_cifar()
    for index in (0, 17, 29):
        np.testing.assert_array_equal(np.asarray(data_image(f"cifar100/test/{index}").pil), small["pixels"][index])
    for split in ("train", "val"):
        data = open_split("flowers", split)
        picture = data_image(image_name("flowers", split, len(data) - 1))
        assert f"tulips/{picture.title}" == data.names[-1]
        assert picture.truth == "tulips"
    assert data_image("Fotos, ÄÖ & co/all/0").truth == "a"
    names = [data_image(f"photos/all/{index}") for index in range(3)]
    assert [(one.title, one.truth) for one in names] == [("a.png", "cat"), ("b.png", "cat"), ("c.png", "dog big")]
    assert data_image("own/train/0").key != data_image("own/val/0").key


def test_a_split_is_in_memory_once_however_many_are_opened(root: Path) -> None:
    places = [(entry.name, split) for entry in data_sets() for split in entry.splits]
    assert len(places) > 6
    opened_first = [open_split(*place) for place in places]
    assert all(open_split(*place) is data for place, data in zip(places, opened_first, strict=True))
    name, split = places[0]
    assert open_catalog(name, [split]).parts == (opened_first[0],)
    assert open_catalog(name, [split]) is open_catalog(name, (split,))


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_leads_out_is_refused_before_anything_is_opened(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(*_: object) -> None:
        raise AssertionError("a file was looked at")

    monkeypatch.setattr(os, "stat", touched)
    monkeypatch.setattr(os, "open", touched)
    monkeypatch.setattr(os, "scandir", touched)
    monkeypatch.setattr(io, "open", touched)
    with pytest.raises(DataError) as error:
        data_image(name)
    assert "\0" not in one_line(error)


@pytest.mark.parametrize(
    "name",
    [
        "linked/all/0",
        "own/all/0",
        "photos/val/0",
        "nothing/all/0",
        "cifar100/val/0",
        "phötos/all/0",
        "%2e%2e/all/0",
        "<img src=x onerror=alert(1)>/all/0",
    ],
)
def test_a_data_set_that_is_not_offered_is_refused(root: Path, name: str) -> None:
    with pytest.raises(DataError, match="there is no data set") as error:
        data_image(name)
    one_line(error)


def test_a_link_inside_a_data_set_that_leads_out_is_skipped(root: Path) -> None:
    (root / "photos" / "cat" / "z.png").symlink_to(root.parent / "secret" / "a" / "1.png")
    data = open_split("photos", "all")
    assert len(data) == 3
    assert [file.name for file in data.skipped] == ["cat/z.png"]


@pytest.fixture
def offered(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two offered folders of the same name, and a run that was trained on a folder elsewhere."""
    for place in ("one/mine", "two/mine"):
        for name in ("cat", "dog"):
            write_picture(tmp_path / place / "pets" / name / "1.JPG.png", 3)
        write_picture(tmp_path / place / "loose" / "x.png", 4)
    (tmp_path / "one" / "mine" / "pets" / "cow").symlink_to(tmp_path / "one" / "mine" / "loose")
    (tmp_path / "one" / "mine" / "pets" / "out").symlink_to(tmp_path / "secret")
    monkeypatch.setenv("SWINLENS_DATA", os.pathsep.join(str(tmp_path / place) for place in ("one/mine", "two/mine")))
    for name in ("ant", "bee"):
        for number in range(8):
            write_picture(tmp_path / "insects" / name / f"{number}.png", number)
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(tmp_path / "runs"))
    for time, seed in (("100000", 1), ("110000", 1), ("120000", 2)):
        settings = {"data": str(tmp_path / "insects"), "holdout": 0.25, "seed": seed}
        make_run(tmp_path / "runs", f"20260101-{time}-run", settings=settings)
    return tmp_path


def test_offered_folders_and_folders_of_runs_are_listed(offered: Path) -> None:
    entries = data_sets()[6:]
    assert [(entry.name, entry.title, entry.splits) for entry in entries] == [
        ("mine", "mine", ("all",)),
        ("mine:pets", "mine/pets", ("all",)),
        ("mine (2)", "mine (2)", ("all",)),
        ("mine:pets (2)", "mine/pets (2)", ("all",)),
        *(
            (f"insects@20260101-{time}-run", f"insects, as run 20260101-{time}-run divides it", ("val", "train", "all"))
            for time in ("120000", "110000")
        ),
    ]
    # Links are followed inside the offered folder, not out of it: the class `out` has lost its images.
    with pytest.raises(DataError, match="no image left of out"):
        open_split("mine:pets", "all")
    (offered / "one" / "mine" / "pets" / "out").unlink()
    assert open_split("mine:pets", "all").classes == ("cat", "cow", "dog")
    assert data_image("mine:pets (2)/all/1").truth == "dog"


def test_the_folder_of_a_run_is_divided_as_in_the_run(offered: Path) -> None:
    for time, seed in (("120000", 2), ("110000", 1), ("100000", 1)):  # the last one is not listed, but found
        for split, expected in zip(("train", "val"), splits(str(offered / "insects"), 0.25, seed), strict=True):
            assert open_split(f"insects@20260101-{time}-run", split).names == expected.names
    for name in ("insects@..", "insects@", "other@20260101-120000-run", "insects@nothing"):
        with pytest.raises(DataError, match="there is no data set"):
            open_split(name, "train")


def test_images_without_labels_can_be_browsed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        write_picture(tmp_path / "flat" / f"{number}.jpg", 40 * number)
    monkeypatch.setenv("SWINLENS_DATA", str(tmp_path / "flat"))
    assert ("flat", ("all",)) in [(entry.name, entry.splits) for entry in data_sets()]
    image = data_image("flat/all/2")
    assert (image.title, image.truth) == ("2.jpg", "")


def test_a_place_behind_the_last_picture_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="has 3 of them"):
        data_image("photos/all/3")


def test_a_picture_that_is_added_is_seen(root: Path) -> None:
    before = data_image("photos/all/0")
    write_picture(root / "photos" / "cat" / "0.png", 99)
    after = data_image("photos/all/0")
    assert (before.title, after.title) == ("a.png", "0.png")
    assert before.key != after.key
    assert len(open_split("photos", "all")) == len(image_folder(root / "photos")) == 4


def test_a_picture_that_is_written_anew_is_seen(root: Path) -> None:
    before = data_image("photos/all/0")
    write_picture(root / "photos" / "cat" / "a.png", 1)
    os.utime(root / "photos" / "cat" / "a.png", ns=(1, 1))
    assert int(data_image("photos/all/0").square[0, 0, 0]) == 1 != int(before.square[0, 0, 0])


def test_picked_pictures_stand_beside_the_samples_and_can_be_removed(root: Path) -> None:
    app = opened(picked=["photos/all/2", "photos/all/9", "../etc/passwd"], sample="tulip", model="swin_micro_flowers")
    assert all(name in texts(app) for name in ("tulip.jpg", "c.png"))
    assert [("has 3 of them" in error.value, "etc/passwd" in error.value) for error in app.error] == [
        (True, False),
        (False, True),
    ]
    choose(app, "picked", [])
    app.run()
    assert "c.png" not in texts(app)
    assert not app.error


def test_one_grid_holds_no_more_pictures_than_it_has_rows(root: Path) -> None:
    names = [f"flowers/val/{index}" for index in range(5)] + [f"photos/all/{index}" for index in range(3)]
    app = opened(picked=names, sample="tulip", model="swin_micro_flowers")
    assert f"One grid holds {MAX_IMAGES} images; the last 1 are left out" in app.error[0].value


def test_a_link_shows_its_pictures_from_the_first_run_on(root: Path) -> None:
    app = opened(show_pictures=["photos/all/2", "photos/all/0"], model="swin_micro_flowers")
    for _ in range(2):
        assert "tulip.jpg" not in texts(app)
        assert all(name in texts(app) for name in ("c.png", "a.png"))
        assert "show_pictures" not in app.query_params
        app.run()
    assert app.query_params["picked"] == ["photos/all/2", "photos/all/0"]


def test_a_link_with_more_pictures_than_rows_says_so(root: Path) -> None:
    names = [f"cifar100/test/{index}" for index in range(MAX_IMAGES + 2)]
    app = opened(show_pictures=names, model="swin_micro_flowers")
    for _ in range(2):
        assert ["the last 2 are left out" in warning.value for warning in app.warning] == [True]
        app.session_state["settled"] = True
        app.run()
    assert app.query_params["picked"] == names[:MAX_IMAGES]


def test_folders_with_classes_are_offered_for_training(offered: Path) -> None:
    assert trainable_folders() == [str(offered / place / "mine" / "pets") for place in ("one", "two")]
