"""Read arrays: values are unchanged at any bit depth and number of channels, and nothing in a file can run code."""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from swin_core.errors import ImageError
from swin_core.images.arrays import read_array
from swin_core.images.read import read_image

DTYPES = ("uint8", "int16", "uint16", ">u2", "int32", "uint32", "float16", "float32", ">f4", "float64", "bool")


@pytest.fixture
def values() -> np.ndarray:
    """Seven channels of 12 x 15 pixels."""
    return np.random.default_rng(0).integers(0, 60_000, (12, 15, 7))


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def tiff(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize("dtype", DTYPES)
def test_npy_values_are_untouched(dtype: str, values: np.ndarray, tmp_path: Path) -> None:
    array = (values % 2 if dtype == "bool" else values).astype(dtype)
    path = tmp_path / "a.npy"
    path.write_bytes(npy(array))
    file = io.BytesIO()
    np.savez_compressed(file, array)
    for source in (path, str(path), path.read_bytes(), npy(np.asfortranarray(array)), file.getvalue(), file):
        read = read_array(source)
        assert read.dtype == array.dtype.newbyteorder("=")
        assert read.dtype.isnative
        assert read.flags.writeable
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_tiff_planes_pages_and_samples_become_channels(dtype: str, values: np.ndarray) -> None:
    array = values.astype(dtype)
    first = array.transpose(2, 0, 1)
    for content in (
        tiff(array, planarconfig="contig", photometric="minisblack"),
        tiff(first, planarconfig="separate", photometric="minisblack"),
        tiff(first, photometric="minisblack"),
        tiff(first, photometric="minisblack", byteorder=">"),
        tiff(first, photometric="minisblack", compression="zlib", predictor=dtype[0] != "f"),
        tiff(first, photometric="minisblack", bigtiff=True),
        tiff(first, photometric="minisblack", tile=(16, 16)),
    ):
        read = read_array(content)
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(read_array(tiff(array[:, :, :3], photometric="rgb")), array[:, :, :3])


def test_one_channel_gets_its_axis(values: np.ndarray) -> None:
    plane = values[:, :, 0].astype(np.uint16)
    for content in (npy(plane), tiff(plane)):
        np.testing.assert_array_equal(read_array(content), plane[:, :, None])


class _RunsCode:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("code-ran"),)


def test_arrays_of_python_objects_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    objects = np.array([[_RunsCode()]], dtype=object)
    file = io.BytesIO()
    np.savez(file, objects)
    for content in (npy(objects), file.getvalue()):
        with pytest.raises(ImageError, match="Python objects"):
            read_array(content)
    with pytest.raises(ImageError, match="no array"):
        read_array(pickle.dumps(_RunsCode()))
    assert not Path("code-ran").exists()


def with_header(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + data


def zipped(content: bytes, **names: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names or {"a": 1}:
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def claiming(content: bytes, size: int) -> bytes:
    """A ZIP archive that claims `size` bytes for its member."""
    place = content.index(b"PK\1\2") + 24
    return content[:place] + size.to_bytes(4, "little") + content[place + 4 :]


BAD = {
    "empty": b"",
    "text": b"just text",
    "cut short": npy(np.zeros((9, 9)))[:-1],
    "more than there is": with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000)}"),
    "negative": with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}", bytes(8)),
    "code in the header": with_header("__import__('os').system('true')"),
    "no header": b"\x93NUMPY",
    "new version": b"\x93NUMPY\x09\0" + bytes(50),
    "complex": npy(np.zeros((2, 2), complex)),
    "strings": npy(np.array([["a"]])),
    "records": npy(np.zeros((2, 2), [("a", "f4"), ("b", "u1")])),
    "no bytes a value": npy(np.zeros((2, 2), "V0")),
    "times": npy(np.zeros((2, 2), "M8[s]")),
    "four axes": npy(np.zeros((2, 2, 2, 2))),
    "one axis": npy(np.zeros(4)),
    "none": npy(np.zeros((0, 4))),
    "two arrays": zipped(npy(np.zeros((2, 2))), a=1, b=1),
    "no array in it": zipped(b"text"),
    "zip cut short": zipped(npy(np.zeros((20, 20))))[:-30],
    "zip bomb": claiming(zipped(npy(np.zeros((2, 2)))), 600 * 2**20),
    "TIFF cut short": tiff(np.zeros((40, 40), np.uint16))[:-100],
    "TIFF of complex numbers": tiff(np.zeros((4, 4), np.complex64)),
    "TIFF of a header only": b"II*\0",
    "TIFF of many strips": tiff(np.zeros((2**18 + 1, 1), np.uint8), rowsperstrip=1),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_array_of_numbers_is_refused_by_one_line(kind: str) -> None:
    with pytest.raises(ImageError) as error:
        read_array(BAD[kind])
    assert len(str(error.value).splitlines()) == 1


