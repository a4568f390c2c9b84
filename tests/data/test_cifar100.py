"""CIFAR-100 in both layouts, and pickles that would run code (fault 1)."""

import io
import json
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from swin_core.data.cifar100 import cifar100
from swin_core.errors import DataError
from tests.fixtures.images import COARSE, FINE, one_line, small_cifar, write_hub


@pytest.fixture
def small() -> dict[str, np.ndarray]:
    return small_cifar()


def write_original(folder: Path, small: dict[str, np.ndarray], keys: type = bytes) -> None:
    """The layout of cifar-100-python, with byte strings as Python 2 wrote them, or with text."""

    def text(value: str) -> object:
        return value.encode() if keys is bytes else value

    folder.mkdir(parents=True)
    rows = small["pixels"].transpose(0, 3, 1, 2).reshape(len(small["pixels"]), -1)
    content = {
        text("filenames"): [text(f"{i:02}.png") for i in range(len(rows))],
        text("batch_label"): text("training batch 1 of 1"),
        text("fine_labels"): small["fine"].tolist(),
        text("coarse_labels"): small["coarse"].tolist(),
        text("data"): np.ascontiguousarray(rows),
    }
    meta = {text("fine_label_names"): [*map(text, FINE)], text("coarse_label_names"): [*map(text, COARSE)]}
    for split in ("train", "test"):
        (folder / split).write_bytes(pickle.dumps(content, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))


LAYOUTS = {
    "cifar100": write_hub,
    "cifar100/cifar100": write_hub,
    ".": write_hub,
    "cifar-100-python": write_original,
    "cifar100/../": write_original,
}


@pytest.mark.parametrize("place", LAYOUTS)
def test_both_layouts_of_cifar100_give_the_same(place: str, small: dict[str, np.ndarray], tmp_path: Path) -> None:
    root = tmp_path / "data"
    LAYOUTS[place](root / place if place != "cifar100/../" else root, small)
    dataset = cifar100(root, "test")
    assert (dataset.name, dataset.split, len(dataset)) == ("cifar100", "test", 30)
    assert (dataset.classes, dataset.coarse_classes) == (FINE, COARSE)
    assert dataset.labels.dtype == np.int64
    np.testing.assert_array_equal(dataset.labels, small["fine"])
    np.testing.assert_array_equal(dataset.coarse_labels, small["coarse"])
    assert dataset.names == tuple(f"{i:02}.png" for i in range(30))
    np.testing.assert_array_equal(dataset.array(), small["pixels"])
    for index in (0, 29):
        assert dataset.image(index).mode == "RGB"
        np.testing.assert_array_equal(np.asarray(dataset.image(index)), small["pixels"][index])


def test_the_original_layout_with_text_keys(small: dict[str, np.ndarray], tmp_path: Path) -> None:
    write_original(tmp_path / "cifar-100-python", small, keys=str)
    np.testing.assert_array_equal(cifar100(tmp_path).array(), small["pixels"])


