"""Before and after a repair, with models whose decisions are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from swin_core.audit import Audit, audit
from swin_core.audit.kept import is_findings_file, read_repair, write_findings, write_repair
from swin_core.audit.repair import Repair, compare_repair
from swin_core.data.folders import image_folder, open_folder
from swin_core.errors import DataError
from swin_core.figures.audit_text import repair_rows, repair_summary
from tests.fixtures.audit import corner_model, write_images

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("audit") / "images", 12)


@pytest.fixture(scope="module")
def found(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return audit(corner_model(), image_folder(images), root=tmp_path_factory.mktemp("cache"))


def test_the_groups_are_right_or_wrong_as_the_rule_says(found: Audit, images: Path, tmp_path: Path) -> None:
    (finding,) = found.findings
    before, after = corner_model(), corner_model(looks=False)
    repair = compare_repair(before, after, image_folder(images), finding)
    shares = {(group.class_name, group.present): (group.before, group.after) for group in repair.groups}
    assert shares == {
        ("marked", True): (1, 0),  # the second model never says "marked"
        ("marked", False): (0, 0),
        ("blue", True): (0, 1),  # with the corner pasted in, the first model says "marked"
        ("blue", False): (1, 1),
        ("green", True): (0, 1),
        ("green", False): (1, 1),
    }
    assert [group.before for group in repair.groups] == [0, 0, 0, 1, 1, 1]
    assert repair.worst == (0, 0)
    assert repair.mean == pytest.approx((0.5, 4 / 6))
    assert repair_summary(repair).startswith("Retrained as corner: the worst group had <0.1")
    assert ("green, without it", "12", "100\N{NO-BREAK SPACE}%", "100\N{NO-BREAK SPACE}%") in repair_rows(repair)
    folder = tmp_path / "audits" / "one"
    folder.mkdir(parents=True)
    write_repair(folder, finding, "run", repair)
    assert read_repair(folder, finding, "run") == repair
    assert read_repair(folder, finding, "another") is None


def test_a_findings_file_holds_all_that_are_chosen(found: Audit, tmp_path: Path) -> None:
    (finding,) = found.findings
    other = replace(finding, class_name="blue")
    folder = tmp_path / "audits" / "one"
    file = write_findings(folder, found, [finding, other], [{"kind": "place"}])
    kinds = [(each.get("class"), each["kind"]) for each in json.loads(file.read_text())["findings"]]
    assert kinds == [("marked", "place"), ("blue", "place"), (None, "place")]
    assert write_findings(folder, found, [other, finding]) == file
    assert write_findings(folder, found, [finding]) != file
    assert is_findings_file(str(file), folder)
    assert not is_findings_file(str(file), tmp_path / "audits" / "two")
    assert not is_findings_file("", folder)


def test_a_comparison_counts_its_predictions_and_can_be_stopped(found: Audit, images: Path) -> None:
    (finding,) = found.findings
    counts: list[tuple[int, int]] = []
    models = corner_model(), corner_model(looks=False)
    repair = compare_repair(
        *models, image_folder(images), finding, progress=lambda done, total: counts.append((done, total))
    )
    assert counts[-1] == (144, 144) == (2 * sum(group.images for group in repair.groups),) * 2
    assert [done for done, _ in counts] == sorted(done for done, _ in counts)

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        compare_repair(*models, image_folder(images), finding, progress=stop)


def test_a_repair_says_how_many_of_its_images_were_trained_on(found: Audit, images: Path) -> None:
    dataset = image_folder(images)
    seen = np.arange(len(dataset)) % 3 == 0
    repair = compare_repair(corner_model(), corner_model(), dataset, found.findings[0], trained_on=seen)
    assert (repair.trained_on, repair.images) == (12, 36)
    told = repair_summary(repair)
    assert "was trained on 12 of these 36 images, so the shares are optimistic; audit held-out images" in told
    assert "trained on" not in repair_summary(replace(repair, trained_on=0))
    assert Repair.from_dict(json.loads(json.dumps(repair.to_dict()))) == repair


def test_images_that_are_gone_or_have_no_labels_are_refused(found: Audit, images: Path, tmp_path: Path) -> None:
    (finding,) = found.findings
    other = write_images(tmp_path / "other", 1)
    for file in (other / "marked").iterdir():
        file.rename(file.with_name("new.png"))
    with pytest.raises(DataError, match="none of the finding's images is in other; audit the model on these images"):
        compare_repair(corner_model(), corner_model(), image_folder(other), finding)
    flat = tmp_path / "flat" / "marked"
    flat.mkdir(parents=True)
    for file in (images / "marked").iterdir():
        (flat / file.name).write_bytes(file.read_bytes())
    unlabelled = open_folder(tmp_path / "flat" / "marked")
    with pytest.raises(DataError, match="none of the finding's images"):
        compare_repair(corner_model(), corner_model(), unlabelled, finding)


def test_images_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 8)
    whole = (folder / "blue" / "00.png").read_bytes()
    (folder / "blue" / "cut.png").write_bytes(whole[: len(whole) // 2])
    dataset = image_folder(folder)
    found = audit(corner_model(), dataset, root=tmp_path / "cache")
    repair = compare_repair(corner_model(), corner_model(looks=False), dataset, found.findings[0])
    assert {group.images for group in repair.groups} == {8}
