"""Refuse pickles that inflate: a few bytes may copy a large list, tuple or text that the pickle holds once."""

import pickletools
from typing import BinaryIO

_MAX_BYTES = 2**30
"""Most bytes that the copies of a pickle may take."""
_MAX_PICKLE = 16 * 2**20
"""Longest pickle: the numbers of tensors lie outside of it."""
_ITEM_BYTES = 64
"""Bytes of an item of a container, in the costliest one, a dictionary."""
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_FILLS = {"APPENDS", "SETITEMS", "ADDITEMS", "TUPLE", "LIST", "DICT", "FROZENSET"}


def inflates(file: BinaryIO, programs: int = 1) -> bool:
    """Return whether loading could take far more memory than the file has bytes.

    A value that is fetched from the memo may be copied by the function that gets it, so each fetch counts as a copy.

    Args:
        file: starts with a pickle; read as far as the pickles go.
        programs: number of pickles.

    Raises:
        ValueError: it is no pickle.
    """
    start, total, items, marks = file.tell(), 0, 0, [0]
    sizes: dict[object, int | None] = {}  # of what is in the memo; None for containers that may still grow
    for _ in range(programs):
        size: int | None = 0
        for code, argument, _ in pickletools.genops(file):
            name = code.name
            if name in _PUTS:
                sizes[len(sizes) if name == "MEMOIZE" else argument] = size
                continue
            size = None
            if name in _GETS:
                known = sizes.get(argument)
                total += _ITEM_BYTES * items if known is None else known
                size = known
            elif isinstance(argument, str | bytes | bytearray):
                if name in ("GLOBAL", "INST") and argument.endswith("bytearray"):  # type: ignore[arg-type]
                    return True
                size = 0 if name in ("GLOBAL", "INST") else len(argument)
                if argument == "bytearray":
                    return True
            elif name == "MARK":
                marks.append(0)
            elif name in _FILLS and len(marks) > 1:
                count = marks.pop()
                items += count
                size = _ITEM_BYTES * count if name in ("TUPLE", "FROZENSET") else None
            elif name in ("APPEND", "SETITEM"):
                items += 1
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                size = 3 * _ITEM_BYTES
            marks[-1] += 1
            if total > _MAX_BYTES or file.tell() - start > _MAX_PICKLE:
                return True
    return False
