"""The images of each finding of an audit, which other measurements are split by."""

from __future__ import annotations

import numpy as np

from swin_core.audit import results
from swin_core.audit.bench import Estimate
from swin_core.audit.results import Audit
from swin_core.figures.audit_groups import finding_images


def finding(region: tuple[float, float, float, float], *names: str) -> results.Tested:
    flip = Estimate(0.9, 0.8, 1.0)
    return results.Tested(
        "tulips", "place", region, False, 3.0, 50, flip, None, flip, images=2, of_images=3, names=names
    )


def test_images_of_a_finding_are_those_that_it_names() -> None:
    findings = (finding((0.8, 0.8, 1, 1), "b", "d"), finding((0, 0, 0.2, 0.2), "a", "gone"))
    audit = Audit("m", "photos", "all", 4, (), findings, (), {}, None)
    found = finding_images(audit, ["a", "b", "c", "d"])
    assert list(found) == ["tulips: region at the lower right corner", "tulips: region at the upper left corner"]
    assert [rows.tolist() for rows in found.values()] == [[False, True, False, True], [True, False, False, False]]
    assert all(rows.dtype == np.bool_ for rows in found.values())
    assert finding_images(None, ["a"]) == {}
