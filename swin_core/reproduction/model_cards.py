"""Bundle a run: copy its weights to `assets/`, with its metrics on the test split and a model card."""

import json
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swin_core import runs
from swin_core.data.registry import public_data_set
from swin_core.errors import ConfigError, ModelError, SwinError
from swin_core.evaluation.accuracy import Evaluation
from swin_core.evaluation.metrics import Metrics
from swin_core.models.swin import Swin
from swin_core.system.atomic import write_file
from swin_core.training.config import TrainConfig
from swin_core.training.recipes import changed_settings, nearest_recipe
from swin_core.weights.files import load_weights, read_config, read_metadata, save_weights

FILE_BYTES, ALL_BYTES = 16_000_000, 60_000_000
"""Largest size of a bundled weights file, and of all bundled files together."""

_POINTS = 0.1
"""Percentage points by which half precision may change a metric; one image is always allowed."""
_CONFUSIONS = 10  # pairs shown on a card; the JSON file has the whole matrix


def training_data(run: Path) -> str:
    """Return the data set that a finished run was trained on, as its config names it.

    Raises:
        ModelError: the folder holds no finished run.
    """
    return _finished(run)[0].data


def check_target(name: str, assets: Path) -> None:
    """Check the name and folder of a bundled model, before the model is evaluated.

    Raises:
        ConfigError: an invalid name, or a missing folder.
    """
    if not name.isidentifier():
        raise ConfigError(f"{name[:80]!r} is not a valid model name; use letters, digits and '_'.")
    if not assets.is_dir():
        raise ConfigError(f"{assets} is not a folder; make it, or name another by --assets.")


def evaluated_split(data: str) -> str | None:
    """Return the split whose metrics a card shows: the default one (None) of a known data set, "val" of a folder."""
    return None if public_data_set(data) else "val"


def bundle(
    run: Path,
    name: str,
    description: str,
    evaluation: Evaluation,
    assets: Path,
    note: str = "",
    evaluate_half: Callable[[Path], Evaluation] | None = None,
) -> Path:
    """Copy a run's weights to `assets/NAME.safetensors` and write `NAME.json` and `NAME.md` beside them.

    Args:
        run: the run's folder.
        name: name of the bundled model, which includes that of its data set.
        description: one line on the model; a limit of images and changes on the way are added.
        evaluation: the model's metrics on the split of `evaluated_split`.
        assets: the folder of bundled models.
        note: a line for the card, on what the metrics do not show.
        evaluate_half: evaluates a weights file on the same split. If given, the weights are stored in half precision,
            and the card shows the metrics of the stored file.

    Returns:
        The model card.

    Raises:
        ModelError: the folder holds no finished run, or half precision changes a metric by more than 0.1 points and one
            image.
        ConfigError: an invalid name, files that are too large, or a folder that cannot be written.
    """
    check_target(name, assets)
    weights = run / "model.safetensors"
    config, epochs = _finished(run)
    description = "; ".join([description, *runs.remarks_on(config.to_dict(), runs.read_changes(run))])
    evaluation, stored = _store(weights, assets / f"{name}.safetensors", description, evaluation, evaluate_half)
    facts = {
        "name": name,
        "description": description,
        "command": _command(config),
        "parameters": sum(parameter.numel() for parameter in Swin(read_config(weights)).parameters()),
        "training_minutes": round(sum(epoch["seconds"] for epoch in epochs) / 60, 1),
        "machine": runs.read_status(run).get("machine", "not recorded"),
        "precision": "float16" if evaluate_half else "float32",
        "bytes": len(stored),
        "note": note,
        "settings": config.to_dict(),
        "epochs": epochs,
        "evaluation": evaluation.to_dict(),
    }
    write_file(assets / f"{name}.json", (json.dumps(facts, separators=(",", ":")) + "\n").encode())
    card = assets / f"{name}.md"
    write_file(card, _card(facts, evaluation).encode())
    return card


def _store(
    weights: Path,
    target: Path,
    description: str,
    evaluation: Evaluation,
    evaluate_half: Callable[[Path], Evaluation] | None,
) -> tuple[Evaluation, bytes]:
    """Write a run's weights to `target`, after checking their size and, in half precision, their metrics.

    Returns:
        The metrics of the stored weights, and the bytes of the file.
    """
    model = Swin(read_config(weights))
    load_weights(model, weights)
    metadata = read_metadata(weights)
    metadata.pop("config")
    with tempfile.TemporaryDirectory() as drafts:
        draft = Path(drafts) / target.name
        save_weights(model.half() if evaluate_half else model, draft, {**metadata, "description": description})
        _check_size(draft, target.parent)
        if evaluate_half is not None:
            half = evaluate_half(draft)
            _check_metrics(evaluation.metrics, half.metrics)
            evaluation = half
        content = draft.read_bytes()
    write_file(target, content)
    return evaluation, content