class _RunsCode:
    """Unpickled by a careless reader, it makes the folder that it names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused_and_nothing_ran(small: dict[str, np.ndarray], tmp_path: Path) -> None:
    write_original(tmp_path / "cifar-100-python", small)
    proof = tmp_path / "code ran"
    for name in ("train", "meta"):
        for content in (_RunsCode(proof), {b"data": _RunsCode(proof)}):
            path = tmp_path / "cifar-100-python" / name
            original = path.read_bytes()
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                path.write_bytes(pickle.dumps(content, protocol))
                with pytest.raises(DataError, match=r"refused.*mkdir") as error:
                    cifar100(tmp_path)
                one_line(error)
                assert not proof.exists()
            path.write_bytes(original)
    # The proof proves something only if a careless reader, which calls this, would have run the code.
    function, arguments = _RunsCode(proof).__reduce__()
    function(*arguments)
    assert proof.exists()


MALFORMED = {
    "empty": b"",
    "text": b"just some text",
    "cut short": pickle.dumps({b"data": list(range(100))}, 2)[:-20],
    "not a dictionary": pickle.dumps([1, 2], 2),
    "no columns": pickle.dumps({b"data": 3}, 2),
    "objects in the array": pickle.dumps({b"data": np.array([None, {}], dtype=object)}, 2),
    "floats": pickle.dumps({b"data": np.zeros((1, 3072))}, 2),
    "huge memo": b"\x80\x02]r\xff\xff\xff\x7f.",
    "huge bytes": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little"),
    "other encoding": b"\x80\x02c_codecs\nencode\nX\x01\0\0\0aX\x03\0\0\0rot\x86R.",
    "global by attribute": b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
    "build on nothing": b"\x80\x02}}b.",
    "array without a state": b"\x80\x02}X\x04\0\0\0datacnumpy\nndarray\n)Rs.",
}


@pytest.mark.parametrize("kind", MALFORMED)
@pytest.mark.parametrize("name", ["train", "meta"])
def test_malformed_pickles_raise_one_line(kind: str, name: str, small: dict[str, np.ndarray], tmp_path: Path) -> None:
    write_original(tmp_path / "cifar-100-python", small)
    (tmp_path / "cifar-100-python" / name).write_bytes(MALFORMED[kind])
    with pytest.raises(DataError) as error:
        cifar100(tmp_path)
    assert name in one_line(error)


def test_pixels_of_another_type_or_order_are_refused(small: dict[str, np.ndarray], tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    write_original(folder, small)
    rows = small["pixels"].reshape(30, -1)
    columns = {"filenames": [str(i) for i in range(30)], "fine_labels": [0] * 30, "coarse_labels": [0] * 30}
    for data in (rows.view(np.int8), np.asfortranarray(rows)):
        (folder / "train").write_bytes(pickle.dumps({**columns, "data": data}, 2))
        with pytest.raises(DataError, match="unsigned bytes") as error:
            cifar100(tmp_path)
        one_line(error)


def test_an_encoding_that_no_pickle_of_bytes_needs_is_refused(small: dict[str, np.ndarray], tmp_path: Path) -> None:
    write_original(tmp_path / "cifar-100-python", small)
    (tmp_path / "cifar-100-python" / "train").write_bytes(MALFORMED["other encoding"])
    with pytest.raises(DataError, match=r"refused.*encoding rot"):
        cifar100(tmp_path)


def test_malformed_columns_raise_one_line(small: dict[str, np.ndarray], tmp_path: Path) -> None:
    outside, short = small | {"fine": small["fine"] + 1}, small | {"coarse": small["coarse"][:-1]}
    for number, wrong in enumerate((outside, short)):
        write_original(tmp_path / str(number) / "cifar-100-python", wrong)
        with pytest.raises(DataError) as error:
            cifar100(tmp_path / str(number))
        one_line(error)
    write_hub(tmp_path / "hub" / "cifar100", outside)
    with pytest.raises(DataError, match="label outside its 3 classes"):
        cifar100(tmp_path / "hub")


def test_malformed_parquet_raises_one_line(small: dict[str, np.ndarray], tmp_path: Path) -> None:
    write_hub(tmp_path / "cifar100", small, shards=1)
    path = tmp_path / "cifar100" / "train-00000-of-00001.parquet"
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:1000], whole[:-9]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="swinlens data") as error:
            cifar100(tmp_path)
        one_line(error)
    for table in (pa.table({"img": [b"a"]}), pq.read_table(io.BytesIO(whole)).replace_schema_metadata({})):
        pq.write_table(table, path)
        with pytest.raises(DataError) as error:
            cifar100(tmp_path)
        one_line(error)


def test_shards_of_different_classes_are_refused(small: dict[str, np.ndarray], tmp_path: Path) -> None:
    write_hub(tmp_path / "cifar100", small)
    path = tmp_path / "cifar100" / "train-00001-of-00002.parquet"
    table = pq.read_table(path)
    names = {"fine_label": {"names": FINE[::-1]}, "coarse_label": {"names": COARSE}}
    metadata = {"huggingface": json.dumps({"info": {"features": names}})}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(DataError, match="have different classes") as error:
        cifar100(tmp_path)
    one_line(error)


def test_real_cifar100(data_root: Path) -> None:
    start = time.perf_counter()
    dataset = cifar100(data_root, "test")
    pixels = dataset.array()
    assert time.perf_counter() - start < 60
    assert pixels.shape == (10_000, 32, 32, 3)
    assert pixels.dtype == np.uint8
    assert (len(dataset.classes), len(dataset.coarse_classes)) == (100, 20)
    np.testing.assert_array_equal(np.bincount(dataset.labels), np.full(100, 100))
    np.testing.assert_array_equal(np.bincount(dataset.coarse_labels), np.full(20, 500))
    # The published mean of the data set, of which the test split's differs by less than 0.01.
    np.testing.assert_allclose(pixels.mean(axis=(0, 1, 2)) / 255, (0.5071, 0.4866, 0.4409), atol=0.01)
    # Each class lies in one superclass, and a file is named after its class or a subclass of it.
    pairs = set(zip(dataset.labels.tolist(), dataset.coarse_labels.tolist(), strict=True))
    assert len(pairs) == 100
    assert dataset.coarse_classes[dict(pairs)[dataset.classes.index("maple_tree")]] == "trees"
    assert len(cifar100(data_root, "train")) == 50_000
