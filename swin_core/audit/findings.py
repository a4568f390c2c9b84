"""The audit: candidates of all classes, each tested by interventions, and the findings among them."""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from swin_core.attribution.defaults import default_method
from swin_core.audit.bench import Bench, bootstrap, chances, drops, flips
from swin_core.audit.candidates import Candidate, place_candidates
from swin_core.audit.content import content_candidates
from swin_core.audit.duplicates import find_duplicates
from swin_core.audit.fitting import fitted_mask
from swin_core.audit.grouping import reported, stand_for_the_same
from swin_core.audit.interventions import Content, Faded, Intervention, Place, Shift
from swin_core.audit.kept import FORMAT, kept_step, read_audit, write_audit
from swin_core.audit.maps import GRID, WINDOW, RelevanceMaps, audit_folder, patch_slices, relevance_maps
from swin_core.audit.results import LEAST_EFFECT, STRENGTHS, Audit, FileSize, Tested
from swin_core.audit.shifts import carriers, file_facts, shift_candidates, size_differences
from swin_core.data.dataset import DataSet
from swin_core.errors import DataError
from swin_core.evaluation.predictions import data_state
from swin_core.images.data_uri import image_uri
from swin_core.system.progress import counter
from swin_core.zoo.classifier import Classifier

ERROR = 0.05
"""Chance that any candidate of an audit passes by chance."""
SCREENED = 48
"""Most pairs of images in the first, short test of a candidate."""
PASSES = 0.08
"""Effect in the short test from which a candidate is tested on all pairs."""
DONORS, PASTES = 100, 3
"""Most images of a class whose region is pasted, and how many others each is pasted into."""
CHECKED = 1000
"""Most images of a class that are checked for what was found."""
KEPT_PATCHES = 8
"""Patches of a finding of content that are kept with it."""
LEAST_IMAGES = 8
"""Images of a class, and of others to paste into, that a test needs."""

AuditProgress = Callable[[str, int, int], None]
"""Called with what is counted, "files", "images" or "candidates", the number done and their total."""


def audit(
    classifier: Classifier,
    dataset: DataSet,
    *,
    others: Sequence[DataSet] = (),
    seed: int = 0,
    root: Path | None = None,
    progress: AuditProgress | None = None,
) -> Audit:
    """Look for regularities in what a model uses on a whole split, and test each by interventions.

    What is measured of each image and the result are kept on disk: an audit that was stopped goes on where it was, and
    one that was done is read. With the same seed the result is the same.

    Args:
        classifier: the model.
        dataset: the images. Without labels the predicted classes take their place.
        others: other splits of the data set, in which duplicates of the images are looked for.
        seed: seed of the pairs of images and of the bootstrap.
        root: folder of the caches; `cache_root()` if None.
        progress: called after each batch; an error that it raises stops the audit.

    Raises:
        ConfigError: the model is a regression.
        DataError: no image can be read.
        LayerError: the model has no layer with a map of the image.
    """

    def tick(what: str, total: int) -> Callable[[int], None]:
        return counter(None if progress is None else lambda done, count: progress(what, done, count), total)

    folder = audit_folder(classifier, dataset, root)
    compared = {part.split: data_state(part) for part in others}
    kept = read_audit(folder, seed)
    if kept is not None and kept.compared == compared:
        return kept
    splits = (dataset, *others)
    duplicates = find_duplicates(splits, tick("files", sum(map(len, splits))), root)
    if kept is None:
        maps, unreadable = relevance_maps(classifier, dataset, folder, tick("images", len(dataset)))
        skipped = tuple(dict.fromkeys(map(str, (*dataset.skipped, *unreadable))))
        if not (maps.groups >= 0).any():
            raise DataError(f"none of the {len(dataset)} images of {dataset.name} can be read; choose other images.")
        bench = Bench(classifier, dataset)
        kept = _tested(bench, maps, skipped, seed, folder, lambda total: tick("candidates", total))
    result = replace(kept, duplicates=duplicates, compared=compared)
    write_audit(result, folder)
    return result


