"""List runs, and stop, resume, rename or delete them: `swinlens runs`, `swinlens runs stop RUN`."""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swin_core import runs
from swin_core.commands import shell
from swin_core.errors import SwinError
from swin_core.runs.files import resume_advice
from swin_core.system.numbers import duration, is_number

EXAMPLES = """examples:
  swinlens runs                                    all runs, newest first
  swinlens runs stop 20260101-120000-photos        finishes its step and saves
  swinlens runs resume runs/20260101-120000-photos  continues in the background
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser: without an action, list the runs; else change some of them."""
    result = argparse.ArgumentParser(
        prog=shell.program("runs"),
        description="List runs, or change one.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shell.add_runs_root(result)
    result.add_argument("--json", action="store_true", help="print the list as JSON")
    actions = result.add_subparsers(dest="action", metavar="ACTION")

    def add_action(name: str, text: str, many: bool = True) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        action.add_argument("runs", nargs="+" if many else 1, metavar="RUN", help="a run's name, or its folder")
        return action

    stop = add_action("stop", "let runs finish their step, save and end")
    stop.add_argument("--now", action="store_true", help="end them at once; steps since the last save are lost")
    resume = add_action("resume", "resume a run in the background from its last step", many=False)
    resume.add_argument("--devices", nargs="+", metavar="NAME", help="cpu, or cuda:0 cuda:1 (default: as before)")
    resume.add_argument(
        "--processes", type=int, metavar="N", help="processes that share each batch (default: as before)"
    )
    resume.add_argument("--max-restarts", type=shell.count, metavar="N", help="restarts after a process died")
    resume.add_argument("--data-root", help="folder of the data sets (default: as before)")
    shell.add_accept_changed_data(resume)
    rename = add_action("rename", "rename a run; its time stays", many=False)
    rename.add_argument("name", metavar="NAME", help="the new name")
    add_action("delete", "delete runs and all their files")
    return result


def list_entry(run: runs.Run) -> dict[str, Any]:
    """Return the entries of the list for a run; None for unknown values."""
    status, metrics = run.status, run.metrics()
    top1 = [row["top1"] for row in metrics if is_number(row.get("top1"))]
    updated = _number(status, "updated")
    return {
        "name": run.name,
        "folder": str(run.folder),
        "state": run.state,
        "reason": run.reason,
        "epoch": _number(status, "epoch") if is_number(status.get("epoch")) else len(metrics),
        "epochs": _number(run.config, "epochs"),
        "best_top1": max(top1, default=None),
        "images_per_second": _number(status, "images_per_second") if run.alive else None,
        "seconds_left": _number(status, "seconds_left") if run.alive else None,
        "seconds_since_last_sign": None if updated is None else max(0.0, time.time() - updated),
        "devices": run.launch.get("devices"),
        "remarks": list(run.remarks),
    }


def _number(values: Mapping[str, Any], name: str) -> Any:
    return values.get(name) if is_number(values.get(name)) else None


def table(entries: list[dict[str, Any]]) -> str:
    """Return the list as lines of aligned columns."""
    rows = [("RUN", "STATE", "EPOCH", "BEST TOP-1", "IMAGES/S", "LEFT", "LAST SIGN", "REMARKS")]
    for facts in entries:
        best, speed = facts["best_top1"], facts["images_per_second"]
        left, silent = facts["seconds_left"], facts["seconds_since_last_sign"]
        rows.append(
            (
                _plain(facts["name"]),
                facts["state"],
                f"{facts['epoch']} / {'?' if facts['epochs'] is None else facts['epochs']}",
                "" if best is None else f"{best:.2%}",
                "" if speed is None else f"{speed:.0f}",
                "" if left is None else duration(left),
                "" if silent is None else f"{duration(silent)} ago",
                _plain("; ".join([*([facts["reason"]] if facts["reason"] else []), *facts["remarks"]])),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _plain(text: str) -> str:
    """Replace control characters, which a terminal would obey: a copied folder may have any name."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def change(options: argparse.Namespace, text: str) -> str:
    """Change one run as the command line says; return the line to print."""
    path = Path(text)
    # A path, such as the shell completes, names the folder of runs too.
    run = runs.find(path.name, options.runs_root if path == Path(path.name) else path.parent)
    if options.action == "stop" and options.now:
        runs.kill(run)
        return f"{run.name} has ended; {resume_advice(run.folder)}"
    if options.action == "stop":
        runs.request_stop(run)
        return f"{run.name} is finishing its step and saving"
    if options.action == "rename":
        return f"{run.name} is now {runs.rename(run, options.name).name}"
    if options.action == "delete":
        runs.delete(run)
        return f"{run.name} is deleted"
    runs.resume(
        run,
        devices=options.devices,
        processes=options.processes,
        max_restarts=options.max_restarts,
        data_root=options.data_root,
        accept_changed_data=options.accept_changed_data,
    )
    return f"{run.name} continues in the background; its log is {run.folder / 'log.txt'}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status. Each of a user's errors is printed as one line."""
    options = parser().parse_args(arguments)
    code = 0
    if options.action is None:
        return shell.run(shell.program("runs"), lambda: _list(options))
    for text in options.runs:
        try:
            print(_plain(change(options, text)))
        except SwinError as error:
            print(f"{shell.program('runs')}: {_plain(str(error))}", file=sys.stderr)
            code = 1
    return code


def _list(options: argparse.Namespace) -> int:
    entries = [list_entry(run) for run in runs.list_runs(options.runs_root)]
    if options.json:
        print(json.dumps(entries, indent=2))
    else:
        print(table(entries) if entries else f"no runs in {runs.runs_root(options.runs_root)}")
    return 0
