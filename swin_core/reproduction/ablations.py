"""Train the paper's ablations with the same recipe, and compare the results."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swin_core import runs
from swin_core.errors import ConfigError, ModelError, RunError
from swin_core.evaluation.accuracy import Evaluation
from swin_core.training.config import TrainConfig, recorded_settings
from swin_core.training.launch import launch, launch_new
from swin_core.training.recipes import recipe
from swin_core.training.run_writer import OnMetrics
from swin_core.zoo.load import load, weights_file

RANDOM, MAIN = "random", "main"
"""Further settings for fine-tuning: random weights, and the weights of a bundled model."""


@dataclass(frozen=True)
class Ablation:
    """One model of the comparison."""

    title: str
    changes: Mapping[str, Any]
    """Settings that replace the recipe's."""
    paper: float
    """Published top-1 of the corresponding model on ImageNet-1k, in percent."""
    source: str
    """Where that is published."""


ABLATIONS = {
    "full": Ablation("Swin", {}, 81.3, "Swin-T, table 4"),
    "no-shift": Ablation("without shift", {"shift": False}, 80.2, "w/o shifting, table 4"),
    "no-bias": Ablation("without position bias", {"relative_position_bias": False}, 80.1, "no pos., table 4"),
    "absolute": Ablation("with absolute embedding", {"absolute_embedding": True}, 81.3, "abs. + rel. pos., table 4"),
    "mlp": Ablation("Swin-MLP", {"variant": "swin_mlp_nano"}, 79.4, "the authors' SwinMLP-T/C24, 256 px"),
    "vit": Ablation(
        "ViT of the same size", {"variant": "vit_nano", "patch_size": 4, "window_size": 8}, 79.8, "DeiT-S, table 1"
    ),
}
"""The paper's ablations (table 4), the authors' all-MLP variant, and a plain ViT, by name."""


@dataclass(frozen=True)
class AblationResult:
    """Metrics of one run."""

    setting: str
    """A key of `ABLATIONS`, `RANDOM` or `MAIN`."""
    seed: int
    run: str
    weights_hash: str
    data: str
    split: str
    top1: float
    top5: float | None
    loss: float
    minutes: float
    """Duration of the training."""
    parameters: int


def ablation_config(setting: str, seed: int, **changes: Any) -> TrainConfig:
    """Return the config that trains an ablation of `swin_nano` from random weights.

    Args:
        setting: a key of `ABLATIONS`.
        seed: seed of weights, order and augmentation.
        changes: settings that replace those of `fast-cifar100`, the same for all ablations.

    Raises:
        ConfigError: no such ablation, or a wrong setting.
    """
    if setting not in ABLATIONS:
        raise ConfigError(f"there is no ablation {setting[:40]!r}; choose from {', '.join(ABLATIONS)}.")
    own = {"variant": "swin_nano", **changes, **ABLATIONS[setting].changes}
    return recipe("fast-cifar100", **own, name=f"ablation-{setting}-seed{seed}", seed=seed)


