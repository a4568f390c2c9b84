"""Made-up explanations and grids of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go

from swin_core.explain.browser import plotly_figure
from swin_core.explain.explanation import Explanation
from swin_core.explain.grid import Cell, Grid, Row
from swin_core.explain.render import Look

FLOWERS = ("daisy", "dandelion", "roses")

Make = Callable[..., Explanation]


def maker() -> Make:
    """Made-up explanations: random maps of any shape, and the prediction that is asked for."""
    generator = np.random.default_rng(0)

    def explanation(
        labels: tuple[str, ...] = FLOWERS,
        predicted: int = 0,
        target: int | None = None,
        shape: tuple[int, int] = (7, 7),
    ) -> Explanation:
        logits = np.zeros(len(labels), np.float32)
        logits[predicted] = 3
        picture = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        return Explanation(
            model="a model",
            method="gradcam",
            labels=labels,
            weights_hash="0123abcd",
            view=picture[::2, ::2],
            picture=picture,
            logits=logits,
            probabilities=np.exp(logits) / np.exp(logits).sum(),
            targets=(predicted if target is None else target,),
            layers=("norm",),
            maps=generator.random((1, 1, *shape)).astype(np.float32) * generator.uniform(0.5, 5),
        )

    return explanation


def one_row(*cells: Cell, truth: str = "", title: str = "photo.jpg", **look: float | str) -> Grid:
    picture = np.zeros((40, 40, 3), np.uint8)
    names = tuple(f"model {number}" for number in range(len(cells)))
    return Grid((Row(title, picture, cells, truth),), names, Look(**look))  # type: ignore[arg-type]


def values_of(cell: Cell) -> np.ndarray:
    assert cell.map is not None, cell.error
    return cell.map


def heat_maps(drawn: Grid) -> list[go.Heatmap]:
    """The heat maps of cells, without those over the pictures and without the scale's bar."""
    traces = plotly_figure(drawn).data
    return [t for t in traces if t.type == "heatmap" and t.opacity != 0 and t.customdata is not None]
