"""The look-up of known vulnerabilities, without a network."""

from __future__ import annotations

import io
import runpy
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def look_up(monkeypatch: pytest.MonkeyPatch, answer: str | Exception) -> list[list[str]]:
    """Run the script with an answer of PyPI; return the commands that it starts."""
    commands: list[list[str]] = []

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        assert timeout <= 3
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer.encode())

    def run(command: list[str], **options: Any) -> None:
        commands.append(command)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(subprocess, "run", run)
    runpy.run_path(str(ROOT / "scripts" / "vulnerabilities.py"), run_name="__main__")
    return commands


@pytest.mark.parametrize("answer", [OSError("no route to host"), "not found", '{"vulnerabilities": []}', "{}", "[]"])
def test_without_advisories_one_line_says_so(
    answer: str | Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert look_up(monkeypatch, answer) == []
    said = capsys.readouterr().out
    assert said.startswith("Known vulnerabilities were not looked up: ")
    assert said.count("\n") == 1


def test_the_environment_itself_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    install, audit = look_up(monkeypatch, '{"vulnerabilities": [{"id": "PYSEC-2023-228"}]}')
    assert install[install.index("install") :][-3:-1] == ["--target", install[-2]]
    assert install[-1] == "pip-audit"
    assert audit[1:3] == ["-m", "pip_audit"]
    assert Path(audit[-1]).name == "site-packages"
