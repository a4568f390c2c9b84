"""Ablations: the same training of models that lack a part of Swin, or are another kind, and what came of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from swin_core import runs
from swin_core.errors import ConfigError, ModelError, RunError
from swin_core.evaluation.accuracy import Evaluation
from swin_core.training.config import TrainConfig, recorded_settings
from swin_core.training.launch import launch, launch_new
from swin_core.training.recipes import recipe
from swin_core.training.run_writer import Progress
from swin_core.zoo.load import load, weights_file

__all__ = [
    "ABLATIONS",
    "MAIN",
    "RANDOM",
    "Ablation",
    "Result",
    "as_json",
    "bundled_training",
    "evaluated",
    "finetuning",
    "found",
    "from_json",
    "table",
    "together",
    "trained",
    "training",
]

RANDOM, MAIN = "random", "main"
"""Beside the ablations, for fine-tuning: random weights, and a bundled model's."""


@dataclass(frozen=True)
class Ablation:
    """One model to train as all others."""

    title: str
    changes: Mapping[str, Any]
    """Settings in place of the recipe's."""
    paper: float
    """Published top-1 of its like on ImageNet-1k, in percent."""
    source: str
    """Where that stands."""


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
"""The paper's ablations (table 4), its all-MLP variant, and the plain ViT that it is compared with, by name."""


@dataclass(frozen=True)
class Result:
    """What came of one run."""

    setting: str
    """A key of `ABLATIONS`, `RANDOM` or `MAIN`."""
    seed: int
    run: str
    """Name of the run."""
    weights_hash: str
    data: str
    split: str
    top1: float
    top5: float | None
    loss: float
    minutes: float
    """Time of training."""
    parameters: int


def training(setting: str, seed: int, **changes: Any) -> TrainConfig:
    """The config that trains an ablation from random weights: `swin_nano`, or what stands in its place.

    Args:
        setting: a key of `ABLATIONS`.
        seed: of weights, order and augmentation.
        changes: settings in place of those of `fast-cifar100`, the same for all.

    Raises:
        ConfigError: no such ablation, or a wrong setting.
    """
    if setting not in ABLATIONS:
        raise ConfigError(f"there is no ablation {setting[:40]!r}; choose from {', '.join(ABLATIONS)}.")
    own = {"variant": "swin_nano", **changes, **ABLATIONS[setting].changes}
    return recipe("fast-cifar100", **own, name=f"ablation-{setting}-seed{seed}", seed=seed)


