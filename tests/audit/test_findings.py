"""The audit from a folder to findings, with a model whose decision is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.optimize import brentq

from swin_core.attribution.defaults import default_method
from swin_core.audit import Audit, audit, findings, kept, maps, results
from swin_core.audit.bench import Bench, Estimate, bootstrap
from swin_core.audit.candidates import Candidate, frame
from swin_core.audit.interventions import Place, Shift
from swin_core.data.folders import image_folder, open_folder
from swin_core.errors import ConfigError, DataError
from swin_core.figures.audit_groups import finding_images
from swin_core.figures.audit_text import conclusion
from swin_core.zoo.classifier import Classifier
from tests.fixtures.audit import CLASSES, CORNER, corner_model, detector, mark_images, write_images

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("audit") / "images")


@pytest.fixture(scope="module")
def found(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return audit(corner_model(), image_folder(images), root=tmp_path_factory.mktemp("cache"))


def test_the_corner_that_decides_is_the_one_finding(found: Audit) -> None:
    (finding,) = found.findings
    assert (finding.class_name, finding.kind, finding.region) == ("marked", "place", CORNER)
    assert finding.flip.value == 1.0  # the model's rule, on whatever image
    assert finding.flip_control is not None
    assert finding.flip_control.value == 0.0
    assert finding.images == finding.of_images == 24
    assert set(finding.names) == {f"marked/{number:02}.png" for number in range(24)}
    assert finding.drop is not None
    assert finding.drop_control is not None
    assert finding.drop.low > 0.5 > finding.drop_control.high
    assert not any(candidate.passes for candidate in found.tested)
    assert {candidate.class_name for candidate in found.tested} >= {"blue", "green"}


def test_the_curves_of_a_finding_end_at_its_effects(
    found: Audit, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (finding,) = found.findings
    monkeypatch.setattr(findings, "STRENGTHS", (0.0, 1.0))
    (again,) = audit(corner_model(), image_folder(images), root=tmp_path).findings
    for name in ("flip", "flip_control", "drop", "drop_control"):
        assert again.curves[name] == pytest.approx((0.0, getattr(again, name).value), abs=1e-6)
        assert len(finding.curves[name]) == len(results.STRENGTHS)
    assert not any(candidate.curves for candidate in found.tested)


def test_a_statistic_is_shifted_by_a_part() -> None:
    part = findings._part(Shift("colour", (0.2, -0.4)), 0.25)
    assert isinstance(part, Shift)
    assert part.by == pytest.approx((0.05, -0.1))


def test_a_finding_of_an_older_version_is_read_without_what_it_lacks(found: Audit) -> None:
    values = json.loads(json.dumps(found.findings[0].to_dict()))
    assert results.Tested.from_dict(values) == found.findings[0]
    del values["curves"]
    older = results.Tested.from_dict(values)
    assert kept.finding_key(older) == kept.finding_key(found.findings[0])
    for needed in ("class", "flip"):
        with pytest.raises((KeyError, TypeError)):
            results.Tested.from_dict({name: value for name, value in values.items() if name != needed})


def test_all_images_of_the_class_are_checked_for_a_finding(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "DONORS", 10)
    for most in (1000, 15):
        monkeypatch.setattr(findings, "CHECKED", most)
        (finding,) = audit(corner_model(), image_folder(images), root=tmp_path / str(most)).findings
        assert finding.pairs == 10 * findings.PASTES
        assert len(set(finding.names)) == finding.images == finding.of_images == min(most, 24)


def test_the_json_has_the_promised_keys(found: Audit) -> None:
    values = json.loads(json.dumps(found.to_dict()))
    assert set(values) >= {"findings", "tested", "model", "data", "split", "images", "skipped", "smallest_effect"}
    for finding in values["findings"]:
        assert {"class", "kind", "region", "images"} <= set(finding)
        for effect in ("flip", "flip_control", "drop", "drop_control", "effect"):
            low, high = finding[f"{effect}_interval"]
            assert low <= finding[effect] <= high


def test_a_mark_that_the_model_does_not_use_is_no_finding(images: Path, tmp_path: Path) -> None:
    assert audit(corner_model(looks=False), image_folder(images), root=tmp_path).findings == ()


def test_a_mark_in_all_classes_alike_is_no_finding(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", marked=CLASSES)
    found = audit(corner_model(looks=False), image_folder(folder), root=tmp_path / "cache")
    assert found.findings == ()
    assert found.tested


@pytest.mark.parametrize(("mark", "kind", "statistic"), [("sticker", "content", ""), ("tint", "global", "colour")])
def test_marks_without_a_place_are_found(mark: str, kind: str, statistic: str, tmp_path: Path) -> None:
    folder = mark_images(write_images(tmp_path / "images", 16, marked=()), mark, ("marked",))
    found = audit(detector(mark), image_folder(folder), root=tmp_path / "cache")
    finding = found.findings[0]
    assert (finding.class_name, finding.kind, finding.statistic, finding.region) == ("marked", kind, statistic, None)
    assert finding.flip_control is not None
    assert finding.flip.value > 0.8 > 0.2 > finding.flip_control.value
    assert {each.class_name for each in found.findings} == {"marked"}
    if mark == "sticker":
        assert len(finding.corners) == len(finding.names) == finding.images
        assert finding.patches
    again = audit(detector(mark), image_folder(folder), root=tmp_path / "cache")
    assert again.findings == found.findings  # from the disk


@pytest.mark.parametrize("mark", ["sticker", "tint"])
def test_marks_in_all_classes_alike_that_no_model_uses_are_no_finding(mark: str, tmp_path: Path) -> None:
    folder = mark_images(write_images(tmp_path / "images", 16, marked=()), mark, CLASSES)
    found = audit(corner_model(looks=False), image_folder(folder), root=tmp_path / "cache")
    assert found.findings == ()
    assert {each.kind for each in found.tested} >= {"place", "content"}


def test_a_stopped_audit_resumes_and_finds_the_same(
    found: Audit, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "CHUNK", 20)
    computed: list[int] = []
    compute = maps._compute

    def counted(classifier: Classifier, dataset: object, truth: np.ndarray, tick: Callable[[int], None]) -> object:
        computed.append(len(truth))
        return compute(classifier, dataset, truth, tick)  # type: ignore[arg-type]

    monkeypatch.setattr(maps, "_compute", counted)

    passes: list[int] = []
    probabilities = Bench.probabilities

    def counted_passes(bench: Bench, views: np.ndarray) -> np.ndarray:
        passes.append(len(views))
        return probabilities(bench, views)

    monkeypatch.setattr(Bench, "probabilities", counted_passes)

    class Stopped(Exception):
        pass

    def stop(at: Callable[[str, int, int], bool]) -> Callable[[str, int, int], None]:
        def progress(what: str, done: int, total: int) -> None:
            if at(what, done, total):
                raise Stopped

        return progress

    fitting: list[int] = []

    def is_fitting(what: str, done: int, total: int) -> bool:
        """Whether all candidates have been tested before, so that a rectangle is being fitted."""
        fitting.append(done)
        return what == "candidates" and fitting[-2:] == [total, total]

    places: list[Callable[[str, int, int], bool]] = [
        lambda what, done, _: (what, done) == ("images", 60),
        lambda what, done, _: (what, done) == ("candidates", 3),
        lambda what, done, _: (what, done) == ("candidates", 7),
        is_fitting,
    ]
    for at in places:
        with pytest.raises(Stopped):
            audit(corner_model(), image_folder(images), root=tmp_path, progress=stop(at))
    assert computed == [20, 20, 20, 20, 12]  # the third part was stopped and is computed again
    again = audit(corner_model(), image_folder(images), root=tmp_path)
    assert computed == [20, 20, 20, 20, 12]
    assert again.to_dict() == found.to_dict()
    assert not list(tmp_path.rglob("steps"))

    in_parts = sum(passes)
    passes.clear()
    audit(corner_model(), image_folder(images), root=tmp_path / "at once")
    assert in_parts == sum(passes)  # no test is repeated


def test_a_result_is_read_from_disk(found: Audit, images: Path, tmp_path: Path) -> None:
    first = audit(corner_model(), image_folder(images), root=tmp_path)
    for file in tmp_path.rglob("maps-*.npz"):
        file.unlink()
    counted: list[str] = []
    again = audit(corner_model(), image_folder(images), root=tmp_path, progress=lambda *_: counted.append("images"))
    assert not counted
    assert again.to_dict() == first.to_dict() == found.to_dict()
    assert all((again.means[name] == mean).all() for name, mean in first.means.items())
    assert audit(corner_model(), image_folder(images), root=tmp_path, seed=1).to_dict() != found.to_dict()


@pytest.mark.parametrize("number", [None, kept.FORMAT - 1])
def test_a_result_that_was_made_in_another_way_is_computed_again(
    found: Audit, images: Path, tmp_path: Path, number: int | None
) -> None:
    audit(corner_model(), image_folder(images), root=tmp_path)
    (result,) = tmp_path.rglob("audit.json")
    values = json.loads(result.read_text()) | {"findings": []}
    del values["format"]
    result.write_text(json.dumps(values | ({} if number is None else {"format": number})))
    counted: list[str] = []
    again = audit(corner_model(), image_folder(images), root=tmp_path, progress=lambda what, *_: counted.append(what))
    assert again.to_dict() == found.to_dict()
    assert "candidates" in counted
    assert kept.read_audit(result.parent) is not None


def test_a_finding_can_be_dismissed_and_taken_back(found: Audit, tmp_path: Path) -> None:
    (finding,) = found.findings
    assert kept.dismissed(tmp_path) == set()
    kept.dismiss(tmp_path, finding)
    assert kept.dismissed(tmp_path) == {kept.finding_key(finding)}
    kept.dismiss(tmp_path, finding, hide=False)
    assert kept.dismissed(tmp_path) == set()


def test_a_damaged_part_of_the_cache_is_computed_again(found: Audit, images: Path, tmp_path: Path) -> None:
    audit(corner_model(), image_folder(images), root=tmp_path)
    (file,) = tmp_path.rglob("maps-*.npz")
    file.write_bytes(file.read_bytes()[:100])
    (result,) = tmp_path.rglob("audit.json")
    result.write_text("{}")
    assert audit(corner_model(), image_folder(images), root=tmp_path).to_dict() == found.to_dict()


def test_files_that_are_no_images_are_named_and_left_out(found: Audit, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images")
    whole = (folder / "blue" / "00.png").read_bytes()
    (folder / "blue" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "blue" / "notes.txt").write_text("no image")
    Image.new("RGB", (90, 50), "blue").save(folder / "blue" / "wide.png")
    with_faults = audit(corner_model(), image_folder(folder), root=tmp_path / "cache")
    assert sorted(line.split()[0] for line in with_faults.skipped) == ["blue/cut.png", "blue/notes.txt"]
    assert with_faults.images == found.images + 1
    assert [finding.region for finding in with_faults.findings] == [CORNER]


@pytest.mark.parametrize(
    ("classes", "count", "reason"),
    [
        (("marked",), 24, "there are 0 of the 8 images of other classes that a test needs"),
        (("marked", "blue"), 1, "it has 1 of the 8 images that a test needs"),
    ],
)
def test_too_few_images_are_said_and_not_tested(
    classes: tuple[str, ...], count: int, reason: str, tmp_path: Path
) -> None:
    folder = write_images(tmp_path / "images", count)
    for name in set(CLASSES) - set(classes):
        for file in (folder / name).iterdir():
            file.unlink()
        (folder / name).rmdir()
    found = audit(corner_model(), image_folder(folder), root=tmp_path / "cache")
    assert found.untested == dict.fromkeys(sorted(classes), reason)
    assert (found.findings, found.tested, found.smallest_effect) == ((), (), None)
    json.dumps(found.to_dict(), allow_nan=False)


def test_without_class_folders_the_predictions_are_the_classes(found: Audit, images: Path, tmp_path: Path) -> None:
    for file in images.rglob("*.png"):
        (tmp_path / "flat").mkdir(exist_ok=True)
        (tmp_path / "flat" / f"{file.parent.name}-{file.name}").write_bytes(file.read_bytes())
    flat = audit(corner_model(), open_folder(tmp_path / "flat"), root=tmp_path / "cache")
    assert [(finding.class_name, finding.region) for finding in flat.findings] == [("marked", CORNER)]


def test_what_cannot_be_audited_is_refused(images: Path, tmp_path: Path) -> None:
    classifier = corner_model()
    regression = Classifier(classifier.model, CLASSES, 0.0, 1.0, 32, name="ages", activation="none")
    with pytest.raises(ConfigError, match="ages is a regression and has no classes to audit"):
        audit(regression, image_folder(images), root=tmp_path)
    folder = tmp_path / "broken" / "blue"
    folder.mkdir(parents=True)
    whole = next(images.rglob("*.png")).read_bytes()
    for number in range(2):
        (folder / f"{number}.png").write_bytes(whole[:200])
    with pytest.raises(DataError, match="none of the 2 images of broken can be read"):
        audit(classifier, image_folder(folder.parent), root=tmp_path)


def test_the_smallest_effect_is_where_the_interval_just_clears_the_threshold() -> None:
    groups, predicted = np.repeat([0, 1], 50), np.repeat([0, 1], 50)
    known = maps.RelevanceMaps(groups, predicted, np.ones((100, 16, 16), np.float16))
    candidates = [Candidate(0, known.members(0), 1.0, Place(frame()))] * 10
    z = 2.807033768343811  # of the two-sided normal interval with an error of 0.05 / 10
    expected = brentq(lambda e: e - z * math.sqrt(e * (1 - e) / 50) - results.LEAST_EFFECT, 0.151, 0.999)
    assert findings.smallest_effect(candidates) == pytest.approx(expected)


def test_the_interval_is_corrected_for_the_number_of_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[float] = []

    def counted(values: np.ndarray, error: float = 0.05, seed: int = 0) -> Estimate:
        errors.append(error)
        return bootstrap(values, error, seed)

    monkeypatch.setattr(findings, "bootstrap", counted)
    folder = write_images(tmp_path / "images", 10)
    found = audit(corner_model(), image_folder(folder), root=tmp_path / "cache")
    count = len(found.findings) + len(found.tested) + len(found.merged)
    assert count > 10
    assert set(errors) == {0.05, 0.05 / count}
    assert found.merged  # windows beside the corner that hold it too
    assert all(each.passes and each.class_name == "marked" for each in found.merged)


def test_an_audit_can_be_stopped_while_regions_are_fitted(images: Path, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    seen: list[tuple[int, int]] = []

    def progress(what: str, done: int, total: int) -> None:
        if what == "candidates":
            seen.append((done, total))
            if len(seen) > total:
                raise Stopped

    with pytest.raises(Stopped):
        audit(corner_model(), image_folder(images), root=tmp_path, progress=progress)
    assert seen[-1] == seen[-2]


def test_seed_and_method_are_kept(found: Audit, images: Path, tmp_path: Path) -> None:
    assert (found.seed, found.method) == (0, default_method(corner_model()))
    again = audit(corner_model(), image_folder(images), root=tmp_path, seed=2**32)
    assert (again.to_dict()["seed"], len(again.findings)) == (2**32, 1)


def test_two_contents_of_one_class_have_keys_and_names_of_their_own(found: Audit) -> None:
    (finding,) = found.findings
    contents = [
        replace(finding, kind="content", region=None, names=names, corners=((1, 2),) * len(names))
        for names in (finding.names[:8], finding.names[8:16])
    ]
    assert len({kept.finding_key(each) for each in contents}) == 2
    rows = finding_images(replace(found, findings=tuple(contents)), finding.names)
    assert list(rows) == ["marked: content at changing places", "marked: content at changing places (2)"]
    assert [each.sum() for each in rows.values()] == [8, 8]


def test_the_conclusion_speaks_of_what_was_tested(found: Audit) -> None:
    text = conclusion(found)
    count = 1 + len(found.tested) + len(found.merged)
    assert text.startswith(f"1 finding in 72 images; {len(found.tested)} of {count} candidates are below the threshold")
    assert "would have been found in each class; content" in text
    assert "in each class that could be tested; content" in conclusion(replace(found, untested={"few": "it has 1"}))


@pytest.mark.parametrize(
    ("kind", "low", "passes"), [("content", 0.2, False), ("content", 0.31, True), ("place", 0.2, True)]
)
def test_content_needs_a_larger_effect_than_a_region(found: Audit, kind: str, low: float, passes: bool) -> None:
    (finding,) = found.findings
    assert replace(finding, kind=kind, effect=Estimate(0.5, low, 0.8)).passes == passes
