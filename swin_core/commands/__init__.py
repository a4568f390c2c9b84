"""The command `swinlens`. Each sub-command is a module of this package, imported when it is called.

The modules parse arguments and call the library. Nothing else in swin_core imports them.
"""

import argparse
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

COMMANDS = {
    "dashboard": "open the dashboard in a browser",
    "demo": "serve a demo page with an API",
    "explain": "draw heat maps of images as one grid",
    "train": "train or fine-tune a model",
    "evaluate": "measure a model's accuracy on a data set",
    "trust": "rank attribution methods and layers on a data set",
    "audit": "find what a model wrongly relies on in a whole data set",
    "export": "write a model for ONNX Runtime, OpenVINO or torch.export",
    "models": "list the models, or add one with its class names and preprocessing",
    "runs": "list, stop, resume, rename or delete training runs",
    "data": "download the data sets",
}
"""Sub-commands with one line of help each."""


def main(arguments: list[str] | None = None) -> int:
    """Run a sub-command with the arguments that follow its name; return its exit status."""
    lines = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="swinlens",
        description=f"Explain image classifiers.\n\ncommands:\n{lines}",
        epilog="`swinlens COMMAND --help` describes a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"swinlens {_version()}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands above")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its arguments")
    given = sys.argv[1:] if arguments is None else arguments
    if not given:
        parser.print_help()
        return 2
    options = parser.parse_args(given)
    try:
        command = import_module(f"{__name__}.{options.command}")
    except ModuleNotFoundError as error:
        print(
            f"swinlens {options.command}: the package {error.name} is not installed; "
            "install it with: pip install 'swinlens[all]'",
            file=sys.stderr,
        )
        return 1
    return int(command.main(options.arguments))


def _version() -> str:
    try:
        return version("swinlens")
    except PackageNotFoundError:  # a checkout that is not installed
        return "(not installed)"
