"""Open the dashboard: `swinlens dashboard`. The arguments go to `streamlit run`."""

import os
import sys
from importlib.resources import files

from swin_core.commands import shell


def main(arguments: list[str] | None = None) -> int:
    """Replace this process by the dashboard's server; return 1 if Streamlit is not installed."""
    return shell.run("swinlens dashboard", lambda: _serve(arguments or []))


def _serve(arguments: list[str]) -> int:
    shell.require("streamlit", "dashboard")
    app = str(files("dashboard") / "app.py")
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", app, *arguments])