def finetuning(setting: str, start: TrainConfig, init: str, data: str, **changes: Any) -> TrainConfig:
    """The config that fine-tunes a model on a folder, in one way that suits all of them.

    Patches grow to twice their side, and windows stay as many tokens as they were: so each model keeps all its weights,
    Swin-MLP its mixing matrices too, which are lost at another window. A ViT's one window stays the whole image.

    Args:
        setting: what to call it.
        start: how the weights were trained; of random weights, how they would have been.
        init: the weights' name, or empty for random ones.
        data: the folder.
        changes: settings in place of those of `custom`, the same for all.
    """
    usual = recipe("custom", **{**changes, "data": data})
    patch = 2 * start.patch_size
    whole = start.window_size * start.patch_size >= start.image_size
    names = ("variant", "shift", "relative_position_bias", "absolute_embedding", "seed")
    return replace(
        usual,
        **{name: getattr(start, name) for name in names},
        init=init,
        patch_size=patch,
        window_size=-(-usual.image_size // patch) if whole else start.window_size,
        name=f"finetuned-{setting}-seed{start.seed}",
    )


def bundled_training(name: str, runs_root: Path) -> TrainConfig:
    """How a model's weights were trained, as their file tells.

    Raises:
        ModelError: it does not, so that their patches and windows are not known.
    """
    recorded = recorded_settings(weights_file(name, runs_root))
    if "variant" not in recorded:
        raise ModelError(f"{name[:80]!r} does not say how it was trained; name a bundled model or a run.")
    return TrainConfig.from_dict(recorded)


def trained(
    config: TrainConfig,
    root: Path,
    *,
    devices: Sequence[str] = ("cpu",),
    processes: int = 1,
    data_root: str | None = None,
    progress: Callable[[], Progress] | None = None,
) -> runs.Run:
    """The finished run of a config: one that is there, one that goes on, or a new one.

    A run of the same settings is found by its name in `root`; its state decides.

    Args:
        config: all settings.
        root: folder of the runs.
        devices, processes: as `choose_devices` gives them.
        data_root: folder of the data sets; None for the usual place.
        progress: makes what is told of each step, if the run is not finished.

    Raises:
        RunError: it was stopped, or is under way elsewhere; the same call goes on later.
        SwinError: as for `launch`.
    """
    run = found(config, root)
    if run is not None and run.state == "finished":
        return run
    if run is not None and run.alive:
        raise RunError(f"run {run.name} is under way already; wait for its end, or stop it with swinlens runs stop.")
    folder = runs.create(config.to_dict(), root) if run is None else run.folder
    runs.write_launch(folder, devices=list(devices), processes=processes, max_restarts=0, data_root=data_root)
    begin = launch_new if run is None else launch
    if begin(folder, progress() if progress else None) != "finished":
        raise RunError(f"stopped in {folder.name}; the same command goes on from there.")
    return runs.find(folder.name, root)


def found(config: TrainConfig, root: Path) -> runs.Run | None:
    """The newest run of exactly these settings, one that is finished before any other; or None."""
    wanted = config.to_dict()
    same = [run for run in runs.list_runs(root) if run.config == wanted]
    return max(same, key=lambda run: run.state == "finished", default=None)


def evaluated(
    setting: str, run: runs.Run, known: Iterable[Result], evaluate: Callable[[runs.Run], Evaluation]
) -> Result:
    """The figures of a finished run, unless they are known already.

    Args:
        setting: what was trained.
        run: the run.
        known: results of earlier calls; one of the same weights is taken over.
        evaluate: evaluates the run's model on the images that are kept for it.
    """
    classifier = load(str(run.folder))
    for result in known:
        if (result.setting, result.run, result.weights_hash) == (setting, run.name, classifier.weights_hash):
            return result
    measured = evaluate(run)
    return Result(
        setting=setting,
        seed=int(run.config["seed"]),
        run=run.name,
        weights_hash=classifier.weights_hash,
        data=measured.data,
        split=measured.split,
        top1=measured.metrics.top1,
        top5=measured.metrics.top5,
        loss=measured.metrics.loss,
        minutes=round(sum(line["seconds"] for line in run.metrics()) / 60, 2),
        parameters=sum(parameter.numel() for parameter in classifier.model.parameters()),
    )


def table(results: Sequence[Result], paper: bool) -> str:
    """Results as a Markdown table: mean over the seeds, and half of the range from the lowest to the highest.

    Args:
        results: of any settings and seeds.
        paper: whether the paper's figures and what they say stand beside.
    """
    groups: dict[str, list[Result]] = {}
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
            _spread([100 * one.top1 for one in group], 2, " %"),
            _spread([100 * value for value in top5], 2, " %") if top5 else "",
            _spread([one.loss for one in group], 3),
            f"{group[0].parameters:,}",
            f"{sum(one.minutes for one in group) / len(group):.1f}",
        ]
        rows.append(row + (_beside(setting, groups) if paper else []))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _spread(values: Sequence[float], digits: int, unit: str = "") -> str:
    mean = f"{sum(values) / len(values):.{digits}f}"
    return f"{mean} ± {(max(values) - min(values)) / 2:.{digits}f}{unit}" if len(values) > 1 else f"{mean}{unit}"


def _beside(setting: str, groups: Mapping[str, Sequence[Result]]) -> list[str]:
    """What a setting's top-1 says beside the full model's, what the paper says, and whether they agree."""
    published = ABLATIONS[setting]
    stands = f"{published.paper:.1f} % ({published.source})"
    if setting == "full" or "full" not in groups:
        return ["", stands, ""]
    own, full = ([row.top1 for row in groups[name]] for name in (setting, "full"))
    gap = 100 * (sum(own) / len(own) - sum(full) / len(full))
    if min(len(own), len(full)) < 2:
        return [f"{gap:+.2f}, one seed", stands, "not decided"]
    apart = max(own) < min(full) or min(own) > max(full)
    words = f"{gap:+.2f}" if apart else f"{gap:+.2f}, within the seeds' spread"
    theirs = published.paper - ABLATIONS["full"].paper
    if not apart:
        return [words, stands, "not decided" if theirs else "yes"]
    return [words, stands, "yes" if gap * theirs > 0 else "no"]


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Results as plain values; `from_json` reads them again."""
    return [asdict(result) for result in results]


def from_json(rows: Sequence[object]) -> list[Result]:
    """The results that `as_json` wrote; what is none is left out."""
    names = set(Result.__dataclass_fields__)
    found = [row for row in rows if isinstance(row, dict) and set(row) == names]
    return [Result(**row) for row in found if isinstance(row["setting"], str) and isinstance(row["run"], str)]


def together(results: Sequence[Result], known: Iterable[Result]) -> list[Result]:
    """Results, and those known before of other runs, such as trials of fewer epochs: nothing measured is lost."""
    done = {(result.setting, result.run) for result in results}
    return [*results, *(result for result in known if (result.setting, result.run) not in done)]
