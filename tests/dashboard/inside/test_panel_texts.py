"""Which panels a model has."""

from __future__ import annotations

import pytest

from dashboard.inside.panel_texts import PANELS, available_panels, describe_missing
from swin_core.anatomy.structure import anatomy
from tests.anatomy.test_internals import classifier
from tests.fixtures.reference import small

pytestmark = pytest.mark.usefixtures("one_thread")


def test_panels_depend_on_the_model() -> None:
    whole = [panel.title for panel in PANELS]
    assert [panel.title for panel in available_panels(anatomy(classifier(small())))] == whole
    assert describe_missing(anatomy(classifier(small()))) == ""
    unbiased = anatomy(classifier(small(relative_position_bias=False)))
    assert [panel.title for panel in available_panels(unbiased)] == [
        title for title in whole if title != "Position bias"
    ]
    assert describe_missing(unbiased) == "Not shown for this Swin: position bias, since it was built without one."
    assert "shift and mask, since none of its blocks" in describe_missing(anatomy(classifier(small(shift=False))))
    mlp = anatomy(classifier(small(mixer="mlp")))
    assert [panel.title for panel in available_panels(mlp)] == ["Windows", "Feature maps", "Relevance"]
