"""Find what a model wrongly relies on in a whole data set: `swinlens audit swin_micro_flowers --data flowers`."""

import argparse
import json
from pathlib import Path

from swin_core.commands import shell
from swin_core.data.registry import DATA_SETS, split_names
from swin_core.errors import DataError, SwinError
from swin_core.runs import runs_root


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog=shell.program("audit"),
        description="Look for regularities in what a model uses, test each by intervention, and report those that "
        "decide its predictions. A second call of an audit that was stopped goes on where it was.",
    )
    result.add_argument("model", help="a bundled name, a run, or any other name that swinlens explain takes")
    result.add_argument(
        "--data", required=True, help=f"{', '.join(DATA_SETS)}, or a folder, with or without class folders"
    )
    result.add_argument("--split", help="as for evaluate, with the same default")
    result.add_argument("--seed", type=shell.count, default=0, help="seed of the random choices (default: %(default)s)")
    result.add_argument(
        "--after",
        metavar="MODEL",
        help="compare with this model, which was trained without the findings: accuracy by group, the worst first",
    )
    result.add_argument("--out", metavar="FILE", type=Path, help="write the report here, one HTML file")
    result.add_argument("--json", metavar="FILE", type=Path, help="write the findings and what was tested here")
    shell.add_precision(result)
    shell.add_roots(result)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status. A user's error is printed as one line."""
    options = parser().parse_args(arguments)
    return shell.run(shell.program("audit"), lambda: _audit(options))


def _audit(options: argparse.Namespace) -> int:
    from swin_core.audit import audit
    from swin_core.audit.repair import Repair, compare_repair
    from swin_core.evaluation.accuracy import named_split
    from swin_core.evaluation.trained_on import trained_on
    from swin_core.figures.audit_report import audit_page
    from swin_core.figures.audit_text import lines, repair_lines, repair_summary
    from swin_core.system.atomic import check_writable, write_file
    from swin_core.system.memory import keep_freed_memory
    from swin_core.system.progress import ProgressBar
    from swin_core.zoo.load import load

    keep_freed_memory()
    for file in (options.out, options.json):
        if file:
            check_writable(file)
    runs = runs_root(options.runs_root)
    classifier = load(options.model, runs_root=runs, precision=options.precision)
    after = load(options.after, runs_root=runs, precision=options.precision) if options.after else None
    dataset = named_split(options.model, options.data, options.split, options.data_root, runs)
    others = []
    for name in split_names(options.data):
        if "all" not in (name, dataset.split) and name != dataset.split:
            try:
                others.append(named_split(options.model, options.data, name, options.data_root, runs))
            except DataError as error:  # a split that is not on this machine
                print(f"not searched for duplicates: {error}")
    bars: dict[str, ProgressBar] = {}

    def progress(what: str, done: int, total: int) -> None:
        bars.setdefault(what, ProgressBar(what))(done, total)

    found = audit(classifier, dataset, others=others, seed=options.seed, progress=progress)
    print("\n".join(lines(found)))
    repairs: list[Repair] = []
    fault: SwinError | None = None
    if after is not None:
        try:
            seen = trained_on(options.model, dataset, options.data_root, runs)
            seen |= trained_on(options.after, dataset, options.data_root, runs)
            repairs = [
                compare_repair(classifier, after, dataset, finding, options.seed, seen) for finding in found.findings
            ]
        except SwinError as error:
            fault = error  # first write what was found
        for number, repair in enumerate(repairs, start=1):
            print("\n".join(["", f"{number}. {repair_summary(repair)}", *repair_lines(repair)]))
        if not found.findings:
            print("There is no finding by which to compare the models.")
    if options.json:
        values = found.to_dict() | {"repairs": [repair.to_dict() for repair in repairs]}
        write_file(options.json, json.dumps(values, indent=1).encode())
    if options.out:
        write_file(options.out, audit_page(found, classifier, dataset, repairs).encode())
    if fault is not None:
        raise fault
    return 0
