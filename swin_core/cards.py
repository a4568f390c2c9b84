"""Bundle a run: its weights under a name in `assets/`, with figures on the test split and a model card."""

import json
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from swin_core.accuracy import Evaluation
from swin_core.errors import ConfigError, ModelError
from swin_core.model import build
from swin_core.training.config import TrainConfig
from swin_core.training.evaluation import Figures
from swin_core.training.recipes import RECIPES
from swin_core.weights import load_weights, read_config, read_metadata, save_weights

__all__ = ["bundle", "training_data"]

_CONFUSIONS = 10  # pairs shown on a card; the JSON file has the whole matrix


def training_data(run: Path) -> str:
    """The data set that a run trained on, as its config names it.

    Raises `ModelError` if the folder holds no run.
    """
    return _config(run).data


def bundle(run: Path, name: str, description: str, found: Evaluation, assets: Path, note: str = "") -> Path:
    """Copy a run's weights to `assets/NAME.safetensors` and write `NAME.json` and `NAME.md` beside them.

    Args:
        run: the run's folder.
        name: name of the bundled model; it bears the name of its data set.
        description: one line on the model.
        found: the model's figures on the split that was kept for them.
        assets: the folder of bundled models.
        note: a line for the card, on what the figures do not tell.

    Returns:
        The model card.

    Raises:
        ModelError: the folder holds no finished run.
        ConfigError: a name that is none.
    """
    if not name.isidentifier():
        raise ConfigError(f"{name[:80]!r} is no name of a model; use letters, digits and '_'.")
    weights = run / "model.safetensors"
    config = _config(run)
    try:
        epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise ModelError(f"{run} is no finished run: {error}") from error
    metadata = read_metadata(weights)
    model = build(read_config(weights))
    load_weights(model, weights)
    metadata.pop("config")
    save_weights(model, assets / f"{name}.safetensors", {**metadata, "description": description})
    facts = {
        "name": name,
        "description": description,
        "command": _command(config),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_minutes": round(sum(epoch["seconds"] for epoch in epochs) / 60, 1),
        "machine": _machine(),
        "note": note,
        "settings": config.to_dict(),
        "epochs": epochs,
        "evaluation": found.to_dict(),
    }
    (assets / f"{name}.json").write_text(json.dumps(facts) + "\n")
    card = assets / f"{name}.md"
    card.write_text(_card(facts, found))
    return card


def _config(run: Path) -> TrainConfig:
    try:
        return TrainConfig.of_run(run)
    except ConfigError as error:
        raise ModelError(str(error)) from error


def _command(config: TrainConfig) -> str:
    """The shortest command that gives these settings."""
    given = config.to_dict()

    def differing(recipe: str) -> dict[str, Any]:
        default = RECIPES[recipe].config.to_dict()
        return {key: value for key, value in given.items() if value != default[key]}

    recipe = min(RECIPES, key=lambda name: len(differing(name)))
    options = []
    for key, value in differing(recipe).items():
        option = key.replace("_", "-")
        switch = isinstance(value, bool)
        options += [f"--{'' if value else 'no-'}{option}"] if switch else [f"--{option}", str(value)]
    return shlex.join(["python", "scripts/train.py", recipe, *options])


def _machine() -> str:
    capability = torch.backends.cpu.get_cpu_capability()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{os.cpu_count()} {platform.machine()} cores ({capability}), {gpu}, PyTorch {torch.__version__.split('+')[0]}"
    )


def _card(facts: Mapping[str, Any], found: Evaluation) -> str:
    figures = found.figures
    note = f"\n- Note: {facts['note']}" if facts["note"] else ""
    top5 = "" if figures.top5 is None else f" Top-5: **{figures.top5:.2%}**."
    settings = "\n".join(f"| {key} | {value} |" for key, value in facts["settings"].items())
    curve = "\n".join(
        f"| {epoch['epoch']} | {epoch['train_loss']:.3f} | {epoch['loss']:.3f} | {epoch['top1']:.2%} | "
        f"{'' if epoch['top5'] is None else format(epoch['top5'], '.2%')} |"
        for epoch in facts["epochs"]
    )
    return f"""# {facts["name"]}

{facts["description"]}

- Parameters: {facts["parameters"]:,}
- Command: `{facts["command"]}`
- Time: {facts["training_minutes"]} minutes of training
- Machine: {facts["machine"]}{note}
- Evaluated on: the {found.split} split of {found.data}, {figures.count:,} pictures

Top-1: **{figures.top1:.2%}**.{top5} Cross-entropy: **{figures.loss:.4f}** nats.

## Confusion

{_confusion(figures, found.labels)}

## Curve

Validation is on what the recipe holds out; losses of training have label smoothing and augmentation in them.

| epoch | training loss | validation loss | top-1 | top-5 |
|---|---|---|---|---|
{curve}

## Settings

| setting | value |
|---|---|
{settings}
"""


def _confusion(figures: Figures, labels: Sequence[str]) -> str:
    if len(labels) <= 10:
        head = "| right class | " + " | ".join(labels) + " |\n|" + "---|" * (len(labels) + 1)
        rows = [
            f"| {label} | " + " | ".join(str(count) for count in row) + " |"
            for label, row in zip(labels, figures.confusion, strict=True)
        ]
        return "\n".join(["Rows are the right class, columns what was predicted.", "", head, *rows])
    wrong = figures.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(wrong, axis=None)[::-1][:_CONFUSIONS]
    pairs = [np.unravel_index(place, wrong.shape) for place in order]
    rows = [f"| {labels[right]} | {labels[taken]} | {wrong[right, taken]} |" for right, taken in pairs]
    head = "| right class | taken for | pictures |\n|---|---|---|"
    return "\n".join(
        ["The most frequent mistakes; the JSON file beside this card has the whole matrix.", "", head, *rows]
    )
