"""Change settings of a run that is resumed, where that is safe.

A change is safe if the saved state fits, and if the run goes on with the images that it was trained and validated on.
The learning rate of each later step is that of a run with the new settings from its start: with more epochs it rises.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from swin_core import runs
from swin_core.errors import ConfigError, RunError
from swin_core.runs.changing import write_end
from swin_core.runs.files import FINDINGS
from swin_core.runs.locks import run_lock
from swin_core.runs.read_only import refuse_if_read_only
from swin_core.training.config import TrainConfig

_FIXED: dict[str, tuple[str, ...]] = {
    "a run is renamed by swinlens runs rename": ("name",),
    "images that it was trained on could become validation images": ("data", "holdout", "limit", "seed"),
    "its saved weights would not fit": (
        *("variant", "image_size", "patch_size", "window_size"),
        *("shift", "relative_position_bias", "absolute_embedding"),
    ),
    "the saved state of its optimizer would not fit": ("optimizer", "weight_decay", "layer_decay", "freeze", "ema"),
    "the run goes on from its own weights": ("init",),
    "the steps of an epoch would change": ("batch_size",),
}
"""Settings that a run keeps, by the reason."""

FIXED = {name: reason for reason, names in _FIXED.items() for name in names}


def change_settings(folder: Path, settings: Mapping[str, Any]) -> TrainConfig:
    """Change settings of a run that has ended, for its next start; record what changed, and after which epoch.

    Args:
        folder: the run's folder.
        settings: new values by name; equal ones are no change.

    Returns:
        The run's config.

    Raises:
        ConfigError: a setting cannot be changed, or a value is out of range.
        RunError: the run is running, or somebody else changes it.
    """
    refuse_if_read_only()
    config = TrainConfig.of_run(folder)
    if not _changed(config, settings):  # also while it is running
        return config
    with run_lock(folder):
        run = runs.find(folder.name, folder.parent)
        if run.alive:
            raise RunError(f"run {run.name} is running; stop it first, then change its settings.")
        config = TrainConfig.of_run(folder)
        before, changed = config.to_dict(), _changed(config, settings)
        for name in changed:
            if name in FIXED:
                raise ConfigError(
                    f"{name} of a run cannot be changed: {FIXED[name]}; start a new run, with --init {run.name} to go "
                    "on from its weights."
                )
        done = max((row["epoch"] for row in run.metrics()), default=0)
        config = replace(config, **changed)
        if config.epochs < done:
            raise ConfigError(f"the run has done {done} epochs; epochs must be at least that, not {config.epochs}.")
        if "without" in changed:  # the run's own copy is of the file that the settings named before
            (folder / FINDINGS).unlink(missing_ok=True)
        runs.write_config(folder, config.to_dict())
        if run.state == "finished":
            write_end(folder, "stopped", "its settings were changed; resume it to go on")
        if changed and "step" in run.status:
            runs.add_change(folder, done, {name: (before[name], value) for name, value in changed.items()})
    return config


def _changed(config: TrainConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    before = config.to_dict()
    return {name: value for name, value in settings.items() if before.get(name) != value}
