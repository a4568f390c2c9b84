"""Pickles that would take far more memory than they have bytes are refused before they are loaded."""

from __future__ import annotations

import io
import struct
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from swin_core.errors import WeightsError
from swin_core.weights.unpickle import unpickle


def archive(program: bytes, path: Path) -> Path:
    """Write a file of `torch.save` whose pickle is `program`."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in (("data.pkl", program), ("byteorder", b"little"), ("version", b"3\n")):
            file.writestr(f"archive/{name}", content)
    return path


TUPLE = b"(" + b"".join(b"M" + struct.pack("<H", number) for number in range(1000)) + b"tq\1"
LIST = b"](" + b"".join(b"M" + struct.pack("<H", number) for number in range(1000)) + b"eq\1"
COPIED = b"h\0h\1\x85R"


@pytest.mark.parametrize(
    "program",
    [
        b"c__builtin__\nbytearray\n(J\xff\xff\xff\x7ftR.",
        *(
            b"\x80\x02" + function + b"q\0" + value + b"](" + COPIED * 300_000 + b"e."
            for function in (b"ctorch\nSize\n", b"ccollections\nCounter\n", b"c__builtin__\nset\n")
            for value in (TUPLE, LIST)
        ),
        b"\x80\x02c_codecs\nencode\nq\0X\0\0\x10\0" + b"a" * 2**20 + b"q\1](" + COPIED * 5000 + b"e.",
    ],
    ids=[
        "bytearray",
        *(f"{name} of a {kind}" for name in ("Size", "Counter", "set") for kind in ("tuple", "list")),
        "text",
    ],
)
def test_what_inflates_is_refused(program: bytes, tmp_path: Path) -> None:
    message = r"'w.pth' would take far more memory than it has bytes and was refused; in the program"
    with pytest.raises(WeightsError, match=message):
        unpickle(archive(program, tmp_path / "w.pth"))
    (tmp_path / "w.pth").write_bytes(b"\x80\x02M\1\0.\x80\x02M\1\0.\x80\x02M\1\0." + program)  # as old versions wrote
    with pytest.raises(WeightsError, match=r"'w.pth' (would take|is cut short)"):
        unpickle(tmp_path / "w.pth")


@pytest.mark.parametrize("new", [True, False])
def test_a_large_checkpoint_is_read(new: bool, tmp_path: Path) -> None:
    """Its optimizer, shared tensors, counters, shapes, and the names of many classes."""
    model = torch.nn.ModuleList([torch.nn.Linear(3, 3) for _ in range(300)])
    optimizer = torch.optim.AdamW(model.parameters())
    sum(layer(torch.ones(3)).sum() for layer in model).backward()
    optimizer.step()
    state = {
        "state_dict": model.state_dict(),
        "state_dict_ema": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "milestones": Counter(range(100)),
        "shapes": [value.shape for value in model.state_dict().values()],
        "labels": [f"class {number}" for number in range(20_000)],
        "again": list(model.state_dict().values()),
    }
    stream = io.BytesIO()
    torch.save(state, stream, _use_new_zipfile_serialization=new)
    (tmp_path / "large.pth").write_bytes(stream.getvalue())
    assert unpickle(tmp_path / "large.pth")["labels"] == state["labels"]
