"""The two layouts in which CIFAR-100 (Krizhevsky 2009) is spread: the hub's parquet and `cifar-100-python`.

The original layout is made of pickles. A pickle can run code when it is loaded, so the reader here builds
nothing but dictionaries, lists, bytes, numbers and inert stand-ins for arrays, and refuses a file that asks
for more.
"""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swin_core.errors import DataError

__all__ = ["CifarSplit", "find_layout", "read_parquet", "read_pickles"]

_SIDE = 32  # pixels
_LARGEST_PICKLE = 400 * 2**20  # bytes; the original training file has 155 MB
_ADVICE = "download the data set again with swinlens data"


class CifarSplit(NamedTuple):
    """One split as it lies on disk: images still encoded, or pixels `(N, 32, 32, 3)`, uint8."""

    names: tuple[str, ...]
    pictures: Sequence[bytes] | np.ndarray
    labels: np.ndarray
    coarse_labels: np.ndarray
    classes: tuple[str, ...]
    coarse_classes: tuple[str, ...]


def find_layout(root: Path, split: str) -> list[Path]:
    """Find the files of `split` below `root`: parquet shards in order, or one file of the original layout.

    Raises `DataError` if neither layout is there.
    """
    folders = (root / "cifar100", root / "cifar100" / "cifar100", root / "cifar-100-python", root)
    for folder in folders:
        if shards := sorted(folder.glob(f"{split}-*.parquet")):
            return shards
        if (folder / split).is_file() and (folder / "meta").is_file():
            return [folder / split]
    raise DataError(f"CIFAR-100 ({split}) is not in {root}; run swinlens data cifar100, or set SWIN_DATA_ROOT")


def read_parquet(shards: Sequence[Path]) -> CifarSplit:
    """Read the hub's layout: columns `img` (struct of bytes and path), `fine_label`, `coarse_label`.

    Class names come from the schema's `huggingface` metadata. Raises `DataError` if a shard does not fit.
    """
    try:
        tables = [pq.read_table(shard, columns=["img", "fine_label", "coarse_label"]) for shard in shards]
        table = pa.concat_tables(tables)
        features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        classes = tuple(features["fine_label"]["names"])
        coarse_classes = tuple(features["coarse_label"]["names"])
        cells = table.column("img").combine_chunks()
        pictures = cells.field("bytes").to_pylist()
        names = tuple(str(name) for name in cells.field("path").to_pylist())
        labels = table.column("fine_label").to_numpy().astype(np.int64)
        coarse_labels = table.column("coarse_label").to_numpy().astype(np.int64)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{shards[0]} is not CIFAR-100 in the hub's parquet layout ({_first_line(error)}); {_ADVICE}"
        ) from error
    split = CifarSplit(names, pictures, labels, coarse_labels, classes, coarse_classes)
    return _checked(split, shards[0])


def read_pickles(path: Path) -> CifarSplit:
    """Read the original `cifar-100-python` layout: `path` is its `train` or `test`; `meta` lies beside it.

    Rows are 3,072 bytes, channel by channel. Raises `DataError` if a file is malformed or asks to run code.
    """
    content, meta = _load(path), _load(path.with_name("meta"))
    try:
        data = content["data"].to_numpy()
        pictures = data.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
        split = CifarSplit(
            names=tuple(_text(name) for name in content["filenames"]),
            pictures=np.ascontiguousarray(pictures),
            labels=np.array(content["fine_labels"], dtype=np.int64),
            coarse_labels=np.array(content["coarse_labels"], dtype=np.int64),
            classes=tuple(_text(name) for name in meta["fine_label_names"]),
            coarse_classes=tuple(_text(name) for name in meta["coarse_label_names"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path} or the meta beside it is not of CIFAR-100 ({_first_line(error)}); {_ADVICE}"
        ) from error
    return _checked(split, path)


def _checked(split: CifarSplit, path: Path) -> CifarSplit:
    count = len(split.labels)
    if not count == len(split.pictures) == len(split.names) == len(split.coarse_labels) or count == 0:
        raise DataError(f"{path} holds columns of different lengths, or none; {_ADVICE}")
    for labels, classes in ((split.labels, split.classes), (split.coarse_labels, split.coarse_classes)):
        if labels.ndim != 1 or labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(f"{path} holds a label outside its {len(classes)} classes; {_ADVICE}")
    return split


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
            raise DataError(f"{path} is far larger than a file of CIFAR-100; {_ADVICE}")
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} is refused: a pickle of CIFAR-100 holds arrays and lists only ({error}); {_ADVICE}"
        ) from error
    except (OSError, EOFError, MemoryError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error or type(error).__name__}); {_ADVICE}") from error
    except (AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path} is not a pickle of CIFAR-100; {_ADVICE}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a pickle of CIFAR-100; {_ADVICE}")
    return {_text(key): value for key, value in content.items()}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