def _tested(
    bench: Bench,
    maps: RelevanceMaps,
    skipped: tuple[str, ...],
    seed: int,
    folder: Path,
    count: Callable[[int], Callable[[int], None]],
) -> Audit:
    """Find the candidates, test them, and return the result; `count` gets their number and returns a progress.

    Each test is kept in `folder` until the audit has ended.
    """
    classifier, dataset, facts = bench.classifier, bench.dataset, file_facts(bench.dataset)
    candidates, untested = _testable(
        classifier,
        maps,
        (
            *place_candidates(maps, seed),
            *content_candidates(maps, seed),
            *shift_candidates(maps, facts, classifier.squash),
        ),
    )
    findings, others, merged = _findings(bench, maps, candidates, seed, folder, count(len(candidates)))
    groups = np.unique(maps.groups[maps.groups >= 0]).tolist()
    sizes = size_differences(maps, facts)
    return Audit(
        model=classifier.name,
        data=dataset.name,
        split=dataset.split,
        images=int((maps.groups >= 0).sum()),
        skipped=skipped,
        findings=findings,
        tested=others,
        merged=merged,
        untested=untested,
        smallest_effect=smallest_effect(candidates),
        method=default_method(classifier),
        seed=seed,
        products=classifier.products,
        file_sizes=tuple(FileSize(classifier.labels[group], own, rest) for group, own, rest in sizes),
        means={classifier.labels[g]: maps.maps[maps.members(g)].mean(0, dtype=np.float64) for g in groups},
    )


def _findings(
    bench: Bench,
    maps: RelevanceMaps,
    candidates: Sequence[Candidate],
    seed: int,
    folder: Path,
    step: Callable[[int], None],
) -> tuple[tuple[Tested, ...], tuple[Tested, ...], tuple[Tested, ...]]:
    """Test the candidates; return the findings, those below the threshold, and those that a finding already stands for.

    Each is sorted by strength. `step` is called with the number of candidates that were tested since the last call.
    """

    def test(candidate: Candidate, number: int) -> Tested:
        error = ERROR / len(candidates)
        key = _digest("test", candidate, seed + number, error)
        values = kept_step(folder, key, lambda: _test(bench, maps, candidate, error, seed + number).to_dict())
        return Tested.from_dict(values)

    def more(compute: Callable[..., dict[str, Any]], candidate: Candidate, number: int) -> dict[str, Any]:
        key = _digest(compute.__name__, candidate, seed + number)
        found = kept_step(folder, key, lambda: compute(bench, maps, candidate, seed + number, lambda: step(0)))
        return dict(found)

    results: list[tuple[Candidate, Tested]] = []
    for number, candidate in enumerate(candidates):
        results.append((candidate, test(candidate, number)))
        step(1)
    findings: list[tuple[Candidate, Tested]] = []
    taken = []
    for order, (candidate, tested) in enumerate(reported(results)):
        # A stronger finding has been fitted to its mark since; what shares a part with that is no finding of its own.
        if any(stand_for_the_same(candidate, stronger) for stronger, _ in findings):
            continue
        taken.append(tested)
        number = candidates.index(candidate)
        fitted = _fitted(bench, maps, candidate, seed + order, folder, lambda: step(0))
        if fitted is not candidate:
            again = test(fitted, order)
            if again.passes:
                candidate, tested, number = fitted, again, order
        found = more(_members, candidate, number) | {"curves": more(_curves, candidate, number)}
        findings.append((candidate, Tested.from_dict(tested.to_dict() | found)))
    others = [tested for _, tested in results if not tested.passes]
    merged = [tested for _, tested in results if tested.passes and not any(tested is each for each in taken)]
    return _by_strength(tested for _, tested in findings), _by_strength(others), _by_strength(merged)


def _by_strength(candidates: Iterable[Tested]) -> tuple[Tested, ...]:
    return tuple(sorted(candidates, key=lambda tested: -tested.strength))


def _digest(what: str, candidate: Candidate, seed: int, error: float = 0.0) -> str:
    """Return what identifies a step with a candidate, and how it is made."""
    parts = [FORMAT, what, asdict(candidate), seed, error, sorted(Tested.__dataclass_fields__)]
    return hashlib.sha256(json.dumps(parts, default=np.ndarray.tolist).encode()).hexdigest()[:40]


def _testable(
    classifier: Classifier, maps: RelevanceMaps, candidates: Sequence[Candidate]
) -> tuple[list[Candidate], dict[str, str]]:
    """Leave out the candidates of classes with too few images, here or elsewhere; return the reason for each class."""
    reasons: dict[int, str] = {}
    for group in {candidate.group for candidate in candidates}:
        own, others = len(maps.members(group)), len(_recipients(maps, group))
        if own < LEAST_IMAGES:
            reasons[group] = f"it has {own} of the {LEAST_IMAGES} images that a test needs"
        elif others < LEAST_IMAGES:
            reasons[group] = f"there are {others} of the {LEAST_IMAGES} images of other classes that a test needs"
    kept = [candidate for candidate in candidates if candidate.group not in reasons]
    return kept, {classifier.labels[group]: reason for group, reason in sorted(reasons.items())}


