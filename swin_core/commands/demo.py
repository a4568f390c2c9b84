"""Serve the demo page: `swinlens demo --share`. The arguments are those of `dashboard/gradio_demo.py`."""

import os
import sys

from swin_core.commands import shell


def main(arguments: list[str] | None = None) -> int:
    """Replace this process by the demo's server; return 1 if Gradio is not installed."""
    return shell.run("swinlens demo", lambda: _serve(arguments or []))


def _serve(arguments: list[str]) -> int:
    shell.require("gradio", "demo")
    os.execv(sys.executable, [sys.executable, "-m", "dashboard.gradio_demo", *arguments])
