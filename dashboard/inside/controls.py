"""The controls of the Inside page: image, model, block, token, head and panel, all kept in the URL.

Each `choose_` function appends a warning to `ignored` for each value of the URL that its widget does not offer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from dashboard.inside.inspection import Inspection
from dashboard.inside.panel_texts import Panel
from dashboard.shared.cache import InputImage
from dashboard.shared.model_names import column_titles
from dashboard.shared.url_state import choose_from_list, invalid_number, unknown_values
from swin_core.anatomy.internals import Internals
from swin_core.anatomy.structure import Anatomy, Block
from swin_core.models.windows import Pair

MEAN = "Mean"
LAYERS = ("Patches", "Windows", "Shift", "Mask")


@dataclass(frozen=True)
class PanelContext:
    """Everything that a panel is drawn from."""

    inspection: Inspection
    anatomy: Anatomy
    internals: Internals
    chosen_block: Block | None
    """None for a model without blocks, which has feature maps only."""
    token: Pair
    """Row and column on the block's grid, from 0."""
    head: int | None
    """From 0; None for the mean over heads."""
    ignored: list[str]
    """Receives warnings about invalid query parameters."""

    @property
    def block(self) -> Block:
        """The chosen block."""
        assert self.chosen_block is not None
        return self.chosen_block

    @property
    def token_size(self) -> Pair:
        """Size of a token of the block in pixels, `(height, width)`."""
        return self.anatomy.token_size(self.block)

    @property
    def size(self) -> Pair:
        """Size of the model's input in pixels, `(height, width)`."""
        return self.internals.view.shape[0], self.internals.view.shape[1]


def choose_clicked_token(key: str) -> None:
    """Choose the token that was clicked in a chart."""
    data = _clicked(key)
    if data is not None and len(data) == 2:
        st.session_state.row, st.session_state.column = int(data[0]) + 1, int(data[1]) + 1


def choose_token_at(grid: Pair, token: Pair, size: Pair, x: float, y: float) -> None:
    """Choose the token at a place of the image.

    Args:
        grid: rows and columns of tokens.
        token: size of a token in pixels.
        size: size of the image in pixels.
        x: place in fractions of the width.
        y: place in fractions of the height.
    """
    row, column = (int(share * side / each) for share, side, each in zip((y, x), size, token, strict=True))
    st.session_state.row, st.session_state.column = min(row, grid[0] - 1) + 1, min(column, grid[1] - 1) + 1


def choose_clicked_block() -> None:
    """Choose the block that was clicked in the chart of the stages."""
    if data := _clicked("stages_chart"):
        st.session_state.block = str(data[0])


def _clicked(key: str) -> list[Any] | None:
    """Return the `customdata` of the point clicked in a chart, or None if nothing is selected."""
    points = st.session_state[key].selection.points
    data = points[0].get("customdata") if points else None
    # Plotly sends a list, or an object with the indices as keys.
    return list(data.values()) if isinstance(data, dict) else data


def choose_inspection(images: Sequence[InputImage], models: Sequence[str], ignored: list[str]) -> Inspection:
    """Draw the selects of the image and the model, if there are several."""
    titles = [image.title for image in images]
    title, model = titles[0], models[0]
    _drop_stale("picture", titles, ignored)
    if len(titles) > 1:
        title = st.selectbox("Image", titles, key="picture", width=190, bind="query-params")
    if len(models) > 1:
        words = dict(zip(models, column_titles(models), strict=True))
        model = choose_from_list("Model", models, "inside", words.__getitem__, models[0], ignored)
    return Inspection(model, images[titles.index(title)])


def choose_panel(panels: Sequence[Panel], ignored: list[str]) -> Panel:
    """Draw the choice of the panel."""
    by_title = {panel.title: panel for panel in panels}
    _drop_stale("panel", list(by_title), ignored)
    chosen = st.segmented_control(
        "Panel",
        list(by_title),
        default=panels[0].title,
        required=True,
        label_visibility="collapsed",
        wrap=True,
        key="panel",
        bind="query-params",
    )
    return by_title.get(str(chosen), panels[0])


def choose_block(blocks: Sequence[Block], ignored: list[str]) -> Block:
    """Draw the select of the block; it starts with the first block that shifts its windows."""
    titles = [block.title for block in blocks]
    _drop_stale("block", titles, ignored)
    start = next((i for i, block in enumerate(blocks) if block.shifted), 0)
    return blocks[titles.index(st.selectbox("Block", titles, start, key="block", width=190, bind="query-params"))]


def choose_token(grid: Pair, ignored: list[str]) -> Pair:
    """Draw the row and column of the token; return them from 0.

    When the grid changes with the block, the token at the same position of the image is chosen.
    """
    state, old_grid = st.session_state, st.session_state.get("token_grid", grid)
    token = []
    for key, size, old_size in (("row", grid[0], old_grid[0]), ("column", grid[1], old_grid[1])):
        if key not in state:
            ignored += invalid_number(key, 1, size)
        else:
            middle = int(state[key]) - 0.5 if state[key] is not None else old_size / 2
            moved = int(middle * size / old_size) + 1 if old_size != size else state[key] or size // 2 + 1
            state[key] = min(max(moved, 1), size)
        chosen = st.number_input(
            f"{key.capitalize()}, 1 to {size}",
            1,
            size,
            size // 2 + 1,
            key=key,
            width=140,
            help=f"The {key} of the query token. You can also click a token on the image.",
            bind="query-params",
        )
        token.append(int(chosen) - 1)
    state.token_grid = grid
    return token[0], token[1]


def choose_head(heads: int, ignored: list[str]) -> int | None:
    """Draw the choice of the attention head; return it from 0, or None for the mean over heads."""
    offered = [MEAN, *map(str, range(1, heads + 1))]
    _drop_stale("head", offered, ignored)
    chosen = st.pills("Head", offered, default=MEAN, required=True, key="head", bind="query-params")
    return None if chosen in (None, MEAN) else int(chosen) - 1


def choose_layers(block: Block, ignored: list[str]) -> list[str]:
    """Draw the choice of what is drawn on the image: some of `LAYERS`."""
    offered = list(LAYERS if block.shifted else LAYERS[:2]) if block.windowed else ["Patches"]
    if block.mixer == "mlp" and "Mask" in offered:
        offered.remove("Mask")  # Swin-MLP shifts by padding and needs no mask
    state = st.session_state
    if "drawn" not in state:
        ignored += unknown_values("drawn", LAYERS)
    elif not set(state.drawn) <= set(offered):
        state.drawn = [name for name in state.drawn if name in offered]
    return st.pills(
        "Show",
        offered,
        selection_mode="multi",
        default=[offered[min(1, len(offered) - 1)]],  # one at a time; more can be added
        label_visibility="collapsed",
        key="drawn",
        bind="query-params",
    )


def choose_target(labels: Sequence[str], top1: int, ignored: list[str]) -> int:
    """Draw the select of the target class, which starts with the top-1 class; return its index."""
    names = list(labels)
    _drop_stale("relevant", names, ignored)
    return names.index(st.selectbox("Class", names, top1, key="relevant", width=260, bind="query-params"))


def _drop_stale(key: str, offered: Sequence[str], ignored: list[str]) -> None:
    """Drop a widget's value that the current model and block do not offer; warn if it comes from the URL."""
    if key not in st.session_state:
        ignored += unknown_values(key, offered)
    elif st.session_state[key] not in offered:
        del st.session_state[key]