def _check_size(draft: Path, assets: Path) -> None:
    """Refuse a file that is too large, alone or together with the other bundled ones."""
    size = draft.stat().st_size
    others = sum(file.stat().st_size for file in assets.iterdir() if file.is_file() and file.stem != draft.stem)
    if size > FILE_BYTES:
        raise ConfigError(
            f"{draft.name} would have {size / 1e6:.1f} MB, and a bundled file has at most {FILE_BYTES / 1e6:.0f} MB; "
            "bundle it in half precision, or a smaller model."
        )
    if size + others > ALL_BYTES:
        raise ConfigError(
            f"with {draft.name} all bundled files would have {(size + others) / 1e6:.1f} MB, at most "
            f"{ALL_BYTES / 1e6:.0f} MB are allowed; remove one, or bundle them in half precision."
        )


def _check_metrics(before: Metrics, after: Metrics) -> None:
    """Refuse half precision if it changes top-1 or top-5 too much."""
    for title, old, new in (("top-1", before.top1, after.top1), ("top-5", before.top5, after.top5)):
        # The addend absorbs rounding of a difference of exactly 0.1 points, or of one image.
        allowed = max(_POINTS, 100 / before.count) + 1e-9
        if old is not None and new is not None and 100 * abs(new - old) > allowed:
            raise ModelError(
                f"half precision changes {title} from {old:.2%} to {new:.2%}, more than {_POINTS} points and one "
                "image; bundle the weights as they are."
            )


def _finished(run: Path) -> tuple[TrainConfig, list[runs.EpochMetrics]]:
    """Return the settings of a finished run and the metrics of its epochs."""
    try:
        config, listed = TrainConfig.of_run(run), runs.find(run.absolute().name, run.absolute().parent)
    except SwinError as error:
        raise ModelError(str(error)) from error
    epochs = listed.metrics()
    ended_early = 0 < config.patience < len(epochs)
    if listed.state != "finished" or not (len(epochs) == config.epochs or ended_early):
        raise ModelError(f"{run} is not a finished run: {len(epochs)} of {config.epochs} epochs, state {listed.state}.")
    return config, epochs


def _command(config: TrainConfig) -> str:
    """Return the shortest command that gives these settings, apart from the run's name."""
    settings = config.to_dict()
    recipe = nearest_recipe(settings)
    options = []
    for key, value in changed_settings(settings, recipe, ignored=("name",)).items():
        option = key.replace("_", "-")
        switch = isinstance(value, bool)
        options += [f"--{'' if value else 'no-'}{option}"] if switch else [f"--{option}", str(value)]
    return shlex.join(["swinlens", "train", recipe, *options])


def _number(value: float | None, style: str) -> str:
    """Format a number; empty for a missing one, such as top-5 among five classes."""
    return "" if value is None else format(value, style)


def _card(facts: Mapping[str, Any], evaluation: Evaluation) -> str:
    metrics = evaluation.metrics
    note = f"\n- Note: {facts['note']}" if facts["note"] else ""
    half = ", computed with as float32; the metrics are of the stored file" if facts["precision"] == "float16" else ""
    top5 = "" if metrics.top5 is None else f" Top-5: **{metrics.top5:.2%}**."
    settings = "\n".join(f"| {key} | {value} |" for key, value in facts["settings"].items())
    curve = "\n".join(
        f"| {epoch['epoch']} | {epoch['train_loss']:.3f} | {_number(epoch['loss'], '.3f')} | {epoch['top1']:.2%} | "
        f"{_number(epoch['top5'], '.2%')} |"
        for epoch in facts["epochs"]
    )
    return f"""# {facts["name"]}

{facts["description"]}

- Parameters: {facts["parameters"]:,}, stored as {facts["precision"]} in {facts["bytes"] / 1e6:.1f} MB{half}
- Command: `{facts["command"]}`
- Time: {facts["training_minutes"]} minutes of training
- Machine: {facts["machine"]}{note}
- Evaluated on: the {evaluation.split} split of {evaluation.data}, {metrics.count:,} images

Top-1: **{metrics.top1:.2%}**.{top5} Cross-entropy: **{metrics.loss:.4f}** nats.

## Confusion

{_confusion(metrics, evaluation.labels)}

## Curve

Validation uses the recipe's hold-out. Training losses include label smoothing and augmentation.

| epoch | training loss | validation loss | top-1 | top-5 |
|---|---|---|---|---|
{curve}

## Settings

| setting | value |
|---|---|
{settings}
"""


def _confusion(metrics: Metrics, labels: Sequence[str]) -> str:
    if len(labels) <= 10:
        head = "| right class | " + " | ".join(labels) + " |\n|" + "---|" * (len(labels) + 1)
        rows = [
            f"| {label} | " + " | ".join(str(count) for count in row) + " |"
            for label, row in zip(labels, metrics.confusion, strict=True)
        ]
        return "\n".join(["Rows are the right class, columns what was predicted.", "", head, *rows])
    wrong = metrics.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(wrong, axis=None)[::-1][:_CONFUSIONS]
    pairs = [np.unravel_index(index, wrong.shape) for index in order]
    rows = [f"| {labels[right]} | {labels[taken]} | {wrong[right, taken]} |" for right, taken in pairs]
    head = "| right class | taken for | images |\n|---|---|---|"
    return "\n".join(
        ["The most frequent mistakes; the JSON file beside this card has the whole matrix.", "", head, *rows]
    )