def _recipients(maps: RelevanceMaps, group: int) -> np.ndarray:
    """Return the images of other classes that the model does not take for this one."""
    return np.flatnonzero((maps.groups >= 0) & (maps.groups != group) & (maps.predicted != group))


def _test(bench: Bench, maps: RelevanceMaps, candidate: Candidate, error: float, seed: int) -> Tested:
    """Test a candidate: on few pairs first, and on all if it may be a finding."""
    intervention = candidate.intervention
    few, all_pairs = _pairs(maps, candidate, seed)

    def flipped(donors: np.ndarray, recipients: np.ndarray, control: bool) -> np.ndarray:
        return flips(bench, donors, recipients, candidate.group, intervention, control).astype(np.float64)

    donors, recipients = few
    flip, control, effect = flipped(donors, recipients, False), None, None
    if flip.mean() >= PASSES:
        control = flipped(donors, recipients, True)
        effect = bootstrap(flip - control, error, seed)
    short = Tested(
        class_name=bench.classifier.labels[candidate.group],
        kind=intervention.kind,
        region=intervention.region if isinstance(intervention, Place) else None,
        frame=isinstance(intervention, Place) and intervention.is_frame,
        relevance=candidate.relevance,
        pairs=len(donors),
        flip=bootstrap(flip, seed=seed),
        flip_control=None if control is None else bootstrap(control, seed=seed),
        effect=effect,
        statistic=intervention.statistic if isinstance(intervention, Shift) else "",
        by=intervention.by if isinstance(intervention, Shift) else (),
    )
    if effect is None or effect.value < PASSES:
        return short

    donors, recipients = all_pairs
    # One value for each donor: its pairs are not independent.
    flip, control = (
        flipped(np.tile(donors, PASTES), recipients, each).reshape(PASTES, -1).mean(0) for each in (False, True)
    )
    known = donors[maps.predicted[donors] == candidate.group]
    falls = [drops(bench, known, candidate.group, intervention, each) for each in (False, True)] if len(known) else []
    return replace(
        short,
        pairs=len(recipients),
        flip=bootstrap(flip, seed=seed),
        flip_control=bootstrap(control, seed=seed),
        effect=bootstrap(flip - control, error, seed),
        drop=bootstrap(falls[0], seed=seed) if falls else None,
        drop_control=bootstrap(falls[1], seed=seed) if falls else None,
        of_images=len(donors),
    )


