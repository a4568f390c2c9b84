"""The audit: candidates of all classes, each tested by interventions, and the findings among them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
from scipy.ndimage import binary_dilation

from swin_core.audit.candidates import Candidate, frame, place_candidates, shared
from swin_core.audit.interventions import Bench, bootstrap, drops, elsewhere, flips
from swin_core.audit.kept import read_audit, write_audit
from swin_core.audit.maps import RelevanceMaps, audit_folder, relevance_maps
from swin_core.audit.results import LEAST_EFFECT, Audit, Tested
from swin_core.data.dataset import DataSet
from swin_core.errors import DataError
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
SAME = 0.1
"""Part of the smaller region that two candidates of a class share if they are one finding."""
NEARLY = 0.1
"""Effects that differ by less are about equal."""
REACH = 3
"""Cells by which the region of a finding may grow on each side to fit its mark."""
LEAST_IMAGES = 8
"""Images of a class, and of others to paste into, that a test needs."""

AuditProgress = Callable[[str, int, int], None]
"""Called with what is counted, "images" or "candidates", the number done and their total."""


def audit(
    classifier: Classifier,
    dataset: DataSet,
    *,
    seed: int = 0,
    root: Path | None = None,
    progress: AuditProgress | None = None,
) -> Audit:
    """Look for regularities in what a model uses on a whole split, and test each by interventions.

    Relevance maps and the result are kept on disk: an audit that was stopped goes on where it was, and one that was
    done is read. With the same seed the result is the same.

    Args:
        classifier: the model.
        dataset: the images. Without labels the predicted classes take their place.
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
    if (kept := read_audit(folder, seed)) is not None:
        return kept
    maps, unreadable = relevance_maps(classifier, dataset, folder, tick("images", len(dataset)))
    skipped = tuple(dict.fromkeys(map(str, (*dataset.skipped, *unreadable))))
    count = int((maps.groups >= 0).sum())
    if not count:
        raise DataError(f"none of the {len(dataset)} images of {dataset.name} can be read; choose other images.")
    bench = Bench(classifier, dataset)
    candidates, untested = _testable(classifier, maps, list(place_candidates(maps, seed)))
    step = tick("candidates", len(candidates))
    results: list[tuple[Candidate, Tested]] = []
    for number, candidate in enumerate(candidates):
        results.append((candidate, _test(bench, maps, candidate, ERROR / len(candidates), seed + number)))
        step(1)
    findings = []
    for number, (candidate, tested) in enumerate(_findings(results)):
        # What was seen in a part of the class may be true of all of it.
        fitted = replace(_fitted(bench, maps, candidate, seed + number), members=maps.members(candidate.group))
        if (fitted.mask != candidate.mask).any() or len(fitted.members) > len(candidate.members):
            again = _test(bench, maps, fitted, ERROR / len(candidates), seed + number)
            tested = again if again.passes else tested
        findings.append(tested)
    others = sorted((tested for _, tested in results if not tested.passes), key=lambda tested: -tested.strength)
    groups = np.unique(maps.groups[maps.groups >= 0]).tolist()
    result = Audit(
        model=classifier.name,
        data=dataset.name,
        split=dataset.split,
        images=count,
        skipped=skipped,
        findings=tuple(sorted(findings, key=lambda tested: -tested.strength)),
        tested=tuple(others),
        untested=untested,
        smallest_effect=smallest_effect(candidates),
        means={classifier.labels[g]: maps.maps[maps.members(g)].mean(0, dtype=np.float64) for g in groups},
    )
    write_audit(result, folder, seed)
    return result


