"""Exit status and messages of the commands after success, an error, and Ctrl-C."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from scripts import bundle, figures
from swin_core.commands import data, evaluate, explain, main, runs, shell, train, trust
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


@pytest.mark.parametrize(
    ("command", "work", "given"),
    [
        (evaluate, "evaluate_named", ["swin_micro_flowers", "--data", "flowers", "--json", "missing/result.json"]),
        (trust, "rank", ["swin_micro_flowers", "--data", "flowers", "--json", "missing/result.json"]),
        (explain, "load_or_missing", ["assets/samples/rose.jpg", "--models", "a", "--out", "missing/grid.png"]),
        (figures, "open_split", ["sheet", "flowers", "--out", "missing/sheet.png"]),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_before_the_work(
    command: Any, work: str, given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, work, stopped)
    monkeypatch.setattr("sys.argv", ["script", *given])
    assert command.main() == 1
    assert capsys.readouterr().err.endswith("cannot be written: No such file or directory; name another file.\n")


@pytest.mark.parametrize(
    ("command", "script", "name"),
    [
        (data, "prepare_data", "data"),
        (evaluate, "evaluate", "evaluate"),
        (explain, "explain", "explain"),
        (runs, "runs", "runs"),
        (train, "train", "train"),
        (trust, "trust", "trust"),
    ],
)
def test_the_usage_names_the_program_that_runs(
    command: Any, script: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for program, shown in ((f"scripts/{script}.py", f"{script}.py"), ("/bin/swinlens", f"swinlens {name}")):
        monkeypatch.setattr("sys.argv", [program, "--help"])
        with pytest.raises(SystemExit):
            command.main(["--help"])
        assert capsys.readouterr().out.startswith(f"usage: {shown} ")


@pytest.mark.parametrize("given", ["-1", "two", "1.5"])
def test_a_number_of_restarts_is_a_count(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command, arguments in ((train, ["custom"]), (runs, ["resume", "a"])):
        with pytest.raises(SystemExit):
            command.parser().parse_args([*arguments, "--max-restarts", given])
        assert f"argument --max-restarts: {given!r} is not a whole number from 0 up" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"swinlens (\d+\.\d+\.\d+|\(not installed\))\n", capsys.readouterr().out)
