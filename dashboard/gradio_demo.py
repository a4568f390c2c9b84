#!/usr/bin/env python
"""A demo to share: an image, models and heat maps on one page, and an API: `python dashboard/gradio_demo.py`."""

import argparse
import contextlib
import gc
import io
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from dashboard.demo.answers import Demo
from swin_core.errors import ConfigError, SwinError
from swin_core.system.memory import keep_freed_memory, return_freed_memory, share_one_heap
from swin_core.zoo.load import available

if TYPE_CHECKING:
    from gradio import Blocks

FOLDER = "swinlens-demo-"
SECONDS_BETWEEN_TRIMS = 10
NO_LINK = "No public link could be made, as there is no way to Gradio's servers; the local page goes on."


def parser() -> argparse.ArgumentParser:
    """The command line."""
    bundled = "\n".join(f"  {name}: {line}" for name, line in available().items()) or "  none"
    result = argparse.ArgumentParser(
        description=f"Share heat maps on a page of their own.\n\nbundled models:\n{bundled}",
        epilog="The page listens on 127.0.0.1, from port 7860 on; "
        "the environment's GRADIO_SERVER_NAME and GRADIO_SERVER_PORT change that.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--share", action="store_true", help="make a public link, for a week at most")
    result.add_argument("--auth", metavar="USER:PASSWORD", help="ask visitors for this name and password")
    result.add_argument(
        "--models",
        nargs="+",
        default=list(available()),
        metavar="NAME",
        help="models to offer: bundled names, runs, weights files in the project's folder, or timm/<model> "
        "(default: the bundled ones)",
    )
    return result


def _login(auth: str | None) -> tuple[str, str] | None:
    """User and password of `--auth`; the password may hold colons.

    Raises:
        ConfigError: one of them is missing.
    """
    if auth is None:
        return None
    user, _, password = auth.partition(":")
    if not user or not password:
        raise ConfigError("--auth needs a user and a password with a colon between them: --auth guest:secret.")
    return user, password


def _public_link(blocks: "Blocks") -> str:
    """A public address of the page, or an empty text where none could be made.

    Gradio's own `share=True` prints a page of advice for the same failure.
    """
    from gradio.networking import setup_tunnel

    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        return setup_tunnel(blocks.server_name, blocks.server_port, blocks.share_token, None, None)
    return ""


def _serve(demo: Demo, auth: tuple[str, str] | None, share: bool) -> None:
    """Start the page and keep it until the program is told to end."""
    # Read when Gradio is imported. Nothing about this machine or its visitors is sent anywhere.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.environ |= {"GRADIO_TEMP_DIR": str(demo.folder), "GRADIO_EXAMPLES_CACHE": str(demo.folder / "examples")}
    for name in ("GRADIO_ALLOWED_PATHS", "GRADIO_SHARE", "GRADIO_MCP_SERVER"):
        os.environ.pop(name, None)
    from dashboard.demo.page import launch, page

    blocks = page(demo)
    # What is loaded by now stays. Without it Python looks for garbage often enough that figures, which hold themselves
    # in circles, do not pile up.
    gc.freeze()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    print(f"SwinLens demo: {launch(blocks, auth)}", flush=True)
    try:
        if share:
            link = _public_link(blocks)
            print(f"Public link: {link}" if link else NO_LINK, flush=True)
        while not ended.wait(SECONDS_BETWEEN_TRIMS):
            return_freed_memory()
    except KeyboardInterrupt:
        print()
    finally:
        blocks.close(verbose=False)


def main(arguments: list[str] | None = None) -> int:
    """Start the demo; 1 after an error, which is printed as one line."""
    given = parser().parse_args(arguments)
    share_one_heap()
    keep_freed_memory()
    folder = Path(tempfile.mkdtemp(prefix=FOLDER)).resolve()
    try:
        _serve(Demo(tuple(dict.fromkeys(given.models)), folder), _login(given.auth), given.share)
    except (SwinError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
