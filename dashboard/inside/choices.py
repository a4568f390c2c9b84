"""What is chosen on the Inside page: block, token, head and panel; all of it is kept in the address."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from dashboard.inside.words import Panel
from dashboard.inside.work import Subject
from dashboard.shared.cache import InputImage
from dashboard.shared.model_names import display_name
from dashboard.shared.url_state import invalid_number, unknown_values
from swin_core.anatomy.internals import Inside
from swin_core.anatomy.structure import Anatomy, Block
from swin_core.models.windows import Pair

__all__ = [
    "Choice",
    "choose_block",
    "choose_class",
    "choose_head",
    "choose_panel",
    "choose_shown",
    "choose_subject",
    "choose_token",
    "clicked_block",
    "first_block",
]

MEAN = "Mean"
SHOWN = ("Patches", "Windows", "Shift", "Mask")


@dataclass(frozen=True)
class Choice:
    """Everything that a panel draws from."""

    subject: Subject
    parts: Anatomy
    inside: Inside
    chosen: Block | None
    """None of a model without blocks, of which only its feature maps are shown."""
    token: Pair
    """Row and column on the block's grid, from 0."""
    head: int | None
    """From 0; None for the mean over heads."""

    @property
    def block(self) -> Block:
        """The chosen block."""
        assert self.chosen is not None
        return self.chosen

    @property
    def token_size(self) -> Pair:
        """Pixels of a token of the block, `(height, width)`."""
        return self.parts.token_size(self.block)

    def click(self, key: str) -> Callable[[], None]:
        """What to do when a token is clicked in the chart of that key."""

        def choose() -> None:
            if (found := _clicked(key)) is not None and len(found) == 2:
                st.session_state.row, st.session_state.column = int(found[0]) + 1, int(found[1]) + 1

        return choose


def _clicked(key: str) -> list[Any] | None:
    """The data of the point that was clicked in a chart; None if the selection was given up."""
    points = st.session_state[key].selection.points
    data = points[0].get("customdata") if points else None
    # Plotly's own points come as a list, or as an object with the places as keys.
    return list(data.values()) if isinstance(data, dict) else data


def clicked_block() -> None:
    """Choose the block that was clicked in the drawing of the stages."""
    if found := _clicked("stages_chart"):
        st.session_state.block = str(found[0])


def first_block(blocks: Sequence[Block]) -> Block:
    """The block to start with: the first that shifts its windows, or simply the first."""
    return next((block for block in blocks if block.shifted), blocks[0])


def choose_subject(pictures: Sequence[InputImage], models: Sequence[str]) -> tuple[Subject, list[str]]:
    """The one image and the one model to look at, and what the address asked in vain."""
    titles = [picture.title for picture in pictures]
    picture, model = 0, models[0]
    ignored = _settle("picture", titles) + _settle("inside", [display_name(name) for name in models], list(models))
    if len(titles) > 1:
        picture = titles.index(st.selectbox("Picture", titles, key="picture", width=190, bind="query-params"))
    if len(models) > 1:
        model = st.selectbox("Model", models, format_func=display_name, key="inside", width=260, bind="query-params")
    return Subject(model, pictures[picture]), ignored


def choose_panel(panels: Sequence[Panel]) -> tuple[Panel, list[str]]:
    """The panel to show, and what the address asked in vain."""
    titles = [panel.title for panel in panels]
    ignored = _settle("panel", titles)
    chosen = st.segmented_control(
        "Panel",
        titles,
        default=titles[0],
        required=True,
        label_visibility="collapsed",
        wrap=True,
        key="panel",
        bind="query-params",
    )
    return panels[titles.index(chosen) if chosen in titles else 0], ignored


def choose_block(blocks: Sequence[Block]) -> tuple[Block, list[str]]:
    """The block to look into, and what the address asked in vain."""
    titles = [block.title for block in blocks]
    ignored = _settle("block", titles)
    start = blocks.index(first_block(blocks))
    chosen = st.selectbox("Block", titles, start, key="block", width=190, bind="query-params")
    return blocks[titles.index(chosen)], ignored


def choose_token(grid: Pair) -> tuple[Pair, list[str]]:
    """The token to look at, row and column from 0, and what the address asked in vain.

    When another block has another grid, the token that lies at the same place of the image is chosen.
    """
    state, before = st.session_state, st.session_state.get("token_grid", grid)
    ignored = []
    place = []
    for key, size, old in (("row", grid[0], before[0]), ("column", grid[1], before[1])):
        if key not in state:
            ignored += invalid_number(key, 1, size)
        else:
            middle = int(state[key]) - 0.5 if state[key] is not None else old / 2
            moved = int(middle * size / old) + 1 if old != size else state[key] or size // 2 + 1
            state[key] = min(max(moved, 1), size)
        chosen = st.number_input(
            f"{key.capitalize()}, 1 to {size}",
            1,
            size,
            size // 2 + 1,
            key=key,
            width=140,
            help=f"The {key} of the token that looks; a click on the image chooses it too.",
            bind="query-params",
        )
        place.append(int(chosen) - 1)
    state.token_grid = grid
    return (place[0], place[1]), ignored


def choose_head(heads: int) -> tuple[int | None, list[str]]:
    """The head to look at, from 0, or None for the mean over all; and what the address asked in vain."""
    offered = [MEAN, *map(str, range(1, heads + 1))]
    ignored = _settle("head", offered)
    chosen = st.pills("Head", offered, default=MEAN, required=True, key="head", bind="query-params")
    return (None if chosen in (None, MEAN) else int(chosen) - 1), ignored


def choose_shown(block: Block) -> tuple[list[str], list[str]]:
    """What is drawn over the image, and what the address asked in vain."""
    offered = [name for name in SHOWN if block.shifted or name not in ("Shift", "Mask")]
    if block.mixer == "mlp" and "Mask" in offered:
        offered.remove("Mask")  # nothing is rolled, so that nothing has to be masked
    if not block.windowed:
        offered = ["Patches"]
    state = st.session_state
    ignored = [] if "drawn" in state else unknown_values("drawn", SHOWN)
    if "drawn" in state and not set(state.drawn) <= set(offered):
        state.drawn = [name for name in state.drawn if name in offered]
    chosen = st.pills(
        "Show",
        offered,
        selection_mode="multi",
        default=offered,
        label_visibility="collapsed",
        key="drawn",
        bind="query-params",
    )
    return chosen, ignored


def choose_class(labels: Sequence[str], likely: int) -> tuple[int, list[str]]:
    """The class whose logit is handed back, at first the model's own choice; and what the address asked in vain."""
    names = list(labels)
    ignored = _settle("relevant", names)
    chosen = st.selectbox("Class", names, likely, key="relevant", width=260, bind="query-params")
    return names.index(chosen), ignored


def _settle(key: str, offered: Sequence[str], values: Sequence[str] | None = None) -> list[str]:
    """Give up a value that another model or block left behind; name one that the address asks in vain.

    Args:
        key: of the widget.
        offered: what the address may hold.
        values: what the widget may hold, if that is something else.
    """
    if key in st.session_state:
        if st.session_state[key] not in (offered if values is None else values):
            del st.session_state[key]
        return []
    return unknown_values(key, offered)