def _pairs(
    maps: RelevanceMaps, candidate: Candidate, seed: int
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Draw the donors and recipients of the short test, and of the full one, which has `PASTES` of these per donor."""
    random = np.random.default_rng(seed)
    others = _recipients(maps, candidate.group)
    few = random.permutation(candidate.members)[:SCREENED]
    few_recipients = _draw(others, len(few), random)
    donors = random.permutation(candidate.members)[:DONORS]
    recipients = np.concatenate([_draw(others, len(donors), random) for _ in range(PASTES)])
    return (few, few_recipients), (donors, recipients)


def _curves(
    bench: Bench, maps: RelevanceMaps, candidate: Candidate, seed: int, tick: Callable[[], None]
) -> dict[str, list[float]]:
    """Return the mean effects of an intervention at each of `STRENGTHS`, on the images of its full test.

    `tick` is called before each measurement; an error that it raises stops the audit.
    """
    group = candidate.group
    _, (donors, recipients) = _pairs(maps, candidate, seed)
    known = donors[maps.predicted[donors] == group]
    before = chances(bench, known, group) if len(known) else np.zeros(0)
    curves: dict[str, list[float]] = {}
    for strength, control in itertools.product(STRENGTHS, (False, True)):
        tick()
        part, end = _part(candidate.intervention, strength), "_control" if control else ""
        turned = flips(bench, np.tile(donors, PASTES), recipients, group, part, control)
        curves.setdefault(f"flip{end}", []).append(float(turned.mean()))
        if len(known):
            curves.setdefault(f"drop{end}", []).append(
                float((before - chances(bench, known, group, part, control)).mean())
            )
    return curves


def _part(full: Intervention, strength: float) -> Intervention:
    """Return an intervention at less than its full strength: a smaller shift, or pixels that go a part of the way."""
    if isinstance(full, Shift):
        return replace(full, by=tuple(strength * part for part in full.by))
    return Faded(full, strength)


def _members(
    bench: Bench, maps: RelevanceMaps, candidate: Candidate, seed: int, tick: Callable[[], None]
) -> dict[str, Any]:
    """Return which of the candidate's images have what was found, as fields of `Tested`.

    An image has a region or a content if that turns most of the images that it is pasted into. `tick` is called before
    each batch; an error that it raises stops the audit.
    """
    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(candidate.members)[:CHECKED])
    intervention = candidate.intervention
    if isinstance(intervention, Shift):
        has_it = carriers(maps, rows, intervention)
    else:
        others, turned = _recipients(maps, candidate.group), []
        for start in range(0, len(rows), SCREENED):
            tick()
            donors = np.repeat(rows[start : start + SCREENED], PASTES)
            becomes = flips(bench, donors, _draw(others, len(donors), random), candidate.group, intervention)
            turned.append(becomes.reshape(-1, PASTES).mean(1))
        has_it = np.concatenate(turned) > 0.5
    deciding = rows[has_it]
    found: dict[str, Any] = {
        "images": len(deciding),
        "of_images": len(rows),
        "names": [bench.dataset.names[row] for row in deciding.tolist()],
    }
    if isinstance(intervention, Content):
        found["corners"] = [list(intervention.corners[row]) for row in deciding.tolist()]
        found["patches"] = _patches(bench, deciding, intervention.corners)
        found["patch_size"] = WINDOW / GRID
    return found


def _patches(bench: Bench, rows: np.ndarray, corners: Mapping[int, tuple[int, int]]) -> list[str]:
    """Return the patches of some images as data URIs."""
    rows = rows[:KEPT_PATCHES]
    views = bench.views(rows) if len(rows) else ()
    cut = (view[patch_slices(corners[row], len(view))] for view, row in zip(views, rows.tolist(), strict=True))
    return [image_uri(patch, "PNG") for patch in cut if patch.dtype == np.uint8]


def _draw(rows: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Draw `count` of some images, each once if there are enough."""
    return random.permutation(rows)[:count] if len(rows) >= count else random.choice(rows, count)


def _fitted(
    bench: Bench, maps: RelevanceMaps, candidate: Candidate, seed: int, folder: Path, tick: Callable[[], None]
) -> Candidate:
    """Return a place whose rectangle fits its mark, in all images of the class; another candidate as it is.

    It is fitted on the half of the images with the most relevance in the region, since not all need have the mark.
    `tick` is called before each rectangle that is tried; an error that it raises stops the audit.
    """
    place = candidate.intervention
    if not isinstance(place, Place):
        return candidate
    # What was seen in a part of the class may be true of all of it.
    members = maps.members(candidate.group)
    known = members[maps.predicted[members] == candidate.group]
    relevance = maps.maps[known][:, place.cells].mean(1, dtype=np.float64)
    most = known[np.argsort(-relevance, kind="stable")[: (len(known) + 1) // 2]]
    rows = np.random.default_rng(seed).permutation(most)[:SCREENED]
    mask = place.mask
    if not place.is_frame and len(rows):

        @cache
        def before() -> np.ndarray:
            return chances(bench, rows, candidate.group)

        def fall(mask: np.ndarray) -> float:
            tick()
            return float((before() - chances(bench, rows, candidate.group, replace(place, mask=mask))).mean())

        key = _digest("fit", candidate, seed)
        side = bench.classifier.image_size
        mask = np.array(kept_step(folder, key, lambda: fitted_mask(place.mask, side, fall).tolist()), bool)
    fitted = replace(place, mask=mask)
    if fitted.region == place.region and len(members) == len(candidate.members):
        return candidate
    return replace(candidate, members=members, intervention=fitted)


def smallest_effect(candidates: Sequence[Candidate]) -> float | None:
    """Return the smallest effect that would be found in the class with the fewest images, if the control has none.

    It is that of a place or a statistic that all images of the class have.
    A share e of n images has the standard error sqrt(e (1 - e) / n). The result is the e whose corrected lower end is
    the threshold.
    """
    if not candidates:
        return None
    most: dict[int, int] = {}
    for candidate in candidates:
        most[candidate.group] = max(most.get(candidate.group, 0), len(candidate.members))
    count = min(DONORS, *most.values())
    z = NormalDist().inv_cdf(1 - ERROR / len(candidates) / 2)
    # (e - t)^2 = z^2 e (1 - e) / n, solved for the larger e.
    a, b, c = 1 + z * z / count, 2 * LEAST_EFFECT + z * z / count, LEAST_EFFECT**2
    return (b + math.sqrt(b * b - 4 * a * c)) / (2 * a)
