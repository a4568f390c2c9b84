"""`read_report`: damaged, edited and malicious files are one-line errors."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swin_core.errors import ConfigError, ReportError
from swin_core.figures import report_json
from swin_core.figures.files import encode, save
from swin_core.figures.grid import Grid
from swin_core.figures.report_json import checksum
from swin_core.reports import read
from swin_core.reports.read import read_report
from tests.fixtures.reports import drawn, small_classifier

__all__ = ["drawn", "small_classifier"]

pytestmark = pytest.mark.usefixtures("one_thread")


def cell_of(content: dict[str, Any]) -> dict[str, Any]:
    cell: dict[str, Any] = content["rows"][0]["cells"][0]
    return cell


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a report and renew its checksum, as an attacker would."""
    content = json.loads(file.read_text())
    change(content)
    content["sha256"] = checksum(content)
    file.write_text(json.dumps(content))


def png(size: tuple[int, int]) -> str:
    stream = io.BytesIO()
    Image.new("1", size).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no rows": lambda content: content.update(rows=[]),
    "rows of another type": lambda content: content.update(rows={"a": 1}),
    "a row of another type": lambda content: content.update(rows=[7]),
    "too few cells": lambda content: content["rows"][0].update(cells=[]),
    "too many columns": lambda content: content.update(columns=["a"] * 10_000),
    "another format": lambda content: content.update(format=2),
    "a format that only seems right": lambda content: content.update(format=True),
    "another program": lambda content: content.update(program="other"),
    "a negative image": lambda content: content["rows"][0].update(picture=-1),
    "an image that is not there": lambda content: content["rows"][0].update(picture=3),
    "an image that is none": lambda content: content.update(pictures=["AAAA"]),
    "an image that is no base64": lambda content: content.update(pictures=["***"]),
    "an image that is a number": lambda content: content.update(pictures=[5]),
    "an image of 400 megapixels": lambda content: content.update(pictures=[png((20_000, 20_000))]),
    "images that are too large together": lambda content: content.update(pictures=[png((9_000, 9_000))] * 3),
    "an unknown method": lambda content: cell_of(content).update(method="magic"),
    "a method of another type": lambda content: cell_of(content).update(method=["gradcam"]),
    "no hash": lambda content: cell_of(content).update(weights_hash="../../etc"),
    "a map of text": lambda content: cell_of(content).update(map=[["a"]]),
    "a map that is no rectangle": lambda content: cell_of(content).update(map=[[1.0], [1.0, 2.0]]),
    "an empty map": lambda content: cell_of(content).update(map=[[]]),
    "a map of huge numbers": lambda content: cell_of(content).update(map=[[10**400]]),
    "a map of lists": lambda content: cell_of(content).update(map=[[[1.0]]]),
    "no logits": lambda content: cell_of(content).pop("logits"),
    "no call": lambda content: cell_of(content).pop("call"),
    "a target that is no class": lambda content: cell_of(content)["call"].update(targets=[-1]),
    "a target of another type": lambda content: cell_of(content)["call"].update(targets=["0"]),
    "a layer that is not there": lambda content: cell_of(content)["call"].update(place=[5, 0]),
    "too many contrast classes": lambda content: cell_of(content)["call"].update(against=[1, 2]),
    "an opacity outside": lambda content: content["settings"].update(opacity=7),
    "an unknown colour map": lambda content: content["settings"].update(colormap="jet"),
    "trust that is a list": lambda content: cell_of(content).update(trust=[1]),
    "an endless title": lambda content: content["rows"][0].update(title="x" * 10**6),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_report_is_a_one_line_error(drawn: Grid, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "report.json"
    save(drawn, file)
    edit(file, DAMAGES[damage])
    with pytest.raises(ReportError) as error:
        read_report(file)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_truncated_edited_and_other_files_are_rejected(drawn: Grid, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    content = encode(drawn, "json")
    for length in (0, 1, 40, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(ReportError, match="not JSON"):
            read_report(file)
    digit = re.search(rb"0\.\d{5}(\d)", content)
    assert digit is not None
    place = digit.start(1)
    file.write_bytes(content[:place] + bytes([48 + (content[place] - 47) % 10]) + content[place + 1 :])
    with pytest.raises(ReportError, match="checksum"):
        read_report(file)
    for odd in (b"[" * 100_000, b"null", b"[]", b'{"program": "SwinLens", "format": NaN}', b"\xff\xfe", b"9" * 5000):
        file.write_bytes(odd)
        with pytest.raises(ReportError):
            read_report(file)
    for place_of in (tmp_path, tmp_path / "gone.json", Path("a\0b")):
        with pytest.raises(ReportError):
            read_report(place_of)


def test_random_bytes_never_end_in_a_traceback(drawn: Grid, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    content = bytearray(encode(drawn, "json"))
    draw = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(content)
        for place in draw.integers(0, len(broken), 3):
            broken[place] = draw.integers(0, 256)
        file.write_bytes(bytes(broken))
        if broken != content:
            with pytest.raises(ReportError):
                read_report(file)


def test_a_report_that_is_too_large_is_neither_written_nor_read(
    drawn: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encode(drawn, "json")
    (tmp_path / "report.json").write_bytes(content)
    monkeypatch.setattr(report_json, "BYTES_AT_MOST", len(content) - 1)
    monkeypatch.setattr(read, "BYTES_AT_MOST", len(content) - 1)
    with pytest.raises(ConfigError, match="MiB"):
        encode(drawn, "json")
    with pytest.raises(ReportError, match="MiB"):
        read_report(tmp_path / "report.json")
    monkeypatch.setattr(report_json, "PIXELS_AT_MOST", 70 * 60 - 1)
    with pytest.raises(ConfigError, match="pixels"):
        encode(drawn, "json")
