"""Data sets in folders, of images and of arrays: order, splits, broken files, links that leave (fault 3)."""

import collections
import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from torchvision.transforms.v2 import functional as torchvision_functional

from swin_core.data import folders
from swin_core.data.cifar100 import cifar100
from swin_core.data.dataset import data_root, holdout
from swin_core.data.flowers import flower_photos
from swin_core.data.folders import array_folder, image_folder, open_folder
from swin_core.errors import ConfigError, DataError
from tests.fixtures.images import encoded, one_line, small_cifar, smooth_pixels, write_hub, write_messy_folder


@pytest.fixture
def small() -> dict[str, np.ndarray]:
    return small_cifar()


def test_missing_data_sets_say_what_to_do(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "missing", "nul\0"):
        for load in (cifar100, flower_photos):
            with pytest.raises(DataError, match="swinlens data") as error:
                load(root)
            one_line(error)
    for load in (cifar100, flower_photos):
        with pytest.raises(ConfigError, match="train"):
            load(tmp_path, "validation")


def test_data_root_is_found_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SWIN_DATA_ROOT", str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_root(tmp_path / "given") == tmp_path / "given"
    assert data_root() == tmp_path / "named"
    monkeypatch.delenv("SWIN_DATA_ROOT")
    assert data_root() == tmp_path / "cache" / "swinlens"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert data_root() == tmp_path / "home" / ".cache" / "swinlens"
    assert data_root("~/data") == tmp_path / "home" / "data"


