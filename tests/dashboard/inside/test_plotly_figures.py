"""The curves of the cost against the paper's equations."""

from __future__ import annotations

import pytest

from dashboard.inside.plotly_figures import cost_figure
from swin_core.anatomy.structure import anatomy
from swin_core.models.complexity import msa_complexity, window_msa_complexity
from tests.anatomy.test_internals import classifier
from tests.fixtures.reference import small

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_cost_curves_equal_the_equations() -> None:
    block = anatomy(classifier(small())).blocks[0]
    figure = cost_figure(block, 2, 4, [(32, "seen"), (300, "own")])
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    equations = (msa_complexity, lambda grid, width: window_msa_complexity(grid, width, 4))
    for trace, equation in zip([*lines, *dots], [*equations, *equations], strict=True):
        for side, cost in zip(trace.x, trace.y, strict=True):
            grid = (-(-int(side) // 2),) * 2
            assert cost == pytest.approx(equation(grid, block.channels) / 1e9)
    assert [list(trace.x) for trace in dots] == [[32, 300]] * 2
    assert [note.text.strip() for note in figure.layout.annotations] == ["seen, 32 px", "own, 300 px"]
