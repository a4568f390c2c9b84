"""The dashboard as a process of its own, and Chromium to look at it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.timing import free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120.0
"""Longest time until the dashboard answers."""


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Chromium; yield Playwright's browser."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def dashboard(**environment: str) -> Iterator[tuple[str, int]]:
    """Start the dashboard by the documented command; yield its address and process id as soon as it answers."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "dashboard/app.py", "--server.port", str(port)]
    server = subprocess.Popen(
        [*command, "--server.headless", "true"],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    end = time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                with urlopen(f"{address}/_stcore/health"):
                    break
            except URLError:
                if time.monotonic() > end or server.poll() is not None:
                    raise SystemExit("benchmark.py: the dashboard did not start; run it by hand to see why.") from None
                time.sleep(0.05)
        yield address, server.pid
    finally:
        server.kill()
        server.wait()
