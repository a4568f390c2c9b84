"""The demo's command beside its server: what it does every few seconds."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dashboard import gradio_demo
from dashboard.demo import page


def test_files_that_cannot_be_deleted_do_not_end_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As with too many open files."""
    sweeps = []

    def sweep(grace: float) -> None:
        sweeps.append(grace)
        if len(sweeps) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    for name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(page, "page", lambda demo: SimpleNamespace(close=lambda verbose: None))
    monkeypatch.setattr(page, "launch", lambda *_: "http://127.0.0.1:1/")
    monkeypatch.setattr(gradio_demo.gc, "freeze", lambda: None)
    monkeypatch.setattr(gradio_demo, "TRIM_SECONDS", 0.01)
    demo: Any = SimpleNamespace(folder=tmp_path, files=SimpleNamespace(sweep=sweep))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        gradio_demo._serve(demo, None, share=False, hosts=[])
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert len(sweeps) == 2
    assert "Too many open files" in caplog.text