def _testable(
    classifier: Classifier, maps: RelevanceMaps, candidates: list[Candidate]
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
    random = np.random.default_rng(seed)
    others = _recipients(maps, candidate.group)
    move = elsewhere(candidate.mask, random)

    def flipped(donors: np.ndarray, recipients: np.ndarray, control: bool) -> np.ndarray:
        moved = move if control else (0, 0)
        return flips(bench, donors, recipients, candidate.group, candidate.mask, moved).astype(np.float64)

    donors = random.permutation(candidate.members)[:SCREENED]
    recipients = _draw(others, len(donors), random)
    flip, control, effect = flipped(donors, recipients, False), None, None
    if flip.mean() >= PASSES:
        control = flipped(donors, recipients, True)
        effect = bootstrap(flip - control, error, seed)
    short = Tested(
        class_name=bench.classifier.labels[candidate.group],
        kind=candidate.kind,
        region=candidate.region,
        frame=candidate.is_frame,
        relevance=candidate.relevance,
        pairs=len(donors),
        flip=bootstrap(flip, seed=seed),
        flip_control=None if control is None else bootstrap(control, seed=seed),
        effect=effect,
    )
    if effect is None or effect.value < PASSES:
        return short

    donors = random.permutation(candidate.members)[:DONORS]
    recipients = np.concatenate([_draw(others, len(donors), random) for _ in range(PASTES)])
    # One value for each donor: its pairs are not independent.
    flip, control = (
        flipped(np.tile(donors, PASTES), recipients, each).reshape(PASTES, -1).mean(0) for each in (False, True)
    )
    known = donors[maps.predicted[donors] == candidate.group]
    regions = (candidate.mask, np.roll(candidate.mask, move, (0, 1)))
    falls = [drops(bench, known, candidate.group, mask) for mask in regions] if len(known) else []
    deciding = np.sort(donors[flip > 0.5])
    return replace(
        short,
        pairs=len(recipients),
        flip=bootstrap(flip, seed=seed),
        flip_control=bootstrap(control, seed=seed),
        effect=bootstrap(flip - control, error, seed),
        drop=bootstrap(falls[0], seed=seed) if falls else None,
        drop_control=bootstrap(falls[1], seed=seed) if falls else None,
        images=len(deciding),
        of_images=len(donors),
        names=tuple(bench.dataset.names[row] for row in deciding.tolist()),
    )


def _draw(rows: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Draw `count` of some images, each once if there are enough."""
    return random.permutation(rows)[:count] if len(rows) >= count else random.choice(rows, count)


def _findings(results: Sequence[tuple[Candidate, Tested]]) -> list[tuple[Candidate, Tested]]:
    """Return the candidates that pass, strongest first.

    Candidates of a class that share a part of their regions are one finding. Of those that are nearly as strong as the
    strongest, it is the one with the highest relevance, which has the mark and the least beside it. It is the border if
    the border turns clearly more images than the strongest, which is then one side of a frame.
    """
    passing = sorted((pair for pair in results if pair[1].passes), key=lambda pair: -pair[1].strength)
    findings = []
    while passing:
        first, strongest = passing[0]
        same = [pair for pair in passing if pair[0].group == first.group and shared(pair[0].mask, first.mask) > SAME]
        near = [pair for pair in same if pair[1].strength >= strongest.strength - NEARLY]
        found = max(near, key=lambda pair: pair[1].relevance)
        for pair in same:
            if pair[0].is_frame and pair[1].flip.value >= strongest.flip.value + NEARLY:
                found = pair
                same = [
                    each for each in passing if each[0].group == first.group and shared(each[0].mask, frame()) > SAME
                ]
        findings.append(found)
        passing = [pair for pair in passing if pair not in same]
    return findings


def _fitted(bench: Bench, maps: RelevanceMaps, candidate: Candidate, seed: int) -> Candidate:
    """Return a candidate whose rectangle fits its mark.

    A part of a mark may be enough to turn other images, but the class's own images still have the rest of it. So the
    rectangle grows on all sides by up to `REACH` cells until its removal lowers p(class) as far as it can. Then each
    side moves back as long as the fall stays about the same.
    """
    random = np.random.default_rng(seed)
    rows = candidate.members[maps.predicted[candidate.members] == candidate.group]
    rows = random.permutation(rows)[:SCREENED]
    if candidate.is_frame or not len(rows):
        return candidate

    def fall(mask: np.ndarray) -> float:
        return float(drops(bench, rows, candidate.group, mask).mean())

    grown = [candidate.mask]
    for _ in range(REACH):
        grown.append(binary_dilation(grown[-1], np.ones((3, 3))))
    falls = [fall(mask) for mask in grown]
    enough = max(falls) - NEARLY * abs(max(falls))
    mask = next(mask for mask, value in zip(grown, falls, strict=True) if value >= enough)
    while (smaller := next((each for each in _smaller(mask) if fall(each) >= enough), None)) is not None:
        mask = smaller
    return replace(candidate, mask=mask)


def _smaller(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a rectangle without its upper, lower, left and right row of cells, where something is left."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    for axis, ends in ((0, rows), (1, columns)):
        for end in (ends[0], ends[-1]) if len(ends) > 1 else ():
            left = mask.copy()
            left[(end,) if axis == 0 else (slice(None), end)] = False
            yield left


def smallest_effect(candidates: Sequence[Candidate]) -> float | None:
    """Return the smallest effect that would be found in the class with the fewest images, if the control has none.

    A share e of n images has the standard error sqrt(e (1 - e) / n). The result is the e whose corrected lower end is
    the threshold.
    """
    if not candidates:
        return None
    count = min(min(len(candidate.members), DONORS) for candidate in candidates)
    z = NormalDist().inv_cdf(1 - ERROR / len(candidates) / 2)
    # (e - t)^2 = z^2 e (1 - e) / n, solved for the larger e.
    a, b, c = 1 + z * z / count, 2 * LEAST_EFFECT + z * z / count, LEAST_EFFECT**2
    return (b + math.sqrt(b * b - 4 * a * c)) / (2 * a)
