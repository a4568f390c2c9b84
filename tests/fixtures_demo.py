"""The demo as a person starts it: the documented command on a free port, with models of random weights beside ours."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio_client
import psutil
from conftest import free_port
from fixtures_pages import FLOWERS, OTHERS, save_model

ROOT = Path(__file__).resolve().parent.parent
OURS = ("swin_micro_flowers", "swin_micro_cifar100")


@dataclass
class Started:
    """A demo that runs."""

    address: str
    server: psutil.Process
    log: Path
    temporary: Path
    """The machine's folder for temporary files, as the demo sees it; its own folder lies in it."""

    @property
    def folder(self) -> Path:
        """The demo's own folder."""
        (found,) = self.temporary.glob("swinlens-demo-*")
        return found

    def client(self, **options: Any) -> gradio_client.Client:
        """A new client, as a program uses it."""
        return gradio_client.Client(self.address, verbose=False, **options)


def environment(home: Path, port: int) -> dict[str, str]:
    """What a fresh account has; PYTHONPATH would hide that Python puts the script's folder on the import path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "GRADIO_"))}
    places = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "SWIN_RUNS_ROOT": str(home / "runs"),
        "HF_HOME": str(home / "hub"),
    }
    return {
        **kept,
        **{name: str(place) for name, place in places.items()},
        "GRADIO_SERVER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def random_models(home: Path, **models: tuple[str, ...]) -> None:
    """Runs with a model of random weights each: name to labels."""
    for seed, (name, labels) in enumerate(models.items()):
        (home / "runs" / name).mkdir(parents=True)
        (home / "runs" / name / "config.json").write_text("{}")
        save_model(home / "runs" / name, "model", labels, seed)


@contextmanager
def started(
    home: Path, *arguments: str, program: tuple[str, ...] = ("dashboard/gradio_demo.py",), **extra: str
) -> Iterator[Started]:
    """The demo, started by the documented command from the root; it must end when it is told to."""
    port, log = free_port(), home / "log.txt"
    command = [sys.executable, *program, *arguments]
    with log.open("w") as output:
        running = subprocess.Popen(
            command, cwd=ROOT, env=environment(home, port) | extra, stdout=output, stderr=subprocess.STDOUT
        )
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(1200):
            assert running.poll() is None, log.read_text()
            if address in log.read_text():
                break
            time.sleep(0.1)
        yield Started(address, psutil.Process(running.pid), log, home)
    finally:
        running.terminate()
        running.wait(30)


HOSTILE = ("hostile", "odd")


def with_random_models(home: Path) -> Iterator[Started]:
    """The bundled models, and two of random weights, one of which has class names that are markup."""
    random_models(home, hostile=OTHERS, odd=FLOWERS)
    with started(home, "--models", *OURS, *HOSTILE) as running:
        yield running
