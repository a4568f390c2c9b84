"""Rank the attribution methods and layers of a model by their faithfulness on a data set.

All methods at all layers explain the top-1 class of the same images. Their maps are measured as `assess` measures a
single map, and compared with two baselines.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from swin_core.attribution.dispatch import attribute, chosen_method
from swin_core.attribution.layers import offered_layers
from swin_core.attribution.lrp import relevance_layers
from swin_core.attribution.methods import INPUT, METHODS, Method
from swin_core.data.dataset import DataSet
from swin_core.errors import ConfigError, SwinError
from swin_core.system.distributed import SINGLE, Ranks
from swin_core.system.progress import Progress
from swin_core.trust.baselines import BASELINES
from swin_core.trust.measurements import Candidate, GridSize, RankingMeasurements, RankingSums
from swin_core.zoo.classifier import Classifier


@dataclass(frozen=True)
class RankingRow:
    """Mean measurements of one method at one layer; None where not measured."""

    method: str
    """A key of `METHODS`, or of `BASELINES`."""
    layer: str
    """Target layer; "input" for a method that explains the pixels; or the grid of a baseline."""
    srg: float
    """Symmetric relevance gain, -1 to 1; higher is better, random maps reach 0 on average."""
    srg_error: float
    """Standard error of SRG over the images."""
    better: float | None
    """Share of the images whose SRG beats both baselines."""
    deletion: float
    """Area under the deletion curve; lower is better."""
    insertion: float | None
    """Area under the insertion curve; higher is better."""
    road: float | None
    """ROAD, -0.5 to 0.5; higher is better."""
    focus: float | None
    """Share of the map on the target's cells of mosaics, 0 to 1; higher is better, chance is 0.5."""
    focus_error: float | None
    """Standard error of the focus over the mosaics."""
    random_logit: float | None
    """Spearman's rank correlation with the map of another class; lower is better."""
    spearman: tuple[float, ...]
    """Spearman's rank correlation with the maps after each part was randomised; the last should be near 0."""
    ssim: tuple[float, ...]
    """Structural similarity after each part was randomised."""
    milliseconds: float | None
    """Time per map, computed in batches."""


