"""Uploaded weights files are kept under safe names, and none is replaced."""

import re
from pathlib import Path

import pytest

from swin_core.errors import ModelError
from swin_core.zoo.kept_models import keep_weights, kept_models

SAFE = re.compile(r"models/\w[\w.+-]*", re.ASCII)


def test_an_upload_is_kept_and_listed(tmp_path: Path) -> None:
    assert keep_weights(tmp_path, "Flowers.PTH", b"abc") == "models/Flowers.pth"
    assert (tmp_path / "models" / "Flowers.pth").read_bytes() == b"abc"
    (tmp_path / "models" / "Flowers.pth.card.toml").write_text("")
    (tmp_path / "models" / "notes.py").write_text("")
    (tmp_path / "models" / "backup.tar").write_bytes(b"notes.py")
    (tmp_path / "models" / "saved").mkdir()
    (tmp_path / "models" / "saved" / "config.json").write_text("{}")
    assert kept_models(tmp_path) == ["models/Flowers.pth", "models/saved"]


def test_no_file_is_replaced(tmp_path: Path) -> None:
    assert keep_weights(tmp_path, "a.pth", b"first") == "models/a.pth"
    assert keep_weights(tmp_path, "a.pth", b"second") == "models/a-2.pth"
    assert keep_weights(tmp_path, "a.pth", memoryview(b"second")) == "models/a-2.pth"  # the same content
    assert keep_weights(tmp_path, "a.pth", b"third") == "models/a-3.pth"
    assert (tmp_path / "models" / "a.pth").read_bytes() == b"first"


@pytest.mark.parametrize(
    "name",
    ["../../evil.pth", "/etc/evil.pth", ".hidden.pth", "..pth", "a b;c.pth", "日本.pth", "x" * 300 + ".pth", "\0.pth"],
)
def test_names_stay_in_the_folder_and_are_names_of_models(tmp_path: Path, name: str) -> None:
    kept = keep_weights(tmp_path, name, b"abc")
    assert SAFE.fullmatch(kept)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / kept]


@pytest.mark.parametrize("name", ["model.py", "weights", "a.pth.exe", ""])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="is not named like a weights file"):
        keep_weights(tmp_path, name, b"abc")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("no folder")
    with pytest.raises(ModelError, match=r"'a\.pth' could not be kept in models"):
        keep_weights(tmp_path, "a.pth", b"abc")
    assert kept_models(tmp_path) == []
