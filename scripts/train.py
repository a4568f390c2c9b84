#!/usr/bin/env python
"""Train a recipe: `python scripts/train.py fast-cifar100 --epochs 4`."""

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tqdm import tqdm

from swin_core.errors import SwinError
from swin_core.training import RECIPES, TrainConfig, recipe, resume, setting_help, train
from swin_core.zoo import weights_file


def parser() -> argparse.ArgumentParser:
    """The command line: a recipe, and every setting of `TrainConfig` as an option."""
    recipes = "\n".join(f"  {name}: {entry.purpose}" for name, entry in RECIPES.items())
    result = argparse.ArgumentParser(
        description=f"Train a Swin by a recipe.\n\nrecipes:\n{recipes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("recipe", nargs="?", choices=list(RECIPES), help="the recipe to run")
    result.add_argument("--resume", metavar="RUN", type=Path, help="go on with this run's folder instead")
    result.add_argument("--data-root", help="folder of the data sets (else SWIN_DATA_ROOT, else the cache folder)")
    result.add_argument("--runs-root", default="runs", help="folder for the run's own folder (default: runs)")
    hints, texts = get_type_hints(TrainConfig), setting_help()
    for field in fields(TrainConfig):
        kind = hints[field.name]
        options: dict[str, Any] = {"default": None, "help": texts[field.name].replace("%", "%%")}
        if get_origin(kind):
            options["choices"] = get_args(kind)
        elif kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options |= {"type": kind, "metavar": kind.__name__}
        result.add_argument(f"--{field.name.replace('_', '-')}", **options)
    return result


class Bar:
    """A progress bar a run: loss while an epoch goes on, a line of figures when it is done."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None

    def __call__(self, figures: dict[str, Any]) -> None:
        if "steps" in figures:
            if self.bar is None:
                self.bar = tqdm(total=figures["steps"], initial=figures["step"], unit="step", mininterval=1)
            self.bar.update()
            self.bar.set_postfix(epoch=figures["epoch"] + 1, loss=f"{figures['loss']:.3f}", refresh=False)
            return
        top5 = "" if figures["top5"] is None else f"  top-5 {figures['top5']:.2%}"
        tqdm.write(
            f"epoch {figures['epoch']}: training loss {figures['train_loss']:.3f}  "
            f"validation loss {figures['loss']:.3f}"
            f"  top-1 {figures['top1']:.2%}{top5}  {figures['images_per_second']:.0f} images/s"
        )


def main() -> int:
    """Run the command line; 1 and one line for an error that a user can mend."""
    arguments = vars(parser().parse_args())
    name, folder = arguments.pop("recipe"), arguments.pop("resume")
    root, runs_root = arguments.pop("data_root"), arguments.pop("runs_root")
    settings = {key: value for key, value in arguments.items() if value is not None}
    try:
        if (name is None) == (folder is None):
            raise SwinError("name either a recipe or --resume RUN; see --help.")
        if folder is not None:
            if settings:
                raise SwinError(f"a resumed run keeps its own settings; leave out --{next(iter(settings))}.")
            resume(folder, root=root, progress=Bar())
        else:
            config = recipe(name, **settings)
            init = weights_file(config.init, runs_root) if config.init else None
            folder = train(config, init=init, root=root, runs_root=runs_root, progress=Bar())
    except SwinError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train.py: stopped; --resume RUN goes on from the last full epoch.", file=sys.stderr)
        return 130
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
