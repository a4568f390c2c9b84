#!/usr/bin/env python
"""Train and compare the paper's ablations: `python scripts/ablate.py`; after an interruption, run it again.

`python scripts/ablate.py --finetune FOLDER` fine-tunes all of them, random weights and a bundled model alike.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from swin_core import runs
from swin_core.commands.train import TrainingBar, absolute
from swin_core.errors import ConfigError, SwinError
from swin_core.evaluation.accuracy import Evaluation, evaluate_named
from swin_core.reproduction.ablations import (
    ABLATIONS,
    MAIN,
    RANDOM,
    AblationResult,
    ablation_config,
    bundled_training,
    find_run,
    finetuning_config,
    finish_run,
    markdown_table,
    merge_results,
    read_results,
    run_result,
)
from swin_core.reproduction.model_cards import evaluated_split
from swin_core.system.atomic import check_writable, write_file
from swin_core.system.memory import keep_freed_memory
from swin_core.training import TrainConfig
from swin_core.training.launch import choose_devices


def parser() -> argparse.ArgumentParser:
    """The command line."""
    settings = "\n".join(
        f"  {name}: {entry.title}; paper {entry.paper} % ({entry.source})" for name, entry in ABLATIONS.items()
    )
    result = argparse.ArgumentParser(
        description=f"{__doc__}\n\nsettings:\n{settings}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--settings", nargs="+", choices=list(ABLATIONS), default=list(ABLATIONS), metavar="NAME")
    result.add_argument("--seeds", nargs="+", type=int, default=[0, 1], metavar="N", help="(default: 0 1)")
    result.add_argument("--epochs", type=int, help="(default: 6; 10 with --finetune)")
    result.add_argument("--data", default="cifar100", help="what to train on (default: %(default)s)")
    result.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N images; 0 for all")
    result.add_argument("--batch-size", type=int, metavar="N", help="(default: the recipe's)")
    result.add_argument(
        "--json", type=Path, metavar="FILE", help="all metrics (default: ablations.json in the runs folder)"
    )
    tuning = result.add_argument_group("fine-tuning")
    tuning.add_argument("--finetune", metavar="FOLDER", help="fine-tune on this folder of class folders instead")
    tuning.add_argument("--init-from", metavar="RUNS", help="folder of the trained ablations (default: --runs-root)")
    tuning.add_argument("--init-epochs", type=int, default=6, metavar="N", help="--epochs of these (default: 6)")
    tuning.add_argument("--main", default="swin_milli_cifar100", metavar="MODEL", help="(default: %(default)s)")
    tuning.add_argument("--image-size", type=int, default=128, help="side in pixels (default: %(default)s)")
    where = result.add_argument_group("folders and devices")
    where.add_argument("--data-root", help="folder of the data sets (else SWIN_DATA_ROOT, else the cache folder)")
    where.add_argument("--runs-root", help="folder of the runs (else SWIN_RUNS_ROOT, else runs)")
    where.add_argument("--devices", nargs="+", default=[], metavar="NAME", help="as for train.py")
    where.add_argument("--processes", type=int, metavar="N", help="as for train.py")
    return result


def plan(given: argparse.Namespace, root: Path) -> Iterator[tuple[str, TrainConfig]]:
    """Yield the configs of the runs to make, each with the name of its setting."""
    seeds, settings = dict.fromkeys(given.seeds), dict.fromkeys(given.settings)  # without repetitions
    common = {"limit": given.limit} | ({} if given.batch_size is None else {"batch_size": given.batch_size})
    data = absolute(given.data)
    if not given.finetune:
        own = common | {"data": data, "epochs": 6 if given.epochs is None else given.epochs}
        yield from ((name, ablation_config(name, seed, **own)) for seed in seeds for name in settings)
        return
    folder = str(Path(given.finetune).absolute())
    own = common | {"image_size": given.image_size, "epochs": 10 if given.epochs is None else given.epochs}
    source = runs.runs_root(given.init_from or root)
    before = common | {"data": data, "epochs": given.init_epochs}
    main = bundled_training(given.main, root)
    for seed in seeds:
        yield MAIN, finetuning_config(MAIN, replace(main, seed=seed), absolute(given.main), folder, **own)
        for name in settings:
            start = ablation_config(name, seed, **before)
            run = find_run(start, source)
            if run is None or run.state != "finished":
                raise ConfigError(
                    f"{start.name} of {start.epochs} epochs, batch {start.batch_size}, on {data} is not finished in "
                    f"{source}; run scripts/ablate.py without --finetune, or correct --init-from, --init-epochs, "
                    "--data, --limit or --batch-size."
                )
            init = run.name if source.resolve() == root.resolve() else str(run.folder)
            yield name, finetuning_config(name, start, init, folder, **own)
        yield RANDOM, finetuning_config(RANDOM, ablation_config("full", seed, **before), "", folder, **own)


def read(out: Path) -> list[AblationResult]:
    """Read the results of earlier calls; refuse a file with other content, since it would be replaced."""
    try:
        rows = json.loads(out.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError):
        rows = None
    known = read_results(rows) if isinstance(rows, list) else []
    if not isinstance(rows, list) or len(known) != len(rows):
        raise ConfigError(f"{out} holds other content than results of ablations; move it or name another by --json.")
    return known


def write(results: list[AblationResult], out: Path) -> None:
    """Write the results."""
    write_file(out, json.dumps([asdict(result) for result in results], indent=1).encode())


def compare(given: argparse.Namespace) -> str:
    """Train, evaluate and write the results; return the table."""
    root = runs.runs_root(given.runs_root)
    devices, processes = choose_devices(given.devices, given.processes)
    out = given.json or root / ("ablations-finetuned.json" if given.finetune else "ablations.json")

    def evaluate(run: runs.Run) -> Evaluation:
        data = str(run.config["data"])
        return evaluate_named(str(run.folder), data, evaluated_split(data), root=given.data_root, runs_root=root)

    configs = list(plan(given, root))
    results: list[AblationResult] = []
    known = read(out)
    with suppress(OSError):
        out.parent.mkdir(parents=True, exist_ok=True)
    check_writable(out)
    for number, (setting, config) in enumerate(configs, 1):
        print(f"{number} of {len(configs)}: {config.name}", file=sys.stderr)
        run = finish_run(
            config, root, devices=devices, processes=processes, data_root=given.data_root, progress=TrainingBar
        )
        results.append(run_result(setting, run, known, evaluate))
        write(merge_results(results, read(out)), out)  # read again: another call may have written to it
    return f"{markdown_table(results, paper=not given.finetune)}\n\n{out}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    given = parser().parse_args(arguments)
    keep_freed_memory()
    try:
        print(compare(given))
    except SwinError as error:
        print(f"ablate.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ablate.py: interrupted; the same command resumes.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
