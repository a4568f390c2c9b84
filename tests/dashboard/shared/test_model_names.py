"""Names of models: names that lead out of the project are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard.shared import model_names as choices
from swin_core.errors import ModelError


@pytest.mark.parametrize(
    "name",
    ["../secret.pth", "/etc/passwd", "runs/../../x.pth", "a\0b", "~/x.pth", "--x; touch p", "a" * 500, "", "timm/../x"],
)
def test_names_that_lead_elsewhere_are_refused_before_anything_is_opened(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[Path] = []

    def exists(path: Path) -> bool:
        looked_at.append(path)
        return True

    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", exists)
        with pytest.raises(ModelError) as error:
            choices.model_source(name)
    assert not looked_at
    assert "\n" not in str(error.value)


def test_a_link_out_of_the_project_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside.pth"
    root.mkdir()
    outside.write_bytes(b"x")
    (root / "link.pth").symlink_to(outside)
    (root / "inside.pth").write_bytes(b"x")
    monkeypatch.setattr(choices, "ROOT", root)
    assert choices.model_source("inside.pth") == str(root / "inside.pth")
    with pytest.raises(ModelError):
        choices.model_source("link.pth")
