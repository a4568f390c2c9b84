"""List runs, and stop, resume, rename or delete them: `swinlens runs`, `swinlens runs stop RUN`."""

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swin_core import runs
from swin_core.errors import SwinError

EXAMPLES = """examples:
  swinlens runs                                    all runs, newest first
  swinlens runs stop 20260101-120000-photos        finishes its step and saves
  swinlens runs resume runs/20260101-120000-photos  goes on in the background
"""


def parser() -> argparse.ArgumentParser:
    """The command line: a list without an action, else what to do with which run."""
    result = argparse.ArgumentParser(
        prog="swinlens runs",
        description="List runs, or change one.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--runs-root", help="folder of the runs (else SWIN_RUNS_ROOT, else runs)")
    result.add_argument("--json", action="store_true", help="print the list as JSON")
    actions = result.add_subparsers(dest="action", metavar="ACTION")

    def action(name: str, text: str, many: bool = True) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.add_argument("runs", nargs="+" if many else 1, metavar="RUN", help="a run's name, or its folder")
        return added

    stop = action("stop", "let runs finish their step, save and end")
    stop.add_argument("--now", action="store_true", help="end them at once; what came after the last save is lost")
    resume = action("resume", "go on with a run in the background, from its last step", many=False)
    resume.add_argument("--devices", nargs="+", metavar="NAME", help="cpu, or cuda:0 cuda:1 (default: as before)")
    resume.add_argument("--processes", type=int, metavar="N", help="processes that share the work (default: as before)")
    resume.add_argument("--max-restarts", type=int, metavar="N", help="starts anew after a process died")
    resume.add_argument("--data-root", help="folder of the data sets (default: as before)")
    rename = action("rename", "give a run another name; its time stays", many=False)
    rename.add_argument("name", metavar="NAME", help="the new name")
    action("delete", "delete runs with all that they saved")
    return result


def facts_of(run: runs.Run) -> dict[str, Any]:
    """What the list says of a run; None for what is not known."""
    status, figures = run.status, run.metrics()
    top1 = [row["top1"] for row in figures if _known(row.get("top1"))]
    updated = _number(status, "updated")
    return {
        "name": run.name,
        "folder": str(run.folder),
        "state": run.state,
        "reason": run.reason,
        "epoch": _number(status, "epoch") if _known(status.get("epoch")) else len(figures),
        "epochs": _number(run.config, "epochs"),
        "best_top1": max(top1, default=None),
        "images_per_second": _number(status, "images_per_second") if run.alive else None,
        "seconds_left": _number(status, "seconds_left") if run.alive else None,
        "seconds_since_last_sign": None if updated is None else max(0.0, time.time() - updated),
        "devices": run.launch.get("devices"),
    }


def _known(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(values: Mapping[str, Any], name: str) -> Any:
    return values.get(name) if _known(values.get(name)) else None


def table(listed: list[dict[str, Any]]) -> str:
    """The list as lines of aligned columns."""
    rows = [("RUN", "STATE", "EPOCH", "BEST TOP-1", "IMAGES/S", "LEFT", "LAST SIGN", "")]
    for facts in listed:
        best, speed = facts["best_top1"], facts["images_per_second"]
        rows.append(
            (
                _plain(facts["name"]),
                facts["state"],
                f"{facts['epoch']} / {'?' if facts['epochs'] is None else facts['epochs']}",
                "" if best is None else f"{best:.2%}",
                "" if speed is None else f"{speed:.0f}",
                duration(facts["seconds_left"]),
                duration(facts["seconds_since_last_sign"], " ago"),
                _plain(facts["reason"]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def duration(seconds: float | None, after: str = "") -> str:
    """Seconds in the two largest units: "2 h 05 min"."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if days:
        return f"{days} d {hours_left:02} h{after}"
    if hours:
        return f"{hours} h {minutes_left:02} min{after}"
    return f"{minutes} min {rest:02} s{after}" if minutes else f"{rest} s{after}"


def _plain(text: str) -> str:
    """Text without what a terminal would obey: a folder that was copied here may have any name."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def change(given: argparse.Namespace, text: str) -> str:
    """Do to one run what the command line says; the line to print."""
    path = Path(text)
    # A path as the shell completes it names its folder of runs as well.
    run = runs.find(path.name, given.runs_root if path == Path(path.name) else path.parent)
    if given.action == "stop" and given.now:
        runs.kill(run)
        return f"{run.name} has ended; resume goes on from its last checkpoint"
    if given.action == "stop":
        runs.request_stop(run)
        return f"{run.name} is finishing its step and saving"
    if given.action == "rename":
        return f"{run.name} is now {runs.rename(run, given.name).name}"
    if given.action == "delete":
        runs.delete(run)
        return f"{run.name} is deleted"
    runs.resume(
        run,
        devices=given.devices,
        processes=given.processes,
        max_restarts=given.max_restarts,
        data_root=given.data_root,
    )
    return f"{run.name} goes on in the background; its log is {run.folder / 'log.txt'}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 and a line for each error that a user can mend."""
    given = parser().parse_args(arguments)
    code = 0
    try:
        if given.action is None:
            listed = [facts_of(run) for run in runs.list_runs(given.runs_root)]
            place = runs.runs_root(given.runs_root)
            print(json.dumps(listed, indent=2) if given.json else table(listed) if listed else f"no runs in {place}")
        for text in given.runs if given.action else ():
            try:
                print(_plain(change(given, text)))
            except SwinError as error:
                print(f"swinlens runs: {_plain(str(error))}", file=sys.stderr)
                code = 1
    except SwinError as error:
        print(f"swinlens runs: {error}", file=sys.stderr)
        return 1
    return code
