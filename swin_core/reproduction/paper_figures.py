"""Figures 5, 6, 9 and 10 of the reproduced report, drawn from data sets, runs and model cards."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from swin_core import runs
from swin_core.data.catalog import each_class_in_turn
from swin_core.data.dataset import DataSet
from swin_core.errors import ConfigError, ModelError
from swin_core.figures.palette import INK, SERIES
from swin_core.figures.text import shorten
from swin_core.images.preprocessing import crop_square
from swin_core.system.atomic import write_file
from swin_core.training.config import TrainConfig
from swin_core.zoo.load import ASSETS, load, weights_file

REPORT = {"loss": 2.5975, "top1": 0.4604, "top5": 0.7603}
"""The reproduced report's metrics on CIFAR-100's test images after 150 epochs."""

KINDS = ("png", "jpg", "pdf")
"""File types."""
DOTS_PER_INCH = 110
_GREY, _LINE = "#5B6673", "#D5DAE1"
_SHEET_SIDE = 96
"""Side of an image on a sheet, in pixels."""
_MAX_CLASS_ROWS = 10
"""With more classes than this, a sheet has one image for each class instead of a row."""


@dataclass(frozen=True)
class TrainedModel:
    """A model and the record of its training."""

    name: str
    weights: Path
    config: TrainConfig
    epochs: Sequence[Mapping[str, Any]]
    """One mapping per epoch, as in `metrics.jsonl`."""
    evaluation: Mapping[str, Any]
    """Metrics on the test split; of a run, which has none, those of its last epoch."""


def trained_model(name: str, runs_root: str | Path = "runs") -> TrainedModel:
    """Read a bundled model's card or a run's folder.

    Args:
        name: name of a bundled model, or name or folder of a run.
        runs_root: folder of the runs.

    Raises:
        ModelError: it is neither, or the run has no finished epoch.
    """
    weights = weights_file(name, runs_root)
    card = weights.with_suffix(".json")
    if weights.parent == ASSETS and card.is_file():
        facts = json.loads(card.read_text())
        return TrainedModel(
            name, weights, TrainConfig.from_dict(facts["settings"]), facts["epochs"], facts["evaluation"]
        )
    folder = weights.parent.absolute()  # "." has no name
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name[:80]!r} is neither a bundled model nor a run, so its training is not recorded.")
    run = runs.find(folder.name, folder.parent)
    epochs = run.metrics()
    if not epochs:
        raise ModelError(f"the run {run.name} has no finished epoch yet; wait for its first one.")
    return TrainedModel(run.title, weights, TrainConfig.of_run(folder), epochs, {**epochs[-1], "split": "held out"})


def kind_of(path: Path, kinds: Sequence[str] = KINDS) -> str:
    """Return the file type that a path's suffix names.

    Raises:
        ConfigError: it is not one of `kinds`.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in kinds:
        raise ConfigError(f"a figure cannot be written as {path.name!r}: name a file .{', .'.join(kinds)}.")
    return kind


def save(figure: Figure, path: Path) -> None:
    """Write a figure as .png, .jpg or .pdf.

    Raises:
        ConfigError: another suffix, or the file cannot be written.
    """
    kind = kind_of(path)
    options: dict[str, Any] = {"pil_kwargs": {"quality": 85, "optimize": True}} if kind == "jpg" else {}
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=DOTS_PER_INCH, **options)
    write_file(path, stream.getvalue())