def test_damaged_tiffs_raise_no_other_error(values: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    content = tiff(values.astype(np.uint16), photometric="minisblack", compression="zlib")
    draw = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(content)
        for place in draw.integers(4, min(400, len(content)), draw.integers(1, 12)):
            damaged[place] = draw.integers(256)
        try:
            read_array(bytes(damaged))
        except ImageError:
            refused += 1
    assert refused > 5
    assert capfd.readouterr() == ("", "")


def directory(tags: list[tuple[int, int, int, int]], *, big: bool, order: str, following: int = 0) -> bytes:
    """The start of a TIFF with one directory of tags: number, type, count, value."""
    mark = b"II" if order == "<" else b"MM"
    if big:
        head = mark + struct.pack(order + "HHHQQ", 43, 8, 0, 16, len(tags))
        entries = [struct.pack(order + "HHQQ", *tag) for tag in tags]
        return head + b"".join(entries) + struct.pack(order + "Q", following)
    head = mark + struct.pack(order + "HIH", 42, 8, len(tags))
    return head + b"".join(struct.pack(order + "HHII", *tag) for tag in tags) + struct.pack(order + "I", following)


SIDES = [(256, 4, 1, 16), (257, 4, 1, 16)]
HEAVY = {
    "two tile widths": ([*SIDES, (322, 4, 2, 8), (323, 4, 1, 2**30)], "tag 322 has 2 values"),
    "two widths": ([(256, 4, 2, 8), SIDES[1]], "tag 256 has 2 values"),
    "ten million strips": ([*SIDES, (273, 4, 10_000_000, 8)], "more than 50,000 strips or tiles"),
    "ten million strips in bytes": ([*SIDES, (273, 1, 10_000_000, 8)], "more than 50,000 strips or tiles"),
    "a long list in another tag": ([*SIDES, (33_550, 12, 10_000_000, 8)], "tags of more than 262,144 numbers"),
    "tags that share their bytes": ([(40_000 + number, 7, 2**19, 8) for number in range(4)], "more than the file"),
}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("name", HEAVY)
def test_heavy_directories_are_refused_before_they_are_read(name: str, big: bool, order: str) -> None:
    tags, message = HEAVY[name]
    content = directory(tags, big=big, order=order)
    for read in (read_array, read_image):
        with pytest.raises(ImageError, match=message):
            read(content)


def pages(tags: list[tuple[int, int, int, int]], count: int) -> bytes:
    """A TIFF of pages with the same tags."""
    page = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    links = [8 + (number + 1) * (len(page) + 4) for number in range(count - 1)] + [0]
    return b"II*\0" + struct.pack("<I", 8) + b"".join(page + struct.pack("<I", link) for link in links)


@pytest.mark.parametrize("read", [read_array, read_image])
def test_limits_hold_for_all_pages_together(read: Callable[[bytes], object]) -> None:
    """Pages may share a table of strips, so a file of some kilobytes could ask for millions."""
    for tags, count, message in (
        ([*SIDES, (273, 4, 20_000, 8)], 3, "more than 50,000 strips or tiles"),
        ([*SIDES, (324, 4, 20_000, 8)], 3, "more than 50,000 strips or tiles"),
        ([*SIDES, (279, 4, 100_000, 8)], 3, "tags of more than 262,144 numbers"),
        ([(40_000, 3, 1, 0)] * 1000, 101, "more than 100,000 tags"),
        ([(40_000, 7, 2**19, 8)], 4, "more than the file"),
        (SIDES, 4097, "more than 4096 pages"),
    ):
        with pytest.raises(ImageError, match=message):
            read(pages(tags, count))


def test_a_loop_of_pages_is_refused_at_its_first_turn() -> None:
    content = directory([(40_000, 3, 1, 0)] * 4000, big=False, order="<", following=8)  # the next page is this one
    with pytest.raises(ImageError, match="its pages form a loop"):
        read_array(content)


def test_a_long_colour_profile_is_no_fault(values: np.ndarray) -> None:
    levels = values[..., 0].astype(np.uint8)
    content = tiff(levels, extratags=[(34_675, 7, 300_000, bytes(300_000), True)])
    assert np.array_equal(read_array(content)[..., 0], levels)
