"""Which method at which layer can be believed most, for a model on a whole split.

Every method at every layer explains the same images, for the class that the model itself chooses, and is measured as
`trust` measures one map, beside two baselines.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from swin_core.attribution.dispatch import attribute, chosen_method
from swin_core.attribution.layers import offered_layers
from swin_core.attribution.lrp import relevance_layers
from swin_core.attribution.methods import INPUT, METHOD_FACTS, METHODS, Method
from swin_core.data.dataset import DataSet
from swin_core.errors import ConfigError, SwinError
from swin_core.system.distributed import SINGLE, Ranks
from swin_core.system.progress import Progress
from swin_core.trust.baselines import BASELINES
from swin_core.trust.measurements import Choice, GridSize, RankingSums, Survey
from swin_core.zoo.classifier import Classifier

__all__ = ["Ranking", "RankingRow", "choices", "rank"]


@dataclass(frozen=True)
class RankingRow:
    """What was measured of one method at one layer, means over the images; None where it was not measured."""

    method: str
    """A key of `METHODS`, or of `BASELINES`."""
    layer: str
    """The target layer, "input" for a method that explains the pixels, or a baseline's grid."""
    srg: float
    """Symmetric relevance gain, -1 to 1; higher is better, random maps have 0 on average."""
    srg_error: float
    """Standard error of it over the images."""
    better: float | None
    """Share of the images where SRG is above that of the blob and above the size of a random map's."""
    deletion: float
    """Area under the deletion curve; lower is better."""
    insertion: float | None
    """Area under the insertion curve; higher is better."""
    road: float | None
    """ROAD, -0.5 to 0.5; higher is better."""
    focus: float | None
    """Share of the map's mass on the target's cells of mosaics, 0 to 1; chance is 0.5."""
    focus_error: float | None
    """Standard error of it over the mosaics."""
    random_logit: float | None
    """Spearman's rank correlation with the map of another class; low is good."""
    spearman: tuple[float, ...]
    """Spearman's rank correlation with the maps after each part was randomised; the last near 0 is good."""
    ssim: tuple[float, ...]
    """The same by structural similarity."""
    milliseconds: float | None
    """Time to make one map, in batches, on the machine that measured."""


@dataclass(frozen=True)
class Ranking:
    """All rows, the highest SRG first."""

    model: str
    weights_hash: str
    data: str
    split: str
    pictures: int
    """Images that were explained."""
    steps: int
    """Points of a curve beyond the first."""
    mosaics: int
    """Mosaics for the focus; 0 where model and data have different classes."""
    parts: tuple[str, ...]
    """The model's parts in the order in which they were randomised."""
    rows: tuple[RankingRow, ...]
    left_out: dict[str, str]
    """Methods and layers that cannot explain this model, with the reason."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def table(self) -> str:
        """The rows as a table in Markdown, with directions; a dash stands where nothing was measured."""
        heads = ["method", "layer", "SRG", "better", "deletion", "insertion", "ROAD", "focus", "other class", "random"]
        lines = [f"| {' | '.join([*heads, 'ms'])} |", "|---" * 2 + "|--:" * (len(heads) - 1) + "|"]
        for row in self.rows:
            cells = [
                METHODS.get(row.method) or BASELINES[row.method],
                row.layer,
                f"{row.srg:+.3f} +- {row.srg_error:.3f}",
                _figure(row.better, "{:.0%}"),
                f"{row.deletion:.3f}",
                _figure(row.insertion),
                _figure(row.road, "{:+.3f}"),
                _figure(row.focus),
                _figure(row.random_logit, "{:+.2f}"),
                _figure(row.spearman[-1] if row.spearman else None, "{:+.2f}"),
                _figure(row.milliseconds, "{:.1f}"),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)


def _figure(value: float | None, form: str = "{:.3f}") -> str:
    return "-" if value is None else form.format(value)


def choices(classifier: Classifier, methods: Sequence[str] = (), layers: Sequence[str] = ()) -> list[Choice]:
    """Every method at every layer; methods that explain the pixels once, and relevance at the stages too.

    Args:
        classifier: the model.
        methods: keys of `METHODS`, or `method@layer` for a method at one layer only; by default those of one pass.
        layers: target layers; by default all that are offered.

    Raises:
        ConfigError: an unknown method, or one that is not offered; it says why.
    """
    found: list[Choice] = []
    for wanted in methods or [name for name, facts in METHOD_FACTS.items() if facts.cost == "one pass"]:
        name, _, layer = wanted.partition("@")
        method = chosen_method(name)
        found += [(name, place) for place in ([layer] if layer else _places(classifier, method, layers))]
    return list(dict.fromkeys(found))


def _places(classifier: Classifier, method: Method, layers: Sequence[str]) -> Sequence[str]:
    """Where a method is measured if no layer of its own is named."""
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
    pictures: int | None = None,
    steps: int = 8,
    quick: bool = False,
    seed: int = 0,
    ranks: Ranks = SINGLE,
    progress: Progress | None = None,
) -> Ranking:
    """Rank methods and layers by how far their maps can be believed.

    Args:
        classifier: the model.
        dataset: the images; their labels matter for the mosaics alone.
        methods, layers: as for `choices`.
        images: how many to explain, drawn by the seed; None for all.
        steps: points of a curve beyond the first.
        quick: leave out insertion and ROAD, which take most of the time.
        seed: of the images, random maps, other classes and mosaics.
        ranks: the processes that share the images; each gets the whole result.
        progress: called with the maps measured by this process and their number.

    Raises:
        ConfigError: an unknown method, none that can explain this model, or too few images or steps.
        DataError: an image cannot be read.
    """
    if steps < 2:
        raise ConfigError(f"a curve needs at least 2 steps, not {steps}.")
    if pictures is not None and pictures < 1:
        raise ConfigError(f"a ranking needs at least 1 image, not {pictures}.")
    survey = Survey(classifier, dataset, pictures, seed)
    grids, left_out = _able(survey, choices(classifier, methods, layers))
    if not grids:
        raise ConfigError(f"no method can explain {classifier.name}: {next(iter(left_out.values()))}")
    found = survey.run(grids, steps, quick, ranks, progress)
    rows = [_row(found, choice) for choice in found.choices]
    return Ranking(
        model=classifier.name,
        weights_hash=classifier.weights_hash,
        data=dataset.name,
        split=dataset.split,
        pictures=len(survey.order),
        steps=steps,
        mosaics=len(survey.scenes),
        parts=survey.parts,
        rows=tuple(sorted(rows, key=lambda row: -row.srg)),
        left_out=left_out,
    )


def _able(survey: Survey, wanted: Sequence[Choice]) -> tuple[dict[Choice, GridSize], dict[str, str]]:
    """The grid of each choice's maps, and why the others have none, tried on one image."""
    grids: dict[Choice, GridSize] = {}
    left_out: dict[str, str] = {}
    batch, targets = survey.explained(survey.order[:1])
    for method, layer in wanted:
        try:
            shape = attribute(survey.classifier, batch, targets, method, layer).shape
        except SwinError as error:
            left_out[f"{method} {layer}"] = str(error)
        else:
            grids[method, layer] = (shape[2], shape[3])
    return grids, left_out


def _row(found: RankingSums, choice: Choice) -> RankingRow:
    """The means of one choice's sums."""
    mean = found.mean(choice)
    focus, focus_error = found.focus(choice)
    spearman, ssim = found.randomised(choice)
    return RankingRow(
        *choice,
        srg=mean["srg"],
        srg_error=found.error(choice),
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