def finetuning_config(setting: str, start: TrainConfig, init: str, data: str, **changes: Any) -> TrainConfig:
    """Return the config that fine-tunes a model on a folder, in the same way for all models.

    Patches get twice their side and windows keep their number of tokens, so that each model keeps all its weights: the
    mixing matrices of Swin-MLP depend on the window. The one window of a ViT remains the whole image.

    Args:
        setting: name of the setting.
        start: config that the initial weights were trained with, or would have been if they are random.
        init: name of the initial weights; empty for random ones.
        data: the folder.
        changes: settings that replace those of `custom`, the same for all models.
    """
    base = recipe("custom", **{**changes, "data": data})
    patch = 2 * start.patch_size
    global_window = start.window_size * start.patch_size >= start.image_size
    names = ("variant", "shift", "relative_position_bias", "absolute_embedding", "seed")
    return replace(
        base,
        **{name: getattr(start, name) for name in names},
        init=init,
        patch_size=patch,
        window_size=-(-base.image_size // patch) if global_window else start.window_size,
        name=f"finetuned-{setting}-seed{start.seed}",
    )


def bundled_training(name: str, runs_root: Path) -> TrainConfig:
    """Return the config that a model was trained with, as recorded in its weights file.

    Raises:
        ModelError: the file does not record it, so that patch and window size are unknown.
    """
    recorded = recorded_settings(weights_file(name, runs_root))
    if "variant" not in recorded:
        raise ModelError(f"{name[:80]!r} does not say how it was trained; name a bundled model or a run.")
    return TrainConfig.from_dict(recorded)


def finish_run(
    config: TrainConfig,
    root: Path,
    *,
    devices: Sequence[str] = ("cpu",),
    processes: int = 1,
    data_root: str | None = None,
    progress: Callable[[], OnMetrics] | None = None,
) -> runs.Run:
    """Return the finished run of a config: an existing one, one that is resumed, or a new one.

    Args:
        config: all settings.
        root: folder of the runs.
        devices, processes: from `choose_devices`.
        data_root: folder of the data sets; None for the default.
        progress: makes the function that reports the steps, if the run is not finished.

    Raises:
        RunError: the run was stopped, or another process trains it; the same call resumes it later.
        SwinError: as for `launch`.
    """
    run = find_run(config, root)
    if run is not None and run.state == "finished":
        return run
    if run is not None and run.alive:
        raise RunError(f"run {run.name} is already running; wait for its end, or stop it with swinlens runs stop.")
    folder = runs.create(config.to_dict(), root) if run is None else run.folder
    runs.write_launch(folder, devices=list(devices), processes=processes, max_restarts=0, data_root=data_root)
    begin = launch_new if run is None else launch
    if begin(folder, progress() if progress else None) != "finished":
        raise RunError(f"stopped in {folder.name}; the same command resumes it.")
    return runs.find(folder.name, root)


def find_run(config: TrainConfig, root: Path) -> runs.Run | None:
    """Return the newest finished run with exactly these settings, else the newest unfinished one, else None."""
    settings = config.to_dict()
    same = [run for run in runs.list_runs(root) if run.config == settings]
    return max(same, key=lambda run: run.state == "finished", default=None)


def run_result(
    setting: str, run: runs.Run, known: Iterable[AblationResult], evaluate: Callable[[runs.Run], Evaluation]
) -> AblationResult:
    """Evaluate a finished run, unless an earlier result has the same weights.

    Args:
        setting: setting of the run.
        run: the run.
        known: results of earlier calls.
        evaluate: evaluates the run's model on its test images.
    """
    classifier = load(str(run.folder))
    for result in known:
        if (result.setting, result.run, result.weights_hash) == (setting, run.name, classifier.weights_hash):
            return result
    evaluation = evaluate(run)
    return AblationResult(
        setting=setting,
        seed=int(run.config["seed"]),
        run=run.name,
        weights_hash=classifier.weights_hash,
        data=evaluation.data,
        split=evaluation.split,
        top1=evaluation.metrics.top1,
        top5=evaluation.metrics.top5,
        loss=evaluation.metrics.loss,
        minutes=round(sum(line["seconds"] for line in run.metrics()) / 60, 2),
        parameters=sum(parameter.numel() for parameter in classifier.model.parameters()),
    )


def markdown_table(results: Sequence[AblationResult], paper: bool) -> str:
    """Return results as a Markdown table: mean over the seeds, and half of the range between lowest and highest.

    Args:
        results: results of any settings and seeds.
        paper: whether to add the paper's results, and whether ours agree with them.
    """
    groups: dict[str, list[AblationResult]] = {}
    for result in results:
        groups.setdefault(result.setting, []).append(result)
    head = ["model", "seeds", "top-1", "top-5", "loss", "parameters", "minutes"]
    head += ["beside the full model", "paper", "as in the paper"] if paper else []
    rows = [head, ["---", *["--:"] * 6, *(["---", "--:", "---"] if paper else [])]]
    for setting, group in groups.items():
        top5 = [row.top5 for row in group if row.top5 is not None]
        row = [
            ABLATIONS[setting].title if setting in ABLATIONS else setting,
            str(len(group)),
            _spread([100 * result.top1 for result in group], 2, " %"),
            _spread([100 * value for value in top5], 2, " %") if top5 else "",
            _spread([result.loss for result in group], 3),
            f"{group[0].parameters:,}",
            f"{sum(result.minutes for result in group) / len(group):.1f}",
        ]
        rows.append(row + (_compare_with_paper(setting, groups) if paper else []))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _spread(values: Sequence[float], digits: int, unit: str = "") -> str:
    mean = f"{sum(values) / len(values):.{digits}f}"
    return f"{mean} ± {(max(values) - min(values)) / 2:.{digits}f}{unit}" if len(values) > 1 else f"{mean}{unit}"


def _compare_with_paper(setting: str, groups: Mapping[str, Sequence[AblationResult]]) -> list[str]:
    """Return a setting's difference to the full model in top-1, the paper's top-1, and whether the two agree.

    The seeds decide only if the ranges of the two settings do not overlap.
    """
    published = ABLATIONS[setting]
    paper = f"{published.paper:.1f} % ({published.source})"
    if setting == "full" or "full" not in groups:
        return ["", paper, ""]
    own, full = ([row.top1 for row in groups[name]] for name in (setting, "full"))
    gap = 100 * (sum(own) / len(own) - sum(full) / len(full))
    if min(len(own), len(full)) < 2:
        return [f"{gap:+.2f}, one seed", paper, "not decided"]
    apart = max(own) < min(full) or min(own) > max(full)
    difference = f"{gap:+.2f}" if apart else f"{gap:+.2f}, within the seeds' spread"
    paper_gap = published.paper - ABLATIONS["full"].paper
    if not apart:
        return [difference, paper, "not decided" if paper_gap else "yes"]
    return [difference, paper, "yes" if gap * paper_gap > 0 else "no"]


def read_results(rows: Sequence[object]) -> list[AblationResult]:
    """Return the results among values read from JSON; other values are left out."""
    names = set(AblationResult.__dataclass_fields__)
    complete = [row for row in rows if isinstance(row, dict) and set(row) == names]
    return [
        AblationResult(**row) for row in complete if isinstance(row["setting"], str) and isinstance(row["run"], str)
    ]


def merge_results(results: Sequence[AblationResult], known: Iterable[AblationResult]) -> list[AblationResult]:
    """Return `results` and those of `known` from other runs, such as trials of fewer epochs."""
    done = {(result.setting, result.run) for result in results}
    return [*results, *(result for result in known if (result.setting, result.run) not in done)]
