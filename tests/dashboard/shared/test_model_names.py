"""Names of models: names that lead out of the project are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard.shared import model_names as choices
from swin_core.errors import ModelError


@pytest.mark.parametrize(
    "name",
    [
        "../secret.pth",
        "/etc/passwd",
        "runs/../../x.pth",
        "timm/x@../w.pth",
        "torchvision/x@/etc/passwd",
        "../w.pth#model",
        "hf/../x",
        "a\0b",
        "~/x.pth",
        "--x; touch p",
        "a" * 500,
        "",
        "timm/../x",
    ],
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


def test_names_of_architectures_and_entries_reach_files_inside_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")
    monkeypatch.setattr(choices, "ROOT", tmp_path)
    file = tmp_path / "w.pth"
    assert choices.model_source("timm/resnet18@w.pth") == f"timm/resnet18@{file}"
    assert choices.model_source("torchvision/resnet18@w.pth#model_ema") == f"torchvision/resnet18@{file}#model_ema"
    assert choices.model_source("w.pth#state_dict") == f"{file}#state_dict"
    state = choices.weights_state("w.pth")
    assert state is not None
    assert choices.weights_state("timm/resnet18@w.pth") == choices.weights_state("w.pth#model") == state
    for name in ("hf/microsoft/resnet-50", "torchvision/resnet50", "timm/resnet50"):
        assert choices.model_source(name) == name
    for name in ("timm/resnet18@none.pth", "w.pth#a/../b", "hf/a@w.pth", "other/x@w.pth"):
        with pytest.raises(ModelError):
            choices.model_source(name)
