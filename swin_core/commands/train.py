"""Train a recipe: `swinlens train fast-cifar100 --epochs 4`."""

import argparse
import json
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, TextIO, get_args, get_origin, get_type_hints

from tqdm import tqdm

from swin_core import runs
from swin_core.errors import PeerExitedError, RunError, SwinError
from swin_core.system.distributed import under_torchrun
from swin_core.training import RECIPES, TrainConfig, recipe, setting_help, setting_limits
from swin_core.training.launch import LEFT_ALONE, choose_devices, launch, launch_new, tell_agent, train_under_torchrun
from swin_core.training.preflight import preflight

FAILED, BUSY = 1, 3
EXAMPLES = """examples:
  swinlens train fast-cifar100 --epochs 4
  swinlens train custom --data photos --name photos
  swinlens train --run runs/20260101-120000-photos          go on with a run
  swinlens train fast-cifar100 --processes 2 --max-restarts 3
  torchrun --nnodes 2 --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint HOST:29400 \\
    -m swin_core.training best-cifar100
"""


def parser() -> argparse.ArgumentParser:
    """The command line: a recipe, and every setting of `TrainConfig` as an option."""
    recipes = "\n".join(f"  {name}: {entry.purpose}\n      {entry.result}" for name, entry in RECIPES.items())
    result = argparse.ArgumentParser(
        prog="swinlens train",
        description=f"Train a Swin by a recipe.\n\nrecipes:\n{recipes}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("recipe", nargs="?", choices=list(RECIPES), help="the recipe to run")
    result.add_argument("--run", metavar="RUN", help="go on with this run, a folder or its name, from its last step")
    result.add_argument("--check", action="store_true", help="only measure memory and time on a few steps, as JSON")
    result.add_argument("--data-root", help="folder of the data sets (else SWIN_DATA_ROOT, else the cache folder)")
    result.add_argument("--runs-root", help="folder of the runs (else SWIN_RUNS_ROOT, else runs)")
    where = result.add_argument_group("devices")
    where.add_argument(
        "--devices", nargs="+", default=[], metavar="NAME", help="cpu, or cuda:0 cuda:1 (default: all GPUs)"
    )
    where.add_argument("--processes", type=int, help="processes that share the work (default: one a device)")
    where.add_argument("--max-restarts", type=int, default=0, metavar="N", help="starts anew after a process died")
    settings = result.add_argument_group("settings, which take the place of the recipe's")
    hints, texts, limits = get_type_hints(TrainConfig), setting_help(), setting_limits()
    for field in fields(TrainConfig):
        kind = hints[field.name]
        options: dict[str, Any] = {"default": None, "help": texts[field.name].replace("%", "%%")}
        if get_origin(kind):
            options["choices"] = get_args(kind)
        elif kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options |= {"type": kind, "metavar": kind.__name__}
        if field.name in limits:
            options["help"] += " From {:.12g} to {:.12g}.".format(*limits[field.name])
        settings.add_argument(f"--{field.name.replace('_', '-')}", **options)
    return result


class Bar:
    """A progress bar over a run's steps with loss, accuracy, speed and time left, and a line for each epoch."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.top1 = ""

    def __call__(self, figures: dict[str, Any]) -> None:
        if "steps" in figures:
            if self.bar is None:
                self.bar = tqdm(total=figures["steps"], initial=figures["step"] - 1, unit="step", mininterval=1)
            shown = self.bar.n != self.bar.last_print_n  # reading the loss makes a GPU wait: only when it is drawn
            self.bar.update()
            if not shown:
                self.bar.set_postfix_str(
                    f"epoch {figures['epoch'] + 1}, loss {float(figures['loss']):.3f}{self.top1}", refresh=False
                )
            return
        self.top1 = f", top-1 {figures['top1']:.2%}"
        top5 = "" if figures["top5"] is None else f"  top-5 {figures['top5']:.2%}"
        tqdm.write(
            f"epoch {figures['epoch']}: training loss {figures['train_loss']:.3f}  "
            f"validation loss {figures['loss']:.3f}"
            f"  top-1 {figures['top1']:.2%}{top5}  {figures['images_per_second']:.0f} images/s"
        )


def in_full(name: str) -> str:
    """A name, or where it is one, a path from the root on: a run may be resumed from another folder."""
    return str(Path(name).absolute()) if name and Path(name).exists() else name


def settings_of(given: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line names."""
    names = [field.name for field in fields(TrainConfig)]
    settings = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    return settings | {name: in_full(settings[name]) for name in ("data", "init", "teacher") if name in settings}


def is_log(stream: TextIO, folder: Path) -> bool:
    """Whether what is printed goes to the run's log, as from a page: the trainer writes its figures there by itself."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), (folder / "log.txt").stat())
    except OSError:  # there is no log yet, or the stream is no file
        return False


def told(folder: Path, state: str) -> str:
    """The run's folder, for the last line; a run that was stopped says how it goes on."""
    if state == "stopped":
        print(f"stopped; --run {folder} goes on from this step.", file=sys.stderr)
    return str(folder)


def run(given: argparse.Namespace) -> str:
    """Do what the command line says; the line to print at the end."""
    settings = settings_of(given)
    root = runs.runs_root(given.runs_root)
    if (given.recipe is None) == (given.run is None):
        raise SwinError("name either a recipe or --run RUN; see --help.")
    if given.run is not None:
        if settings or given.check:
            raise SwinError("a run keeps its own settings; leave out the other options.")
        folder = Path(given.run) if Path(given.run).is_dir() else runs.find(given.run, root).folder
        state = launch(folder, None if is_log(sys.stderr, folder) else Bar())
        return "" if under_torchrun() else told(folder, state)
    config = recipe(given.recipe, **settings)
    devices, count = choose_devices(given.devices, given.processes)
    if given.check:
        return json.dumps(preflight(config, devices[0], count, given.data_root).to_dict())

    def make() -> Path:
        folder = runs.create(config.to_dict(), root)
        facts = {"devices": list(devices), "processes": count, "max_restarts": given.max_restarts}
        runs.write_launch(folder, **facts, data_root=given.data_root)
        return folder

    if under_torchrun():
        state = train_under_torchrun(make, root, devices, given.data_root, Bar())
        return state if os.environ["RANK"] == "0" else ""
    folder = make()
    return told(folder, launch_new(folder, Bar()))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 and one line for an error that a user can mend."""
    given = parser().parse_args(arguments)
    try:
        line = run(given)
    except SwinError as error:
        tell_agent(error)
        print(f"swinlens train: {error}", file=sys.stderr)
        if isinstance(error, PeerExitedError):
            return LEFT_ALONE
        return BUSY if isinstance(error, RunError) and error.busy else FAILED
    except KeyboardInterrupt:
        print("swinlens train: ended without saving; --run RUN goes on from the last checkpoint.", file=sys.stderr)
        return 130
    except Exception as error:
        tell_agent(error)
        raise
    if line:
        print(line)
    return 0
