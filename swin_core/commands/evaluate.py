"""Evaluate a model on a data set: `swinlens evaluate swin_micro_flowers --data flowers`."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from swin_core.audit.kept import read_audit
from swin_core.audit.maps import audit_folder
from swin_core.commands import shell
from swin_core.data.registry import DATA_SETS
from swin_core.evaluation.accuracy import Evaluation, evaluate_named, named_split
from swin_core.evaluation.calibration import Calibration, GroupConfidence, Measured, calibrate, confidence_groups
from swin_core.evaluation.corruptions import CORRUPTIONS, IMAGES, Robustness, robustness
from swin_core.evaluation.metrics import Metrics
from swin_core.evaluation.predictions import cached_predictions
from swin_core.figures.audit_groups import finding_images
from swin_core.runs import runs_root
from swin_core.system.distributed import Ranks
from swin_core.system.progress import Progress, ProgressBar
from swin_core.zoo.load import load


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog=shell.program("evaluate"),
        description="Cross-entropy, top-1, top-5, recall of each class, and its mean where classes are uneven.",
    )
    result.add_argument("model", help="a bundled name, a run, or any other name that swinlens explain takes")
    result.add_argument(
        "--data", required=True, help=f"{', '.join(DATA_SETS)}, or a folder with one folder of images for each class"
    )
    result.add_argument(
        "--split",
        help="train or val, as in the model's own training; another split of the data set; all of a folder (default: "
        f"{', '.join(f'{entry.splits[0]} of {name}' for name, entry in DATA_SETS.items())}, val of a folder with its "
        "own split, else all of a folder)",
    )
    result.add_argument("--json", metavar="FILE", type=Path, help="write all metrics and the confusion matrix here")
    result.add_argument(
        "--strict", action="store_true", help="refuse files that cannot be used, instead of skipping them"
    )
    result.add_argument(
        "--mirror",
        action="store_true",
        help="also evaluate the mean of the logits of each image and its mirror image, beside the plain metrics",
    )
    result.add_argument(
        "--calibration",
        action="store_true",
        help="also measure how far the probabilities can be trusted: calibration error, by class, by finding of an "
        "audit, and the temperature that would mend it",
    )
    result.add_argument(
        "--corruptions",
        action="store_true",
        help="also measure accuracy under blur, noise, brightness, contrast and JPEG at five strengths",
    )
    result.add_argument(
        "--images",
        metavar="N",
        type=shell.count,
        default=IMAGES,
        help="images that are corrupted, drawn at random; 0 for all (default: %(default)s)",
    )
    shell.add_precision(result)
    shell.add_roots(result)
    return result


@dataclass(frozen=True, eq=False)
class TrustedEvaluation:
    """An evaluation with what `--calibration` and `--corruptions` add."""

    evaluation: Evaluation
    calibration: Calibration | None = None
    groups: tuple[GroupConfidence, ...] = ()
    """Confidence by class, then by finding of an audit of the same model and images."""
    robustness: Robustness | None = None
    findings: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Which images show each finding, `(N,)` bool."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = self.evaluation.to_dict()
        if self.calibration is not None:
            values["calibration"] = self.calibration.to_dict() | {"groups": list(map(asdict, self.groups))}
        if self.robustness is not None:
            of = {name: rows[self.robustness.rows] for name, rows in self.findings.items()}
            values["corruptions"] = self.robustness.to_dict() | {
                "findings": {
                    name: [float(result.right[rows].mean()) for result in self.robustness.results]
                    for name, rows in of.items()
                    if rows.any()
                }
            }
        return values


def lines(evaluation: Evaluation) -> str:
    """Return the metrics as text: a line for each class, then the total."""
    metrics = evaluation.metrics
    counts = metrics.confusion.sum(1)
    rows = [
        f"{share:8.2%} of {count:5}  {label}"
        for share, count, label in zip(metrics.per_class, counts, evaluation.labels, strict=True)
        if count
    ]
    if evaluation.skipped:
        rows.append(f"skipped {len(evaluation.skipped)} files:")
        rows += [f"  {file}" for file in evaluation.skipped]
    if evaluation.trained_on:
        rows.append(
            f"{evaluation.model} was trained on {evaluation.trained_on} of these images: the metrics are optimistic"
        )
    if evaluation.left_out:
        rows.append(f"left out, since {evaluation.model} does not know them: {', '.join(evaluation.left_out)}")
    rows.append(
        f"{evaluation.model} on {metrics.count} images of {evaluation.data}, split {evaluation.split}: "
        f"{_totals(metrics)}"
    )
    if evaluation.mirrored is not None:
        rows.append(f"with the mean of the logits of each image and its mirror image: {_totals(evaluation.mirrored)}")
    return "\n".join(rows)


def _totals(metrics: Metrics) -> str:
    top5 = "" if metrics.top5 is None else f"  top-5 {metrics.top5:.2%}"
    balanced = f"  balanced {metrics.balanced:.2%}" if metrics.is_uneven else ""
    return f"loss {metrics.loss:.4f}  top-1 {metrics.top1:.2%}{top5}{balanced}"


def trust_lines(found: TrustedEvaluation) -> str:
    """Return the evaluation, the calibration and the accuracy under corruptions as text."""
    rows = [lines(found.evaluation)]
    if (measured := found.calibration) is not None:
        rows += ["", "mean confidence minus accuracy, with 95 % interval:"]
        rows += [
            f"{100 * group.gap.value:+7.1f}  ({100 * group.gap.low:+.1f} to {100 * group.gap.high:+.1f})  "
            f"{group.count:5} images  {group.name}"
            for group in found.groups
        ]
        rows.append(
            f"mean confidence {measured.confidence:.2%}, accuracy {measured.accuracy:.2%}, "
            f"calibration error {_interval(measured.error)} of {measured.count} images"
        )
        if (fit := measured.temperature) is not None:
            rows.append(
                f"temperature {fit.temperature:.3f}, fitted on one half: on the other half the calibration error goes "
                f"from {_interval(fit.before)} to {_interval(fit.after)}; it is not applied"
            )
    if (robust := found.robustness) is not None:
        rows += ["", f"accuracy of {len(robust.rows)} images under corruptions, strengths 1 to 5:"]
        rows.append(f"{'as they are':>12}  {robust.results[0].accuracy:7.2%}")
        for name in CORRUPTIONS:
            shares = "  ".join(f"{result.accuracy:7.2%}" for result in robust.results if result.name == name)
            rows.append(f"{name:>12}  {shares}")
        for name, images in found.findings.items():
            of = images[robust.rows]
            if of.any():
                before, after = (100 * share for share in _with_and_without_corruption(robust, of))
                rows.append(f"finding {name}: {before:.1f} % as they are, {after:.1f} % on average under corruptions")
    return "\n".join(rows)


def _with_and_without_corruption(robust: Robustness, of: np.ndarray) -> tuple[float, float]:
    first, *others = (float(result.right[of].mean()) for result in robust.results)
    return first, float(np.mean(others))


def _interval(measured: Measured) -> str:
    return f"{measured.value:.2%} ({measured.low:.2%} to {measured.high:.2%})"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status. A user's error is printed as one line."""
    options = parser().parse_args(arguments)
    evaluate = partial(
        evaluate_named,
        options.model,
        options.data,
        options.split,
        root=options.data_root,
        runs_root=runs_root(options.runs_root),
        strict=options.strict,
        mirror=options.mirror,
        precision=options.precision,
    )
    if not options.calibration and not options.corruptions:
        return shell.measure(shell.program("evaluate"), options.json, evaluate, lines, "images")
    more = partial(_with_trust, options, evaluate)
    return shell.measure(shell.program("evaluate"), options.json, more, trust_lines, "images")


def _with_trust(
    options: argparse.Namespace, evaluate: Callable[..., Evaluation], ranks: Ranks, progress: Progress | None
) -> TrustedEvaluation:
    """Evaluate on all ranks, and measure the rest on the main one, where predictions are cached."""
    evaluation = evaluate(ranks=ranks, progress=progress)
    if not ranks.is_main:
        return TrustedEvaluation(evaluation)
    runs = runs_root(options.runs_root)
    classifier = load(options.model, runs_root=runs, precision=options.precision)
    dataset = named_split(options.model, options.data, options.split, options.data_root, runs)
    findings = finding_images(read_audit(audit_folder(classifier, dataset)), dataset.names)
    result = TrustedEvaluation(evaluation, findings=findings)
    if options.calibration:
        measured = calibrate(classifier, dataset, progress=ProgressBar("images"))
        groups = confidence_groups(cached_predictions(classifier, dataset), findings)
        result = replace(result, calibration=measured, groups=groups)
    if options.corruptions:
        robust = robustness(classifier, dataset, options.images, progress=ProgressBar("corrupted images"))
        result = replace(result, robustness=robust)
    return result
