"""The Confusion tab of the Browse page: the confusion matrix and the most frequent confusions."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.browse.confusion_figure import confusion_figure, describe_colours
from dashboard.browse.filters import show_images
from dashboard.browse.tiles import BrowsedData, class_words
from dashboard.shared.charts import CONFIG
from dashboard.shared.url_state import unknown_values
from swin_core.evaluation.confusion import Mistake, grouped, most_frequent, worst_classes
from swin_core.evaluation.selection import OTHER, CatalogPredictions, class_choice, super_choice

FREQUENT = 100
"""Most rows of the table of confusions."""
LEVELS = ("Classes", "Super-classes")
ORDERS = ("Most mistakes", "Super-class", "Name")
COUNTS = (15, 30, 60)
BESIDE_AT_MOST = 45
"""Most classes of a matrix that fits beside the table."""


def show_confusion(data: BrowsedData, result: CatalogPredictions, ignored: list[str]) -> None:
    """Draw the confusion matrix and the table of the most frequent confusions; a click opens their images.

    `ignored` receives a warning for each value of the URL that is not offered.
    """
    catalog = data.catalog
    with st.container(horizontal=True, vertical_alignment="bottom"):
        level = LEVELS[0]
        if catalog.coarse_classes:
            level = st.segmented_control(
                "Level", LEVELS, default=level, required=True, key="level", bind="query-params"
            )
        names, matrix = catalog.classes, result.confusion
        coarse = level == LEVELS[1]
        if coarse:
            names = catalog.coarse_classes
            matrix = grouped(matrix, catalog.coarse_of_class(), len(names))
        order = _choose_order(data, matrix, names, coarse, ignored)
        diagonal = st.toggle("Show correct predictions", key="diagonal", bind="query-params")
    choices = [*map(super_choice if coarse else class_choice, names), OTHER]
    words = [*class_words(tuple(names)), OTHER]
    frequent = most_frequent(matrix, FREQUENT)
    table, chart, width = st.container(), st.container(), None
    if len(order) <= BESIDE_AT_MOST:
        table, chart = st.columns([1, 1] if coarse else [2, 3], gap="medium")
        width = 165 if coarse else 105  # names of super-classes are long
    with table:
        st.header("Most frequent confusions")
        st.caption("Choose a row to see its images.")
        _show_frequent(frequent, words, choices, width)
    # The last column, other classes of the model, is shown only where it holds images.
    columns = np.append(order, len(names)) if matrix[order, -1].any() else order
    cells = matrix[np.ix_(order, columns)]

    def open_cell() -> None:
        if points := st.session_state.confusion_matrix["selection"]["points"]:
            row, column = order[int(points[0]["y"])], columns[int(points[0]["x"])]
            show_images(truth=choices[row], predicted=choices[column])

    with chart:
        st.header("True class (rows), predicted class (columns)")
        st.caption("Click a cell to see its images. Drag to zoom, double-click to reset.")
        st.caption(describe_colours(cells, diagonal))
        top = ", ".join(f"{words[pair.truth]} taken for {words[pair.predicted]} {pair.count}" for pair in frequent[:5])
        st.plotly_chart(
            confusion_figure(cells, [words[index] for index in columns], matrix.sum(1)[order], diagonal),
            config=CONFIG,
            key="confusion_matrix",
            on_select=open_cell,
            selection_mode="points",
            alt=f"Confusion matrix of {len(order)} classes; most frequent: {top or 'none'}",
        )


def _choose_order(
    data: BrowsedData, matrix: np.ndarray, names: Sequence[str], coarse: bool, ignored: list[str]
) -> np.ndarray:
    """Draw the selects of the classes that the matrix shows; return their indices in order."""
    orders = [order for order in ORDERS if order != ORDERS[1] or (data.catalog.coarse_classes and not coarse)]
    order = st.selectbox("Order of classes", orders, key="classes_by", width=190, bind="query-params")
    worst = worst_classes(matrix)
    counts = [count for count in COUNTS if count < len(names)]
    if counts:
        words = {count: f"the {count} with most mistakes" for count in counts} | {len(names): f"all {len(names)}"}
        if "classes_count" not in st.session_state:
            ignored += unknown_values("classes_count", list(words.values()))
        count = st.selectbox(
            "Shown",
            list(words),
            min(1, len(words) - 1),
            format_func=lambda count: words[count],
            key="classes_count",
            width=230,
            bind="query-params",
        )
        worst = worst[:count]
    if order == ORDERS[0]:
        return worst
    groups = data.catalog.coarse_of_class() if order == ORDERS[1] else np.zeros(len(names), np.int64)
    return np.array(sorted(worst, key=lambda index: (groups[index], names[index])), np.int64)


def _show_frequent(
    frequent: Sequence[Mistake], words: Sequence[str], choices: Sequence[str], width: int | None
) -> None:
    """Draw the table of confusions; `width` is that of the class columns in pixels."""
    if not frequent:
        st.caption("There are no mistakes.")
        return

    def open_row() -> None:
        rows = st.session_state.confusions_table["selection"]["rows"]
        if rows and rows[0] < len(frequent):
            mistake = frequent[rows[0]]
            show_images(truth=choices[mistake.truth], predicted=choices[mistake.predicted])

    table = pd.DataFrame(
        {
            "truth": [words[mistake.truth] for mistake in frequent],
            "taken for": [words[mistake.predicted] for mistake in frequent],
            "count": [mistake.count for mistake in frequent],
            "share": [100 * mistake.share for mistake in frequent],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        key="confusions_table",
        on_select=open_row,
        selection_mode="single-row",
        height=460 if width else 250,
        alt="The most frequent confusions: class, taken for, images, share of the class",
        column_config={
            "truth": st.column_config.TextColumn("Class", width=width),
            "taken for": st.column_config.TextColumn("Taken for", width=width),
            "count": st.column_config.NumberColumn("Count", width=60),
            "share": st.column_config.NumberColumn("Share", format="%.0f %%", width=60, help="Share of the class."),
        },
    )