def test_real_flower_photos_are_split_as_the_report_says(data_root: Path) -> None:
    train, held = flower_photos(data_root, "train"), flower_photos(data_root, "val")
    assert train.classes == held.classes == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert (len(train), len(held)) == (3306, 364)
    assert np.bincount(held.labels).tolist() == [63, 89, 64, 69, 79]
    assert np.bincount(train.labels).tolist() == [570, 809, 577, 630, 720]
    assert not set(train.names) & set(held.names)
    for label, name in zip(held.labels, held.names, strict=True):
        assert name.startswith(held.classes[label] + "/")
    # The split follows from the names alone, so it is the same on every machine.
    for label in range(5):
        names = [name for name in train.names + held.names if name.startswith(train.classes[label] + "/")]
        order = sorted(names, key=lambda name: hashlib.sha256(f"0:{name}".encode()).digest())
        assert set(order[: len(names) // 10]) == {held.names[i] for i in np.flatnonzero(held.labels == label)}
    pixels = held.array(64)
    assert pixels.shape == (364, 64, 64, 3)
    for index in range(0, 364, 40):
        np.testing.assert_array_equal(pixels[index], torchvision_square(held.image(index), 64))


def torchvision_square(picture: Image.Image, size: int) -> np.ndarray:
    """Shorter side to `size`, then the centre, by torchvision."""
    larger = torchvision_functional.resize(picture, [size], torchvision_functional.InterpolationMode.BICUBIC)
    return np.asarray(torchvision_functional.center_crop(larger, [size]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of 20, 11 and 9 images of several formats, sizes and letter cases, and files to pass over."""
    root = tmp_path / "animals"
    draw = np.random.default_rng(0)
    for name, count in (("cat", 20), ("ant", 11), ("dog", 9)):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = draw.integers(0, 256, (20 + index, 30, 3), dtype=np.uint8)
            suffix, kind = ((".PNG", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP"))[index % 3]
            (root / name / f"{index:02}{suffix}").write_bytes(encoded(pixels, kind))
        (root / name / "notes.txt").write_text("passed over")
        (root / name / ".hidden.png").write_bytes(b"passed over")
    (root / "empty").mkdir()
    (root / ".cache").mkdir()
    shutil.copy(root / "cat" / "00.PNG", root / ".cache")
    shutil.copy(root / "cat" / "00.PNG", root / "beside.png")
    return root


def test_a_folder_of_class_folders(folder: Path) -> None:
    dataset = image_folder(folder)
    assert (dataset.name, dataset.split, dataset.classes) == ("animals", "all", ("ant", "cat", "dog"))
    assert np.bincount(dataset.labels).tolist() == [11, 20, 9]
    assert list(dataset.names) == sorted(dataset.names)
    assert dataset.names[11] == "cat/00.PNG"
    assert dataset.array(16).shape == (40, 16, 16, 3)
    assert dataset.image(12).size == (30, 21)
    with pytest.raises(DataError, match="different shapes"):
        dataset.array()


def test_the_order_of_the_file_system_does_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = image_folder(folder, "val", holdout=0.3, seed=5).names
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(listed(path), reverse=True)))
    assert image_folder(folder, "val", holdout=0.3, seed=5).names == before
    moved = folder.rename(folder.with_name("elsewhere"))
    assert image_folder(moved, "val", holdout=0.3, seed=5).names == before


@pytest.mark.parametrize(("share", "counts"), [(0.1, [1, 2, 1]), (0.5, [5, 10, 4]), (0.99, [10, 19, 8])])
def test_each_class_holds_out_its_share_and_at_least_one_image(folder: Path, share: float, counts: list[int]) -> None:
    train, held = (image_folder(folder, split, holdout=share) for split in ("train", "val"))
    assert np.bincount(held.labels, minlength=3).tolist() == counts
    assert sorted(train.names + held.names) == list(image_folder(folder).names)
    assert (train.split, held.split) == ("train", "val")


def test_holdout_is_fixed_by_its_seed(small: dict[str, np.ndarray], tmp_path: Path) -> None:
    write_hub(tmp_path / "cifar100", small)
    dataset = cifar100(tmp_path)
    train, held = holdout(dataset, 0.3, seed=0)
    assert np.bincount(held.labels).tolist() == [3, 3, 3]
    assert holdout(dataset, 0.3, seed=0)[1].names == held.names
    assert holdout(dataset, 0.3, seed=1)[1].names != held.names
    # Every column follows its image.
    for part in (train, held):
        rows = [int(name[:2]) for name in part.names]
        np.testing.assert_array_equal(part.array(), small["pixels"][rows])
        np.testing.assert_array_equal(part.labels, small["fine"][rows])
        np.testing.assert_array_equal(part.coarse_labels, small["coarse"][rows])
    # The order of rows has no say.
    mixed = dataset.subset(np.random.default_rng(0).permutation(30), "train")
    assert set(holdout(mixed, 0.3, seed=0)[1].names) == set(held.names)
    # 0.29 * 100 is a little less than 29 in binary.
    hundred = dataset.subset(np.zeros(100, int), "train")
    assert len(holdout(hundred, 0.29, seed=0)[1]) == 29
    for fraction in (0, 1, -0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            holdout(dataset, fraction, seed=0)


def test_pictures_are_decoded_once_and_cannot_be_spoilt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = collections.Counter()
    read = folders.read_image

    def counted(source: Path, **options: object) -> Image.Image:
        reads[source] += 1
        return read(source, **options)

    monkeypatch.setattr(folders, "read_image", counted)
    dataset = image_folder(folder)
    first = dataset.array(8)
    assert dataset.array(8) is first
    assert set(reads.values()) == {1}
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    dataset.array(9)
    assert len(dataset._decoded) == 1


@pytest.mark.parametrize("shape", [(20, 60), (60, 20), (33, 33), (37, 53), (201, 17), (1, 9)])
def test_scaling_is_torchvisions(shape: tuple[int, int], tmp_path: Path) -> None:
    """Shorter side to size, then the centre."""
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.png").write_bytes(encoded(pixels, "PNG"))
    dataset = image_folder(tmp_path)
    for size in (1, 10, 20, 50):
        expected = torchvision_square(Image.fromarray(pixels), size)
        np.testing.assert_array_equal(dataset.array(size)[0], expected)


def test_large_photos_are_decoded_small_and_come_close(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:900, 0:1300]
    pixels = np.stack([rows / 4, columns / 6, (rows + columns) / 10], axis=2).astype(np.uint8)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.jpg").write_bytes(encoded(pixels, "JPEG", quality=95))
    dataset = image_folder(tmp_path)
    expected = torchvision_square(dataset.image(0), 64).astype(int)
    assert np.abs(dataset.array(64)[0] - expected).max() <= 3


def test_broken_pictures_are_reported_by_one_line(folder: Path) -> None:
    (folder / "cat" / "03.PNG").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (folder / "dog" / "01.jpg").write_bytes((folder / "dog" / "01.jpg").read_bytes()[:200])
    dataset = image_folder(folder)
    with pytest.raises(DataError, match=r"2 of 40 images.*cat/03\.PNG") as error:
        dataset.array(16)
    one_line(error)
    with pytest.raises(DataError, match=r"cat/03\.PNG") as error:
        dataset.image(dataset.names.index("cat/03.PNG"))
    one_line(error)


def test_links_inside_the_folder_are_followed_and_others_are_skipped(folder: Path, tmp_path: Path) -> None:
    (folder / "cat" / "link.png").symlink_to(folder / "dog" / "00.PNG")
    (folder / "cat" / "dogs").symlink_to(folder / "dog")
    dataset = image_folder(folder)
    assert len(dataset) == 40 + 1 + 9
    assert {"cat/link.png", "cat/dogs/00.PNG"} <= set(dataset.names)
    outside = tmp_path / "outside"
    shutil.copytree(folder / "dog", outside)
    (folder / "cat" / "away.png").symlink_to(outside / "00.PNG")
    (folder / "cat" / "up.png").symlink_to(Path("../../outside/00.PNG"))
    (folder / "cat" / "far").symlink_to(outside)
    again = image_folder(folder)
    assert again.names == dataset.names
    away = [file for file in again.skipped if "link that leaves" in file.reason]
    assert [(file.name, file.class_name) for file in away] == [
        (f"cat/{name}", "cat") for name in ("away.png", "far", "up.png")
    ]
    # Links may lead anywhere in an offered folder.
    assert len(image_folder(folder, root=tmp_path)) == len(dataset) + 2 + 9
    # The folder itself may be reached by a link.
    (tmp_path / "alias").symlink_to(folder)
    assert image_folder(tmp_path / "alias").names == dataset.names


def test_a_class_whose_folder_leads_out_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    (folder / "bird").symlink_to(tmp_path / "birds")
    with pytest.raises(
        DataError, match=r"has no image left of bird: bird is a link that leaves .*; mend these files"
    ) as error:
        image_folder(folder)
    one_line(error)


def test_a_link_to_a_folder_around_it_is_not_followed_for_ever(folder: Path) -> None:
    (folder / "cat" / "again").symlink_to(folder)
    names = image_folder(folder).names
    assert sum(name.startswith("cat/again/cat/") for name in names) == 0
    assert len(set(names)) == len(names)


def test_a_link_to_itself_is_skipped(folder: Path) -> None:
    (folder / "cat" / "loop.png").symlink_to(folder / "cat" / "loop.png")
    dataset = image_folder(folder)
    assert len(dataset) == 40
    assert "cat/loop.png cannot be read (Too many levels of symbolic links)" in map(str, dataset.skipped)


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "file", Path("nul\0")):
        with pytest.raises(DataError) as error:
            image_folder(path)
        one_line(error)
    with pytest.raises(ConfigError):
        image_folder(tmp_path, "test")


def test_a_hostile_class_name_is_kept_as_text(tmp_path: Path) -> None:
    name = "<img onerror=alert(1)>"
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.png").write_bytes(encoded(np.zeros((4, 4, 3), np.uint8), "PNG"))
    assert image_folder(tmp_path).classes == (name,)


def test_arrays_of_many_channels(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    fields = draw.integers(0, 65_536, (12, 20, 24, 7), dtype=np.uint16)
    for index, field in enumerate(fields):
        place = tmp_path / ("crops" if index % 2 else "water")
        place.mkdir(exist_ok=True)
        if index % 3 == 0:
            np.save(place / f"{index:02}.npy", field)
        elif index % 3 == 1:
            np.savez_compressed(place / f"{index:02}.npz", field)
        else:
            tifffile.imwrite(place / f"{index:02}.tif", field.transpose(2, 0, 1), photometric="minisblack")
    dataset = array_folder(tmp_path)
    assert dataset.classes == ("crops", "water")
    order = [int(name[-6:-4]) for name in dataset.names]
    values = dataset.array()
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, fields[order])
    train, held = (array_folder(tmp_path, split, holdout=0.5) for split in ("train", "val"))
    assert (len(train), len(held)) == (6, 6)
    with pytest.raises(DataError, match="7 channels"):
        dataset.image(0)

    scaled = dataset.array(10)
    assert scaled.shape == (12, 10, 10, 7)
    assert scaled.dtype == np.float32
    # Scaling keeps a channel's mean over what is left of the crop, 20 of 24 columns.
    square = fields[order][:, :, 2:22].astype(np.float64)
    np.testing.assert_allclose(scaled.mean(axis=(1, 2)), square.mean(axis=(1, 2)), rtol=0.05)


def test_constant_channels_stay_constant_when_scaled(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    values = np.array([-3.5, 0.0, 1e6, 1e-6, 7.0])
    np.save(tmp_path / "a" / "a.npy", np.broadcast_to(values, (31, 17, 5)))
    scaled = array_folder(tmp_path).array(9)
    np.testing.assert_allclose(scaled, np.broadcast_to(values, (1, 9, 9, 5)), rtol=1e-5)


def test_sets_can_be_sent_to_another_worker(folder: Path) -> None:
    assert pickle.dumps(image_folder(folder, "train"))


# Folders as people have them


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swin_core.images.read._reads_heif", lambda: False)


@pytest.mark.usefixtures("without_heif")
def test_images_are_found_by_content_and_the_rest_is_named(tmp_path: Path) -> None:
    dataset = image_folder(write_messy_folder(tmp_path / "messy"))
    assert dataset.classes == ("cat", "dog")
    assert np.bincount(dataset.labels).tolist() == [15, 1]  # with the cut one, whose first bytes are those of a JPEG
    assert {"cat/a.JFIF", "cat/b.jpg", "cat/c", "cat/2024/june/d.png", "cat/link.jpg"} <= set(dataset.names)
    skipped = {file.name: (file.class_name, file.reason) for file in dataset.skipped}
    assert skipped.keys() == {"cat/empty.jpg", "cat/phone.heic", "cat/notes.txt", "nothing"}
    assert skipped["cat/empty.jpg"] == ("cat", "is empty")
    assert "pip install 'swinlens[heic]'" in skipped["cat/phone.heic"][1]
    assert skipped["nothing"] == ("nothing", "is a folder without images")
    broken = [row for row in dataset.rows(16) if isinstance(row, DataError)]
    assert len(broken) == 1
    assert "cut.jpg" in one_line(pytest.ExceptionInfo.from_exception(broken[0]))
    for split in holdout(dataset, 0.2, seed=0):
        assert split.skipped == dataset.skipped


@pytest.mark.usefixtures("without_heif")
def test_a_class_that_lost_all_its_images_is_an_error(tmp_path: Path) -> None:
    root = write_messy_folder(tmp_path / "messy")
    (root / "cow").mkdir()
    (root / "cow" / "1.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (root / "cow" / "2.jpg").write_bytes(b"<html>404</html>")
    with pytest.raises(DataError, match=r"no image left of cow: cow/1\.heic is a HEIC image.*cow/2\.jpg") as error:
        open_folder(root)
    one_line(error)
    # A folder that never held images is no class.
    shutil.rmtree(root / "cow")
    (root / "lists").mkdir()
    (root / "lists" / "labels.csv").write_text("a,b")
    assert open_folder(root).classes == ("cat", "dog")


def test_heic_is_read_with_pillow_heif(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    pixels = smooth_pixels()
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "phone.JPG").write_bytes(encoded(pixels, "HEIF", quality=-1, chroma=444))
    dataset = open_folder(tmp_path)
    assert dataset.skipped == ()
    assert np.abs(np.asarray(dataset.image(0)).astype(int) - pixels).max() <= 3


def test_arrays_beside_tiffs_and_text_are_opened_as_arrays(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 9, (6, 8, 5), dtype=np.uint16)
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "1.npy", values)
    tifffile.imwrite(tmp_path / "a" / "2.tif", values, photometric="minisblack", planarconfig="contig")
    (tmp_path / "a" / "notes.txt").write_text("x")
    dataset = open_folder(tmp_path)
    assert dataset.names == ("a/1.npy", "a/2.tif")
    assert dataset.array().shape == (2, 6, 8, 5)
    (tmp_path / "a" / "1.npy").unlink()
    assert open_folder(tmp_path).array().shape == (1, 6, 8, 5)


def test_images_without_class_folders_have_no_labels(tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(encoded(np.full((4, 4, 3), index, np.uint8), "PNG"))
    (tmp_path / "list.csv").write_text("x")
    dataset = open_folder(tmp_path)
    assert (dataset.classes, dataset.labels.tolist()) == ((), [-1, -1, -1])
    assert dataset.names == ("0.png", "1.png", "2.png")
    assert [str(file) for file in dataset.skipped] == [
        "list.csv is not an image of a known format; save it as PNG or JPEG"
    ]
    with pytest.raises(DataError, match="move the images of each class into a folder of its own"):
        image_folder(tmp_path)
