"""Two views of the Browse page: which classes are taken for which, and how well each class is known."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.browse.choices import Judges, open_rows
from dashboard.browse.confusion import confusion_figure, scale_words
from dashboard.browse.tiles import Shown, in_words
from dashboard.shared.url_state import unknown_values
from swin_core.evaluation.confusion import Mistake, grouped, most_frequent, worst_classes
from swin_core.evaluation.selection import OTHER, CatalogPredictions, class_choice, super_choice
from swin_core.figures.plotly_grid import CONFIG

__all__ = ["show_classes", "show_confusion"]

FREQUENT = 100
"""Rows of the table of confusions."""
LEVELS = ("Classes", "Super-classes")
ORDERS = ("Most mistakes", "Super-class", "Name")
COUNTS = (15, 30, 60)
BESIDE_AT_MOST = 45
_CONFUSIONS, _CLASSES, _MATRIX = "confusions_table", "classes_table", "confusion_matrix"


def show_confusion(shown: Shown, judgement: CatalogPredictions, ignored: list[str]) -> None:
    """The confusion matrix, and the most frequent confusions; both open their images.

    Args:
        shown: the data set.
        judgement: what a model says about its images.
        ignored: gets a line for a value that the address asks for in vain.
    """
    catalog = shown.catalog
    with st.container(horizontal=True, vertical_alignment="bottom"):
        level = LEVELS[0]
        if catalog.coarse_classes:
            level = st.segmented_control(
                "Level", LEVELS, default=level, required=True, key="level", bind="query-params"
            )
        names, matrix = list(catalog.classes), judgement.confusion
        coarse = level == LEVELS[1]
        if coarse:
            names = list(catalog.coarse_classes)
            matrix = grouped(matrix, catalog.coarse_of_class(), len(names))
        order = _order(shown, matrix, names, coarse, ignored)
        diagonal = st.toggle("Right ones too", key="diagonal", bind="query-params")
    choices = [*map(super_choice if coarse else class_choice, names), OTHER]
    words = [*in_words(tuple(names)), OTHER]
    frequent = most_frequent(matrix, FREQUENT)
    opened = [(choices[one.truth], choices[one.predicted]) for one in frequent]
    # Beside the table there is room for so many columns, and the names of super-classes are long.
    if len(order) > BESIDE_AT_MOST:
        left, right, width = st.container(), st.container(), None
    else:
        left, right = st.columns([1, 1] if coarse else [2, 3], gap="medium")
        width = 165 if coarse else 105
    with left:
        st.header("Most frequent confusions")
        st.caption("Choose a row to see its images.")
        _show_frequent(frequent, words, opened, width)
    # A class of the model that is none of the data set's has a column only where it was predicted.
    columns = np.append(order, len(names)) if matrix[order, -1].any() else order
    cells = matrix[np.ix_(order, columns)]
    with right:
        st.header("Right class down, predicted class across")
        st.caption("Click a cell to see its images. Drag to zoom, double-click to go back.")
        st.caption(scale_words(cells, diagonal))
        figure = confusion_figure(cells, [words[place] for place in columns], matrix.sum(1)[order], diagonal)
        top = ", ".join(f"{words[one.truth]} taken for {words[one.predicted]} {one.count}" for one in frequent[:5])
        st.plotly_chart(
            figure,
            config=CONFIG,
            key=_MATRIX,
            on_select=lambda: _open_cell([choices[place] for place in order], [choices[place] for place in columns]),
            selection_mode="points",
            alt=f"Confusion matrix of {len(order)} classes; most frequent: {top or 'none'}",
        )


def _order(shown: Shown, matrix: np.ndarray, names: Sequence[str], coarse: bool, ignored: list[str]) -> np.ndarray:
    """Which classes the matrix shows, and in which order."""
    orders = [one for one in ORDERS if one != ORDERS[1] or (shown.catalog.coarse_classes and not coarse)]
    by = st.selectbox("Order of classes", orders, key="classes_by", width=190, bind="query-params")
    worst = worst_classes(matrix)
    counts = [count for count in COUNTS if count < len(names)]
    if counts:
        words = {count: f"the {count} with most mistakes" for count in counts} | {len(names): f"all {len(names)}"}
        offered = [*counts, len(names)]
        if "classes_count" not in st.session_state:
            ignored += unknown_values("classes_count", list(words.values()))
        count = st.selectbox(
            "Shown",
            offered,
            min(1, len(offered) - 1),
            format_func=lambda count: words[count],
            key="classes_count",
            width=230,
            bind="query-params",
        )
        worst = worst[:count]
    if by == ORDERS[0]:
        return worst
    groups = shown.catalog.coarse_of_class() if by == ORDERS[1] else np.zeros(len(names), np.int64)
    return np.array(sorted(worst, key=lambda place: (groups[place], names[place])), np.int64)


def _show_frequent(
    frequent: Sequence[Mistake], names: Sequence[str], choices: list[tuple[str, str]], width: int | None
) -> None:
    if not frequent:
        st.caption("There is no mistake.")
        return
    table = pd.DataFrame(
        {
            "truth": [names[one.truth] for one in frequent],
            "taken for": [names[one.predicted] for one in frequent],
            "count": [one.count for one in frequent],
            "share": [100 * one.share for one in frequent],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        key=_CONFUSIONS,
        on_select=lambda: _open_row(_CONFUSIONS, choices),
        selection_mode="single-row",
        height=460 if width else 250,
        alt="The most frequent confusions: class, taken for, images, share of the class",
        column_config={
            "truth": st.column_config.TextColumn("Class", width=width),
            "taken for": st.column_config.TextColumn("Taken for", width=width),
            "count": st.column_config.NumberColumn("Count", width=60),
            "share": st.column_config.NumberColumn("Share", format="%.0f %%", width=60, help="Of the class."),
        },
    )


def _open_row(key: str, choices: list[tuple[str, str]]) -> None:
    rows = st.session_state[key]["selection"]["rows"]
    if rows and rows[0] < len(choices):
        truth, predicted = choices[rows[0]]
        open_rows(truth=truth, predicted=predicted)


def _open_cell(down: list[str], across: list[str]) -> None:
    points = st.session_state[_MATRIX]["selection"]["points"]
    if points:
        open_rows(truth=down[int(points[0]["y"])], predicted=across[int(points[0]["x"])])


def show_classes(shown: Shown, judges: Judges, judgements: Sequence[CatalogPredictions]) -> None:
    """How well each class is known, by one model or two; a row opens its images."""
    catalog = shown.catalog
    names = list(catalog.classes)
    matrices = [judgement.confusion for judgement in judgements]
    first = matrices[0].copy()
    np.fill_diagonal(first, 0)
    table = pd.DataFrame({"name": in_words(catalog.classes)})
    config = {"name": st.column_config.TextColumn("Class", width=120)}
    for key, matrix, title in zip(("a", "b"), matrices, judges.titles, strict=False):
        with np.errstate(invalid="ignore"):
            table[key] = 100 * np.diag(matrix) / matrix.sum(1)
        config[key] = st.column_config.ProgressColumn(
            title if len(matrices) > 1 else "Right", format="%.1f %%", min_value=0, max_value=100, width=170
        )
    if len(matrices) > 1:
        table["difference"] = table["b"] - table["a"]
        config["difference"] = st.column_config.NumberColumn("Second minus first", format="%+.1f", width=130)
    most = first.argmax(1)
    others = [*in_words(catalog.classes), OTHER]
    table["most"] = [others[most[row]] if first[row, most[row]] else "" for row in range(len(names))]
    config["most"] = st.column_config.TextColumn("Most often taken for")
    table["pictures"] = np.bincount(catalog.labels, minlength=len(names))
    config["pictures"] = st.column_config.NumberColumn("Pictures", width=80)
    if catalog.coarse_classes:
        table["super"] = [in_words(catalog.coarse_classes)[place] for place in catalog.coarse_of_class()]
        config["super"] = st.column_config.TextColumn("Super-class")
    order = np.argsort(table["a"].to_numpy(), kind="stable")
    st.caption("Worst first; click a column's head to sort by it, choose a row to see its images.")
    choices = [(class_choice(names[place]), "") for place in order]
    st.dataframe(
        table.iloc[order],
        hide_index=True,
        key=_CLASSES,
        on_select=lambda: _open_row(_CLASSES, choices),
        selection_mode="single-row",
        height=620,
        column_config=config,
        alt=f"Share of the images that are right for each of {len(names)} classes",
    )
