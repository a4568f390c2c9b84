#!/usr/bin/env python
"""Start the Gradio demo, a page with heat maps and an API: `python dashboard/gradio_demo.py`."""

import argparse
import contextlib
import gc
import io
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from dashboard.demo.answers import Demo
from dashboard.shared.connections import limit_connections
from swin_core.errors import ConfigError, SwinError
from swin_core.system.memory import keep_freed_memory, limit_kept_kernels, return_freed_memory, share_one_heap
from swin_core.zoo.load import available
from swin_core.zoo.offered import offered_files

if TYPE_CHECKING:
    from gradio import Blocks

log = logging.getLogger(__name__)

FOLDER_PREFIX = "swinlens-demo-"
TRIM_SECONDS = 10
"""Interval at which freed memory is returned to the system, and files of ended sessions and uploads are deleted."""
GRACE_SECONDS = 30
"""How long files outlive their session: a lost connection may come back."""
UNFINISHED_SECONDS = 120
"""How long the file of an upload outlives its last part; uploads that pause for a quarter of this are refused."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
NO_LINK = "No public link could be made, since Gradio's servers cannot be reached; the local page still works."


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    bundled = "\n".join(f"  {name}: {line}" for name, line in available().items()) or "  none"
    result = argparse.ArgumentParser(
        description=f"Serve a page with heat maps, and an API.\n\nbundled models:\n{bundled}",
        epilog="The page listens on 127.0.0.1, at the first free port from 7860; "
        "the environment variables GRADIO_SERVER_NAME and GRADIO_SERVER_PORT change that.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--share", action="store_true", help="make a public link, for a week at most")
    result.add_argument("--auth", metavar="USER:PASSWORD", help="ask visitors for this name and password")
    result.add_argument(
        "--hosts",
        nargs="+",
        default=[],
        metavar="NAME",
        help="host names under which a reverse proxy shows the demo (default: this machine's own; any, if "
        "GRADIO_SERVER_NAME opens the demo to a network)",
    )
    result.add_argument(
        "--models",
        nargs="+",
        default=[*available(), *offered_files()],
        metavar="NAME",
        help="models to offer: bundled names, runs, weights files in or below the working folder, timm/<model>, or "
        "files of the environment variable SWINLENS_MODELS (default: the bundled ones and those of SWINLENS_MODELS)",
    )
    return result


def _login(auth: str | None) -> tuple[str, str] | None:
    """Return the user and password of `--auth`; the password may contain colons.

    Raises:
        ConfigError: the user or the password is missing.
    """
    if auth is None:
        return None
    user, _, password = auth.partition(":")
    if not user or not password:
        raise ConfigError("--auth needs a user and a password with a colon between them: --auth guest:secret.")
    return user, password


def _public_link(blocks: "Blocks") -> str:
    """Return a public URL of the page, or an empty string on failure.

    Gradio's own `share=True` prints a page of advice on failure.
    """
    from gradio.networking import setup_tunnel

    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        return setup_tunnel(blocks.server_name, blocks.server_port, blocks.share_token, None, None)
    return ""


def _hosts(named: list[str], share: bool) -> list[str]:
    """Return the host names under which the demo is reached: any, unless it listens on this machine only."""
    if not named and os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1") not in LOOPBACK:
        return ["*"]
    return [*LOOPBACK, *named, *(["*.gradio.live"] if share else [])]


def _serve(demo: Demo, auth: tuple[str, str] | None, share: bool, hosts: list[str]) -> None:
    """Run the demo until SIGTERM or Ctrl-C."""
    # Gradio reads these when it is imported. Nothing about this machine or its visitors is sent anywhere.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.environ |= {"GRADIO_TEMP_DIR": str(demo.folder), "GRADIO_EXAMPLES_CACHE": str(demo.folder / "examples")}
    for name in ("GRADIO_ALLOWED_PATHS", "GRADIO_SHARE", "GRADIO_MCP_SERVER"):
        os.environ.pop(name, None)
    from dashboard.demo.page import launch, page

    blocks = page(demo)
    # Exclude everything loaded so far from garbage collection, so that it runs often enough to free the figures of
    # answers, which contain reference cycles.
    gc.freeze()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    print(f"SwinLens demo: {launch(blocks, demo, auth, hosts)}", flush=True)
    try:
        if share:
            link = _public_link(blocks)
            print(f"Public link: {link}" if link else NO_LINK, flush=True)
        while not ended.wait(TRIM_SECONDS):
            return_freed_memory()
            try:
                demo.files.sweep(GRACE_SECONDS)
                demo.files.delete_unfinished(demo.folder, UNFINISHED_SECONDS)
            except OSError as error:  # such as too many open files; the demo goes on
                log.warning("old files could not be deleted, which is tried again in %d s: %s", TRIM_SECONDS, error)
    except KeyboardInterrupt:
        print()
    finally:
        blocks.close(verbose=False)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return the exit status, 1 after an error, which is printed in one line."""
    options = parser().parse_args(arguments)
    share_one_heap()
    limit_kept_kernels()
    limit_connections()
    keep_freed_memory()
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX)).resolve()
    try:
        demo = Demo(tuple(dict.fromkeys(options.models)), folder)
        _serve(demo, _login(options.auth), options.share, _hosts(options.hosts, options.share))
    except (SwinError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