def sample_sheet(dataset: DataSet, columns: int = 10) -> Figure:
    """Draw images of every class (figures 5 and 6).

    With few classes, each has a row of images after its name; with many, each has one image above its name.

    Args:
        dataset: the images.
        columns: images per row.

    Raises:
        DataError: an image cannot be read.
    """
    few = len(dataset.classes) <= _MAX_CLASS_ROWS
    if few:
        members = [np.flatnonzero(dataset.labels == label)[:columns] for label in range(len(dataset.classes))]
        chosen = np.concatenate(members).tolist()
    else:
        chosen = each_class_in_turn(dataset.labels)[: len(dataset.classes)].tolist()
    rows = len(dataset.classes) if few else -(-len(chosen) // columns)
    cell, below, before, margin = 0.92, 0.0 if few else 0.2, 1.0 if few else 0.0, 0.12
    width = 2 * margin + before + columns * cell
    height = 2 * margin + rows * (cell + below)
    figure = Figure(figsize=(width, height), facecolor="white")
    counts: dict[int, int] = {}
    for number, index in enumerate(chosen):
        label = int(dataset.labels[index])
        row, column = (label, counts.get(label, 0)) if few else divmod(number, columns)
        counts[label] = counts.get(label, 0) + 1
        x, y = margin + before + column * cell, margin + row * (cell + below)
        axes = figure.add_axes((x / width, 1 - (y + cell * 0.95) / height, cell * 0.95 / width, cell * 0.95 / height))
        image = dataset.image(index, _SHEET_SIDE)
        axes.imshow(crop_square(image, min(_SHEET_SIDE, *image.size)), interpolation="nearest")
        axes.set_axis_off()
        name = dataset.classes[label].replace("_", " ")
        if few and column == 0:
            figure.text(
                (margin + before - 0.08) / width,
                1 - (y + cell / 2) / height,
                name,
                ha="right",
                va="center",
                fontsize=10,
                color=INK,
            )
        elif not few:
            figure.text(
                (x + cell * 0.475) / width, 1 - (y + cell + 0.09) / height, name, ha="center", fontsize=7, color=INK
            )
    return figure


def curves(models: Sequence[TrainedModel]) -> Figure:
    """Draw loss, top-1 and top-5 over the epochs of one or several models (figure 9).

    For models on CIFAR-100, dashed lines show the report's metrics after its 150 epochs.

    Raises:
        ConfigError: no model, or more models than colours (eight).
    """
    if not 1 <= len(models) <= len(SERIES):
        raise ConfigError(f"curves are drawn for 1 to {len(SERIES)} models, not for {len(models)}.")
    figure = Figure(figsize=(11, 3.7 + 0.2 * len(models)), facecolor="white", layout="constrained")
    panels = figure.subplots(1, 3)
    report = all(model.config.data == "cifar100" for model in models)
    titles = {"loss": "Loss", "top1": "Top-1, %", "top5": "Top-5, %"}
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        scale = 1 if key == "loss" else 100
        for model, colour in zip(models, SERIES, strict=False):
            alone = len(models) == 1
            if key == "loss":
                _draw(axes, model, "train_loss", 1, colour, "training" if alone else "", "--")
            words = "" if key != "loss" else "validation" if alone else model.name
            _draw(axes, model, key, scale, colour, words, "-")
        if report:
            _report_line(axes, REPORT[key] * scale, key)
        _plain(axes, title)
    panels[0].legend(frameon=False, fontsize=8, labelcolor=INK)
    return figure


def _draw(axes: Axes, model: TrainedModel, key: str, scale: float, colour: str, label: str, style: str) -> None:
    known = [(line["epoch"], scale * line[key]) for line in model.epochs if line.get(key) is not None]
    if known:
        x, y = zip(*known, strict=True)
        mark = "o" if len(known) == 1 else ""
        thin = style == "--"
        axes.plot(x, y, style, marker=mark, color=colour, linewidth=1.1 if thin else 1.9, label=label or None)


def _report_line(axes: Axes, value: float, key: str) -> None:
    axes.axhline(value, color=_GREY, linewidth=1, linestyle=(0, (4, 3)))
    words = f"report, test: {value:.4f}" if key == "loss" else f"report, test: {value:.2f} %"
    axes.annotate(
        words,
        (0.99, value),
        xycoords=("axes fraction", "data"),
        xytext=(0, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
        color=_GREY,
    )


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.set_xlabel("epoch", fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LINE)
    axes.tick_params(colors=_GREY, labelsize=8)
    axes.grid(axis="y", color=_LINE, linewidth=0.6)
    axes.set_xlim(left=0)
    axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]


def saved_models(models: Sequence[TrainedModel]) -> Figure:
    """Draw a table of saved models, and the curves of the fine-tuned ones (figure 10).

    The table has each file's parameters, size, hash and metrics.

    Raises:
        ConfigError: no model, or more models than colours (eight).
    """
    if not 1 <= len(models) <= len(SERIES):
        raise ConfigError(f"saved models are drawn for 1 to {len(SERIES)} models, not for {len(models)}.")
    tuned = [model for model in models if model.config.init]
    table, chart = 0.34 * (len(models) + 1) + 0.3, 2.9 if tuned else 0.0
    figure = Figure(figsize=(11, table + chart), facecolor="white")
    _table(figure, [_facts(model) for model in models], table + chart)
    if tuned:
        shares = (0.065, 0.55), (0.6, 0.975)
        for (left, right), (key, title) in zip(shares, (("loss", "Loss"), ("top1", "Top-1, %")), strict=True):
            axes = figure.add_axes((left, 0.55 / (table + chart), right - left, (chart - 0.95) / (table + chart)))
            for model in tuned:
                colour = SERIES[models.index(model)]
                if key == "loss":
                    _draw(axes, model, "train_loss", 1, colour, f"{model.name}, training", "--")
                _draw(axes, model, key, 1 if key == "loss" else 100, colour, f"{model.name}, validation", "-")
            _plain(axes, f"Fine-tuning: {title}" if key == "loss" else title)
            if key == "loss":
                axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return figure


HEADS = ("model", "starts from", "parameters", "file", "SHA-256", "top-1", "top-5", "loss", "measured on")
_COLUMN_POSITIONS = (0.012, 0.2, 0.345, 0.44, 0.53, 0.65, 0.725, 0.8, 0.865)


def _facts(model: TrainedModel) -> tuple[str, ...]:
    """Return a model's row of the table, in the order of `HEADS`."""
    classifier = load(str(model.weights))
    metrics = model.evaluation
    return (
        shorten(model.name, 25),
        shorten(Path(model.config.init).name or "random weights", 19),
        f"{sum(parameter.numel() for parameter in classifier.model.parameters()) / 1e6:.2f} million",
        f"{model.weights.stat().st_size / 1e6:.1f} MB",
        classifier.weights_hash[:12],
        _number(metrics.get("top1"), 100, ".2f", " %"),
        _number(metrics.get("top5"), 100, ".2f", " %"),
        _number(metrics.get("loss"), 1, ".3f"),
        shorten(f"{Path(metrics.get('data', model.config.data)).name}, {metrics['split']}", 19),
    )


def _number(value: float | None, scale: float, digits: str, unit: str = "") -> str:
    """Format a metric; empty if it is missing: with few classes there is no top-5, and a loss may be NaN."""
    return "" if value is None else f"{scale * value:{digits}}{unit}"


def _table(figure: Figure, rows: Sequence[tuple[str, ...]], whole: float) -> None:
    for number, row in enumerate((HEADS, *rows)):
        y = 1 - (0.2 + 0.34 * number) / whole
        for x, text in zip(_COLUMN_POSITIONS, row, strict=True):
            figure.text(
                x,
                y,
                text,
                fontsize=8.5,
                color=INK,
                va="center",
                parse_math=False,
                fontweight="bold" if number == 0 else "normal",
            )
        axes = figure.add_axes((0.012, y - 0.17 / whole, 0.976, 0.001))
        axes.set_axis_off()
        axes.axhline(0, color=_LINE, linewidth=1)
