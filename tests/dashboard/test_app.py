"""The dashboard's entry point: what it does while it serves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import asyncio, sys
from dashboard import app
import pyarrow

calls = []
app.LOOK_SECONDS, app.TRIM_SECONDS, app.TRIM_BYTES = 0.01, 0.01, 2**60
app.exempt_live_objects = lambda: calls.append("exempt")
app.return_freed_memory = lambda: calls.append("return")

async def until(name, count):
    while calls.count(name) < count:
        await asyncio.sleep(0.01)

async def serve():
    async with app.trimming(app.app):
        await until("return", 3)
        before = calls.count("exempt")
        assert before
        sys.modules["made up"] = sys  # as if a module had been loaded
        await until("exempt", before + 1)
        app.TRIM_SECONDS = 1000
        await asyncio.sleep(0.1)
        before = calls.count("return")
        await asyncio.sleep(0.1)
        assert calls.count("return") == before  # not yet due
        app.TRIM_BYTES = -1
        await until("return", before + 2)

asyncio.run(asyncio.wait_for(serve(), 60))
assert pyarrow.default_memory_pool().backend_name == "system"
"""


def test_memory_is_returned_while_the_server_runs() -> None:
    """In a program of its own: the entry point changes settings of the whole process."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