@dataclass(frozen=True)
class Ranking:
    """Measurements of all methods at all layers, highest SRG first."""

    model: str
    weights_hash: str
    data: str
    split: str
    images: int
    """Number of images explained."""
    steps: int
    """Points of a curve after the first."""
    mosaics: int
    """Mosaics for the focus; 0 if model and data have different classes."""
    parts: tuple[str, ...]
    """Parts of the model in the order in which they were randomised."""
    rows: tuple[RankingRow, ...]
    left_out: dict[str, str]
    """Methods at layers that cannot explain this model, with the reason."""
    skipped: tuple[str, ...] = ()
    """Files that were not used, with the reason."""
    products: str = ""
    """Type of the model's matrix products in the measurements, such as "float32"."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def table(self) -> str:
        """The rows as a Markdown table, with a dash where nothing was measured."""

        def number(value: float | None, form: str = "{:.3f}") -> str:
            return "-" if value is None else form.format(value)

        heads = ["method", "layer", "SRG", "better", "deletion", "insertion", "ROAD", "focus", "other class", "random"]
        lines = [f"| {' | '.join([*heads, 'ms'])} |", "|---" * 2 + "|--:" * (len(heads) - 1) + "|"]
        for row in self.rows:
            cells = [
                METHODS[row.method].title if row.method in METHODS else BASELINES[row.method],
                row.layer,
                f"{row.srg:+.3f} +- {row.srg_error:.3f}",
                number(row.better, "{:.0%}"),
                f"{row.deletion:.3f}",
                number(row.insertion),
                number(row.road, "{:+.3f}"),
                number(row.focus),
                number(row.random_logit, "{:+.2f}"),
                number(row.spearman[-1] if row.spearman else None, "{:+.2f}"),
                number(row.milliseconds, "{:.1f}"),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)


def candidates(classifier: Classifier, methods: Sequence[str] = (), layers: Sequence[str] = ()) -> list[Candidate]:
    """All pairs of method and layer to rank; a method that explains the pixels appears once, relevance also at stages.

    Args:
        classifier: the model.
        methods: keys of `METHODS`, or `method@layer` for a method at one layer; by default the methods of one pass.
        layers: target layers; by default `offered_layers`.

    Raises:
        ConfigError: an unknown method, or one that is not offered.
    """
    pairs: list[Candidate] = []
    for entry in methods or [name for name, facts in METHODS.items() if facts.cost == "one pass"]:
        name, _, layer = entry.partition("@")
        method = chosen_method(name)
        pairs += [(name, target) for target in ([layer] if layer else _layers_of(classifier, method, layers))]
    return list(dict.fromkeys(pairs))


def _layers_of(classifier: Classifier, method: Method, layers: Sequence[str]) -> Sequence[str]:
    """The layers at which a method is ranked if it names none itself."""
    if method.kind == "layer":
        return layers or offered_layers(classifier)
    if not method.staged:
        return [INPUT]
    return [layer for layer in relevance_layers(classifier.model) if layer == INPUT or not layers or layer in layers]


def rank(
    classifier: Classifier,
    dataset: DataSet,
    methods: Sequence[str] = (),
    layers: Sequence[str] = (),
    *,
    images: int | None = None,
    steps: int = 8,
    quick: bool = False,
    seed: int = 0,
    ranks: Ranks = SINGLE,
    progress: Progress | None = None,
) -> Ranking:
    """Rank methods and layers by the faithfulness of their maps.

    Args:
        classifier: the model.
        dataset: the images; the labels are used for the mosaics only.
        methods, layers: as for `candidates`.
        images: number of images to explain, chosen at random; None for all.
        steps: points of a curve after the first.
        quick: skip insertion and ROAD, which take most of the time.
        seed: seed of the choice of images, random maps, contrast classes and mosaics.
        ranks: the processes that share the images; each gets the whole result.
        progress: called with the number of maps that this rank has computed, and will compute.

    Raises:
        ConfigError: an unknown method, no method that can explain this model, or too few images or steps.
        DataError: no image can be read.
    """
    if steps < 2:
        raise ConfigError(f"a curve needs at least 2 steps, not {steps}.")
    if images is not None and images < 1:
        raise ConfigError(f"a ranking needs at least 1 image, not {images}.")
    measurements = RankingMeasurements(classifier, dataset, images, seed)
    grids, left_out = _able(measurements, candidates(classifier, methods, layers))
    if not grids:
        raise ConfigError(f"no method can explain {classifier.name}: {next(iter(left_out.values()))}")
    sums = measurements.run(grids, steps, quick, ranks, progress)
    rows = [_row(sums, candidate) for candidate in sums.candidates]
    return Ranking(
        model=classifier.name,
        weights_hash=classifier.weights_hash,
        data=dataset.name,
        split=dataset.split,
        images=len(measurements.order),
        steps=steps,
        mosaics=len(measurements.scenes),
        parts=measurements.parts,
        rows=tuple(sorted(rows, key=lambda row: -row.srg)),
        left_out=left_out,
        skipped=tuple(map(str, measurements.skipped)),
        products=classifier.products,
    )


def _able(
    measurements: RankingMeasurements, pairs: Sequence[Candidate]
) -> tuple[dict[Candidate, GridSize], dict[str, str]]:
    """Try each method at its layer on one image: the grids of the maps, and the errors of those that fail."""
    grids: dict[Candidate, GridSize] = {}
    left_out: dict[str, str] = {}
    batch, targets = measurements.explained(measurements.order[:1])
    for method, layer in pairs:
        try:
            shape = attribute(measurements.classifier, batch, targets, method, layer).shape
        except SwinError as error:
            left_out[f"{method} {layer}"] = str(error)
        else:
            grids[method, layer] = (shape[2], shape[3])
    return grids, left_out


def _row(sums: RankingSums, candidate: Candidate) -> RankingRow:
    mean = sums.mean(candidate)
    focus, focus_error = sums.focus(candidate)
    spearman, ssim = sums.randomised(candidate)
    return RankingRow(
        *candidate,
        srg=mean["srg"],
        srg_error=mean["srg_error"],
        better=mean.get("better"),
        deletion=mean["deletion"],
        insertion=mean.get("insertion"),
        road=mean.get("road"),
        focus=focus,
        focus_error=focus_error,
        random_logit=mean.get("random_logit"),
        spearman=spearman,
        ssim=ssim,
        milliseconds=1000 * mean["seconds"] if "seconds" in mean else None,
    )
