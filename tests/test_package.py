"""The package: what a wheel contains, and that it works with the checkout off the import path."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import psutil
import pytest

from swin_core.commands import COMMANDS, dashboard, demo, main
from tests.conftest import free_port
from tests.fixtures.browser import answers
from tests.fixtures.started import eventually

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that was built from the sdist, as an installation from a package index builds it; no network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, timeout=250)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_contains_the_packages_and_the_bundled_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    files = [*(ROOT / "swin_core").rglob("*.py"), *(ROOT / "dashboard").rglob("*.py")]
    sources = {str(path.relative_to(ROOT)) for path in files}
    assert {name for name in sizes if name.endswith(".py")} == sources
    bundled = [path for path in (ROOT / "assets").glob("*.*") if path.is_file()]
    bundled += [path for path in (ROOT / "assets" / "samples").iterdir() if path.suffix != ".py"]
    assert len(bundled) > 30
    for path in bundled:
        assert sizes[f"swin_core/{path.relative_to(ROOT)}"] == path.stat().st_size
    assert {"swin_core/py.typed", "dashboard/.streamlit/config.toml", "dashboard/browse/gallery.css"} <= set(sizes)
    assert not [name for name in sizes if "screenshots" in name or name.startswith(("tests/", "scripts/"))]


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    folder = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def environment(unpacked: Path) -> dict[str, str]:
    """The environment of a program that imports the unpacked wheel, and not the checkout."""
    packages = [path for path in sys.path if "site-packages" in path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(unpacked), *packages])}


def test_the_unpacked_wheel_explains_an_image(unpacked: Path, samples: dict[str, Path], tmp_path: Path) -> None:
    code = (
        f"import sys\nsys.path[:] = [path for path in sys.path if path != {str(ROOT)!r}]\n"
        "import swin_core\n"
        f"assert swin_core.__file__.startswith({str(unpacked)!r}), swin_core.__file__\n"
        f"explanation = swin_core.explain(swin_core.load('swin_micro_flowers'), {str(samples['rose'])!r})\n"
        "assert 'swinlens-viewer' in explanation._repr_html_()\n"
        "print(explanation)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(unpacked),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<Explanation: ")
    assert "swin_micro_flowers" in done.stdout
    assert done.stdout.count("\n") == 1


def test_the_unpacked_wheel_serves_the_dashboard(unpacked: Path, tmp_path: Path) -> None:
    port = free_port()
    code = "from swin_core.commands import main\nmain()"
    options = ["--server.port", str(port), "--server.headless", "true"]
    with (tmp_path / "log.txt").open("w") as log:
        program = subprocess.Popen(
            [sys.executable, "-c", code, "dashboard", *options],
            cwd=tmp_path,
            env=environment(unpacked) | {"HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        eventually(lambda: program.poll() is not None or answers(f"http://127.0.0.1:{port}/_stcore/health"), 120)
        assert program.poll() is None, (tmp_path / "log.txt").read_text()
        assert str(unpacked / "dashboard" / "app.py") in psutil.Process(program.pid).cmdline()
    finally:
        program.kill()
        program.wait(20)


# -- the command


def test_help_lists_the_commands_and_loads_no_torch() -> None:
    code = (
        "import sys\nfrom swin_core.commands import main\n"
        "try:\n    main(['--help'])\nfinally:\n    assert not {'torch', 'numpy', 'streamlit'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"dashboard", "demo"}))
def test_a_command_has_help_under_its_own_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: swinlens {name} ")


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["explane"])
    assert "explane" in capsys.readouterr().err


def test_arguments_reach_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--runs-root", str(tmp_path), "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dashboard", ["-m", "streamlit", "run", str(ROOT / "dashboard" / "app.py"), "--server.port", "8600"]),
        ("demo", ["-m", "dashboard.gradio_demo", "--server.port", "8600"]),
    ],
)
def test_servers_take_the_place_of_the_command(name: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def execv(program: str, arguments: list[str]) -> None:
        started.append(arguments)
        raise SystemExit(0)

    monkeypatch.setattr({"dashboard": dashboard, "demo": demo}[name].os, "execv", execv)
    with pytest.raises(SystemExit):
        main([name, "--server.port", "8600"])
    assert started == [[sys.executable, *words]]


@pytest.mark.parametrize(("name", "package"), [("dashboard", "streamlit"), ("demo", "gradio"), ("data", "pyarrow")])
def test_a_missing_package_is_one_line_with_the_remedy(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        f"import importlib.util, sys\nsys.modules[{package!r}] = None\nfind = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *rest: None if name == {package!r} else find(name, *rest)\n"
        f"from swin_core.commands import main\nsys.exit(main([{name!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"swinlens {name}: ")
    assert package in done.stderr
    assert "pip install 'swinlens[" in done.stderr
    assert done.stderr.count("\n") == 1
