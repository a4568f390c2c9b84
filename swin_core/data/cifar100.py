"""CIFAR-100 (Krizhevsky 2009) in its two layouts: parquet files of the Hugging Face hub, and `cifar-100-python`.

The original layout consists of pickles, which can run code when they are loaded. The reader here builds only
dictionaries, lists, bytes, numbers and inert stand-ins for arrays, and refuses a file that asks for more.
"""

import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from swin_core.data.dataset import DataSet
from swin_core.data.folders import read_encoded
from swin_core.data.public import Archive, PublicDataSet
from swin_core.errors import DataError

_SIDE = 32  # pixels
_PART = 4096  # rows of a parquet file that are read at once
_LARGEST_PICKLE = 400 * 2**20  # bytes; the original training file has 155 MB
_ADVICE = "download the data set again with swinlens data"


class _Columns(NamedTuple):
    """One split as stored: images still encoded, or pixels `(N, 32, 32, 3)`, uint8."""

    names: tuple[str, ...]
    images: Sequence[bytes] | np.ndarray
    labels: np.ndarray
    coarse_labels: np.ndarray
    classes: tuple[str, ...]
    coarse_classes: tuple[str, ...]


def cifar100(root: str | os.PathLike[str] | None = None, split: str = "train") -> DataSet:
    """Open a split of CIFAR-100: 32-pixel images of 100 classes in 20 superclasses.

    Args:
        root: the data root; the files lie in it, in its `cifar100` or in its `cifar-100-python`, in either layout.
        split: "train" (50,000 images) or "test" (10,000).

    Raises:
        ConfigError: another split.
        DataError: the files are missing or malformed, or would run code.
    """
    files = DATA_SET.locate(root, split)
    encoded = files[0].suffix == ".parquet"
    columns = _read_parquet(files) if encoded else _read_pickles(files[0])
    return DataSet(
        name="cifar100",
        split=split,
        classes=columns.classes,
        labels=columns.labels,
        names=columns.names,
        sources=columns.images,
        read=read_encoded if encoded else _read_pixels,
        coarse_labels=columns.coarse_labels,
        coarse_classes=columns.coarse_classes,
    )


def find_layout(root: Path, split: str) -> list[Path]:
    """Return the files of `split` in a data root: parquet shards in order, one file of the original layout, or none."""
    folders = (root / "cifar100", root / "cifar100" / "cifar100", root / "cifar-100-python", root)
    for folder in folders:
        if shards := sorted(folder.glob(f"{split}-*.parquet")):
            return shards
        if (folder / split).is_file() and (folder / "meta").is_file():
            return [folder / split]
    return []


# The checksum is the one that Keras has for this file.
DATA_SET = PublicDataSet(
    name="cifar100",
    title="CIFAR-100",
    subject="things",
    splits=("test", "train"),
    open=cifar100,
    find=find_layout,
    archive=Archive(
        name="cifar100",
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        size=169_001_437,
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        folder="cifar-100-python",
        unpacked=190_000_000,
    ),
)


def _read_pixels(source: np.ndarray, shorter_side: int | None) -> Image.Image:
    return Image.fromarray(source)


def _read_parquet(shards: Sequence[Path]) -> _Columns:
    """Read the hub's layout: columns `img` (struct of bytes and path), `fine_label`, `coarse_label`.

    Class names come from the schema's `huggingface` metadata.
    """
    images: list[bytes] = []
    names: list[str] = []
    labels: list[np.ndarray] = []
    coarse_labels: list[np.ndarray] = []
    classes: list[tuple[tuple[str, ...], ...]] = []  # of each file: the classes and the superclasses
    try:
        for shard in shards:
            # In parts, as they are needed: a whole table and its values take three times the memory of the images.
            with pq.ParquetFile(shard, pre_buffer=False) as file:
                features = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
                classes.append(tuple(tuple(features[name]["names"]) for name in ("fine_label", "coarse_label")))
                for part in file.iter_batches(_PART, columns=["img", "fine_label", "coarse_label"]):
                    images += part["img"].field("bytes").to_pylist()
                    names += map(str, part["img"].field("path").to_pylist())
                    labels.append(part["fine_label"].to_numpy(zero_copy_only=False))
                    coarse_labels.append(part["coarse_label"].to_numpy(zero_copy_only=False))
        fine, coarse = (np.concatenate(column).astype(np.int64) for column in (labels, coarse_labels))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{shards[0]} is not CIFAR-100 in the hub's parquet layout ({_first_line(error)}); {_ADVICE}."
        ) from error
    pa.default_memory_pool().release_unused()
    if len(set(classes)) > 1:
        raise DataError(f"the files of {shards[0].parent} have different classes; {_ADVICE}.")
    return _checked(_Columns(tuple(names), images, fine, coarse, *classes[0]), shards[0])


def _read_pickles(path: Path) -> _Columns:
    """Read the original layout: `path` is `train` or `test`, with `meta` beside it.

    A row has 3,072 bytes, channel by channel.
    """
    content, meta = _load(path), _load(path.with_name("meta"))
    try:
        data = content["data"].to_numpy()
        images = data.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
        columns = _Columns(
            names=tuple(_text(name) for name in content["filenames"]),
            images=np.ascontiguousarray(images),
            labels=np.array(content["fine_labels"], dtype=np.int64),
            coarse_labels=np.array(content["coarse_labels"], dtype=np.int64),
            classes=tuple(_text(name) for name in meta["fine_label_names"]),
            coarse_classes=tuple(_text(name) for name in meta["coarse_label_names"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path} or the meta beside it is not of CIFAR-100 ({_first_line(error)}); {_ADVICE}."
        ) from error
    return _checked(columns, path)


def _checked(columns: _Columns, path: Path) -> _Columns:
    count = len(columns.labels)
    if count == 0 or any(len(column) != count for column in columns[:4]):
        raise DataError(f"{path} holds columns of different lengths, or none; {_ADVICE}.")
    for labels, classes in ((columns.labels, columns.classes), (columns.coarse_labels, columns.coarse_classes)):
        if labels.ndim != 1 or labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(f"{path} holds a label outside its {len(classes)} classes; {_ADVICE}.")
    return columns


class _Dtype:
    """Stand-in for `numpy.dtype`: remembers the type's code only."""

    def __init__(self, code: object = "", *flags: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Byte order and field layout: of no meaning for single bytes."""


class _Array:
    """Stand-in for `numpy.ndarray`, as a crafted array state could corrupt memory; it accepts bytes only."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def to_numpy(self) -> np.ndarray:
        _, shape, dtype, column_major, raw = self.state
        if not isinstance(dtype, _Dtype) or dtype.code not in ("u1", "|u1") or column_major:
            raise ValueError("pixels are not unsigned bytes, row by row")
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        return np.frombuffer(raw, dtype=np.uint8).reshape(shape)


def _reconstruct(*_arguments: object) -> _Array:
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    # Protocol 2 writes bytes as a call of codecs.encode with this one encoding.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Builds plain containers and the stand-ins above; every other name is refused before it is imported."""

    _ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_PICKLE:
            raise DataError(f"{path} is far larger than a file of CIFAR-100; {_ADVICE}.")
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} is refused: a pickle of CIFAR-100 holds arrays and lists only ({error}); {_ADVICE}."
        ) from error
    except (OSError, EOFError, MemoryError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error or type(error).__name__}); {_ADVICE}.") from error
    except (AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path} is not a pickle of CIFAR-100; {_ADVICE}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a pickle of CIFAR-100; {_ADVICE}.")
    return {_text(key): value for key, value in content.items()}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
