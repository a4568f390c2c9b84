"""Exit status and messages of the commands after success, an error, and Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import bundle, figures
from swin_core.commands import evaluate, explain, shell, trust
from swin_core.errors import ConfigError


def stopped(*_: object, **__: object) -> int:
    raise KeyboardInterrupt


def refused() -> int:
    raise ConfigError("This does not go: try that.")


@pytest.mark.parametrize(
    ("work", "status", "said"),
    [(lambda: 0, 0, ""), (lambda: 3, 3, ""), (refused, 1, "a.py: This does not go: try that.\n"), (stopped, 130, None)],
)
def test_a_command_ends_with_a_status_and_one_line(
    work: Callable[[], int], status: int, said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell.run("a.py", work) == status
    assert capsys.readouterr().err == ("a.py: stopped.\n" if said is None else said)


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        shell.run("a.py", lambda: 1 // 0)


def test_a_result_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory"):
        shell.write_json(tmp_path / "missing" / "result.json", {})


@pytest.mark.parametrize(
    ("script", "work", "given"),
    [
        (bundle, "check_target", ["runs/one", "name", "--description", "one"]),
        (evaluate, "evaluate_named", ["swin_micro_flowers", "--data", "flowers"]),
        (explain, "load_or_missing", ["assets/samples/rose.jpg", "--models", "a", "--out", "grid.png"]),
        (figures, "open_split", ["sheet", "flowers", "--out", "sheet.png"]),
        (trust, "rank", ["swin_micro_flowers", "--data", "flowers"]),
    ],
)
def test_a_script_that_is_stopped_says_so(
    script: object, work: str, given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, work, stopped)
    monkeypatch.setattr("sys.argv", ["script", *given])
    assert script.main() == 130  # type: ignore[attr-defined]
    assert capsys.readouterr().err.endswith(": stopped.\n")
