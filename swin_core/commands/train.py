"""Train a model: `swinlens train fast-cifar100 --epochs 4`."""

import argparse
import json
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from tqdm import tqdm

from swin_core import runs
from swin_core.commands import shell
from swin_core.errors import PeerExitedError, RunError, SwinError
from swin_core.runs.starting import BUSY
from swin_core.system.distributed import under_torchrun
from swin_core.training import RECIPES, TrainConfig, recipe, setting_help, setting_limits
from swin_core.training.changes import change_settings
from swin_core.training.launch import (
    PEER_EXITED,
    check,
    choose_devices,
    launch,
    launch_new,
    report_error,
    train_under_torchrun,
)

EXAMPLES = """examples:
  swinlens train fast-cifar100 --epochs 4
  swinlens train custom --data photos --name photos
  swinlens train --run runs/20260101-120000-photos          resume a run
  swinlens train custom --data photos --without findings.json
  swinlens train --run RUN --epochs 40                       let it go on longer
  swinlens train fast-cifar100 --processes 2 --max-restarts 3
  torchrun --nnodes 2 --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint HOST:29400 \\
    -m swin_core.training best-cifar100
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser: a recipe, and every setting of `TrainConfig` as an option."""
    recipes = "\n".join(f"  {name}: {entry.purpose}\n      {entry.result}" for name, entry in RECIPES.items())
    result = argparse.ArgumentParser(
        prog=shell.program("train"),
        description=f"Train a Swin by a recipe.\n\nrecipes:\n{recipes}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("recipe", nargs="?", choices=list(RECIPES), help="the recipe to run")
    result.add_argument(
        "--run",
        metavar="RUN",
        help="resume this run, a folder or its name, from its last step; some settings can be changed",
    )
    result.add_argument("--check", action="store_true", help="only measure memory and time on a few steps, as JSON")
    result.add_argument("--data-root", help="folder of the data sets (else SWIN_DATA_ROOT, else the cache folder)")
    result.add_argument("--runs-root", help="folder of the runs (else SWIN_RUNS_ROOT, else runs)")
    shell.add_accept_changed_data(result)
    devices = result.add_argument_group("devices")
    devices.add_argument(
        "--devices", nargs="+", default=[], metavar="NAME", help="cpu, or cuda:0 cuda:1 (default: all GPUs)"
    )
    devices.add_argument("--processes", type=int, help="processes that share each batch (default: one per device)")
    devices.add_argument(
        "--max-restarts", type=shell.count, default=0, metavar="N", help="restarts after a process died"
    )
    settings = result.add_argument_group("settings, which replace those of the recipe")
    types, texts, limits = get_type_hints(TrainConfig), setting_help(), setting_limits()
    for name, text in texts.items():
        options: dict[str, Any] = {"default": None, "help": text.replace("%", "%%")}
        if get_origin(types[name]):
            options["choices"] = get_args(types[name])
        elif types[name] is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options |= {"type": types[name], "metavar": types[name].__name__}
        if name in limits:
            options["help"] += " From {:.12g} to {:.12g}.".format(*limits[name])
        settings.add_argument(f"--{name.replace('_', '-')}", **options)
    return result


class TrainingBar:
    """A progress bar over a run's steps with loss, accuracy and time left, and a line for each epoch."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.top1 = ""

    def __call__(self, metrics: dict[str, Any]) -> None:
        if "data" in metrics:
            for line in metrics["data"]:
                tqdm.write(line, file=sys.stderr)
            return
        if "steps" in metrics:
            if self.bar is None:
                self.bar = tqdm(total=metrics["steps"], initial=metrics["step"] - 1, unit="step", mininterval=1)
            was_drawn = self.bar.n == self.bar.last_print_n
            self.bar.update()
            if was_drawn:  # reading the loss waits for the GPU, so it is read once per drawing
                self.bar.set_postfix_str(
                    f"epoch {metrics['epoch'] + 1}, loss {float(metrics['loss']):.3f}{self.top1}", refresh=False
                )
            if self.bar.n == self.bar.total:
                self.bar.close()  # ends its line
            return
        self.top1 = f", top-1 {metrics['top1']:.2%}"
        top5 = "" if metrics["top5"] is None else f"  top-5 {metrics['top5']:.2%}"
        balanced = "" if metrics["balanced"] is None else f"  balanced {metrics['balanced']:.2%}"
        tqdm.write(
            f"epoch {metrics['epoch']}: training loss {metrics['train_loss']:.3f}  "
            f"validation loss {metrics['loss']:.3f}"
            f"  top-1 {metrics['top1']:.2%}{top5}{balanced}  {metrics['images_per_second']:.0f} images/s"
        )


def absolute(name: str) -> str:
    """Return the absolute path if `name` is a path, else the name: a run may be resumed from another folder."""
    return str(Path(name).absolute()) if name and Path(name).exists() else name


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that the command line names."""
    values = {field.name: getattr(arguments, field.name) for field in fields(TrainConfig)}
    settings = {name: value for name, value in values.items() if value is not None}
    paths = settings.keys() & {"data", "init", "teacher", "without"}
    return settings | {name: absolute(settings[name]) for name in paths}


def _stderr_is_log(folder: Path) -> bool:
    """Return whether stderr is the run's log, as for a run started from a page: the trainer writes metrics there."""
    try:
        return os.path.samestat(os.fstat(sys.stderr.fileno()), (folder / "log.txt").stat())
    except OSError:  # there is no log yet, or stderr is not a file
        return False


def _last_line(folder: Path, state: str) -> str:
    """Return the run's folder, the last line of output; tell how to resume a stopped run."""
    if state == "stopped":
        print(f"stopped; --run {folder} resumes from this step.", file=sys.stderr)
    return str(folder)


def run(arguments: argparse.Namespace) -> str:
    """Run the command; return the line to print at the end."""
    settings = settings_of(arguments)
    root = runs.runs_root(arguments.runs_root)
    if (arguments.recipe is None) == (arguments.run is None):
        raise SwinError("name either a recipe or --run RUN; see --help.")
    if arguments.run is not None:
        if arguments.check:
            raise SwinError("a run is resumed without a check; leave --check out.")
        folder = Path(arguments.run) if Path(arguments.run).is_dir() else runs.find(arguments.run, root).folder
        if os.environ.get("RANK", "0") == "0":  # of several ranks, the first; the others wait for it before they read
            change_settings(folder.absolute(), settings)
        bar = None if _stderr_is_log(folder) else TrainingBar()
        state = launch(folder, bar, arguments.accept_changed_data)
        return "" if under_torchrun() else _last_line(folder, state)
    config = recipe(arguments.recipe, **settings)
    devices, count = choose_devices(arguments.devices, arguments.processes)
    if arguments.check:
        return json.dumps(check(config, devices[0], count, root, arguments.data_root).to_dict())

    def make() -> Path:
        folder = runs.create(config.to_dict(), root)
        facts = {"devices": list(devices), "processes": count, "max_restarts": arguments.max_restarts}
        runs.write_launch(folder, **facts, data_root=arguments.data_root)
        return folder

    if under_torchrun():
        state = train_under_torchrun(make, root, devices, arguments.data_root, TrainingBar())
        return state if os.environ["RANK"] == "0" else ""
    folder = make()
    return _last_line(folder, launch_new(folder, TrainingBar()))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status. A user's error is printed as one line."""
    try:
        line = run(parser().parse_args(arguments))
    except SwinError as error:
        report_error(error)
        print(f"{shell.program('train')}: {error}", file=sys.stderr)
        if isinstance(error, PeerExitedError):
            return PEER_EXITED
        return BUSY if isinstance(error, RunError) and error.busy else 1
    except KeyboardInterrupt:
        print(
            f"{shell.program('train')}: ended without saving the last steps; --run RUN resumes it.",
            file=sys.stderr,
        )
        return 130
    except Exception as error:
        report_error(error)
        raise
    if line:
        print(line)
    return 0
