"""The panels of the Inside page: attention, position bias, feature maps, relevance and cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from dashboard.inside.controls import PanelContext, choose_target, choose_token_at
from dashboard.inside.drawing import (
    MARK,
    edges,
    line_marks,
    mark_cell,
    outline,
    outside_mark,
    over_tokens,
    sequential_colours,
    signed_colours,
)
from dashboard.inside.layout import PRINTED_SIDE, StripItem, show_strip, square
from dashboard.inside.panel_texts import Panel
from dashboard.inside.plotly_figures import bias_figure, cost_figure, relevance_figure
from dashboard.inside.windows_panel import show_windows
from dashboard.shared.chart_drawing import draw_chart
from dashboard.shared.charts import CONFIG
from dashboard.shared.look import HeldLook, held_look, settle_wipe
from dashboard.shared.model_names import model_title
from dashboard.shared.theme import escape_markdown
from dashboard.shared.viewer import show_viewer
from swin_core.anatomy.structure import bias_maps
from swin_core.figures.files import encode_figure
from swin_core.figures.grid import MapCell, MapGrid, MapRow, Mark
from swin_core.figures.matplotlib_page import CELL
from swin_core.figures.sheet import INNER, Part, Tile, sheet_figure
from swin_core.figures.text import percent
from swin_core.models.complexity import msa_complexity, padded_grid, window_msa_complexity
from swin_core.models.windows import Pair

TOKEN_PANELS = ("Windows", "Attention")
"""Panels that show a query token."""
PAPER_WINDOW = 7
"""Window side used for comparison with a model without windows."""


def show_panel(panel: Panel, context: PanelContext) -> list[Part]:
    """Draw a panel with its sentence; return its images and charts for print."""
    st.markdown(panel.sentence)
    return _DRAW[panel.title](context)


def encode_panel(panel: Panel, context: PanelContext, parts: Sequence[Part], held: HeldLook, kind: str) -> bytes:
    """Return a file of a panel with its sentence, in the look that is set now."""
    model = model_title(context.inspection.model)
    title = f"{panel.title} · {context.inspection.image.title} · {model}"
    where = []
    if panel.title in TOKEN_PANELS:
        row, column = context.token
        where.append(f"{context.block.title}, query token in row {row + 1}, column {column + 1}.")
    looked = [replace(part, look=held.look) if isinstance(part, MapGrid) else part for part in parts]
    return encode_figure(sheet_figure(title, [panel.sentence, *where], looked), kind)


def show_equation(panel: Panel) -> None:
    """Draw the button that shows the paper's equation."""
    with st.popover("Equation", icon=":material/function:"):
        st.caption(panel.source)
        for formula in panel.equation:
            st.latex(formula)
        st.caption(panel.symbols)


def _show_attention(context: PanelContext) -> list[Part]:
    attention = context.inspection.token_attention(context.block, context.token, context.head)
    size, token = context.size, context.token_size
    positions = context.block.positions()
    windows = positions.on_map(positions.windows)
    own = windows == windows[context.token]
    mark = line_marks(outline(context.token, token, size), size, 2.4, MARK)
    borders: tuple[Mark, ...] = ()
    if windows.max():
        borders = (outside_mark(own, token, size), *line_marks(edges(own, token, size), size))
    name = "mean of all heads" if context.head is None else f"head {context.head + 1}"
    values, rollout = attention.of(context.head), attention.rollout
    first_token = context.anatomy.token_size(context.anatomy.blocks[0])
    # The token's own patches hold more than half of the share: end the scale at the 98th percentile.
    top = float(np.quantile(rollout[rollout > 0], 0.98)) if (rollout > 0).any() else 0.0
    reached = percent(float((rollout > 1e-6).mean()))
    title = f"{context.block.title}, {name}"
    tokens = partial(MapCell, context.internals.view, share=True, nearest=True)
    maps = {
        f"In its window · {title}": tokens(
            _whole_tokens(values, token, size),
            top=float(values.max()),
            notes=(_describe_sum(context, values),),
            marks=(*borders, *mark),
        ),
        "Attention rollout · all blocks so far": tokens(
            _whole_tokens(rollout, first_token, size),
            top=top,
            notes=(f"The token has drawn on {reached} of the image.",),
            marks=mark,
        ),
    }
    choose = partial(choose_token_at, context.block.grid, token, size)
    grid = _show_maps(context, maps, "attention_maps", (*borders[1:], *mark), choose)
    st.markdown(
        f"**Each head of {context.block.title}** within the window, as it computes it; one scale for all heads."
    )
    row, column = positions.position_of(context.token)
    cell = (row % attention.in_window.shape[1], column % attention.in_window.shape[2])
    top = float(attention.in_window.max())
    heads = _show_heads(
        [mark_cell(sequential_colours(head, top), cell) for head in attention.in_window],
        context.head,
        [f"up to {percent(float(head.max()))}" for head in attention.in_window],
    )
    return [grid, *heads]


def _whole_tokens(values: np.ndarray, token: Pair, size: Pair) -> np.ndarray:
    """Return values of tokens, `(H, W)`, over the whole image: its last tokens may reach beyond it."""
    fits = all(count * side == whole for count, side, whole in zip(values.shape, token, size, strict=True))
    return values if fits else over_tokens(values, token, size)


def _show_maps(
    context: PanelContext,
    maps: Mapping[str, MapCell],
    key: str,
    marks: tuple[Mark, ...] = (),
    on_point: Callable[[float, float], None] | None = None,
) -> MapGrid:
    """Draw maps, by their titles, over the image as the model sees it; keep the look that the user chooses."""
    context.ignored.extend(settle_wipe([f"{key} {number}" for number in range(len(maps))]))  # titles name the block
    row = MapRow(context.inspection.image.title, context.internals.view, tuple(maps.values()), marks)
    grid = MapGrid((row,), tuple(maps), held_look().look)
    show_viewer(grid, key, on_point=on_point)
    return grid


def _describe_sum(context: PanelContext, values: np.ndarray) -> str:
    rest, own = 1 - float(values.sum()), float(values[context.token])
    others = "padded tokens" if context.anatomy.has_windows else "the class token"
    elsewhere = f", {percent(rest)} goes to {others}" if rest > 5e-4 else ""
    return f"All weights sum to {percent(1)}, {percent(own)} stays with the token itself{elsewhere}."


def _show_heads(images: Sequence[np.ndarray], chosen: int | None, notes: Sequence[str]) -> list[Part]:
    items = [
        StripItem({f"Head {head}, {note}": image}, f"Head {head}", note, head - 1 == chosen)
        for head, (image, note) in enumerate(zip(images, notes, strict=True), 1)
    ]
    return show_strip("heads", "Heads", items)


def _show_bias(context: PanelContext) -> list[Part]:
    maps = bias_maps(context.block)
    if maps is None:
        st.info("This block has no relative position bias.", icon=":material/info:")
        return []
    values = maps.mean(0) if context.head is None else maps[context.head]
    name = "mean of all heads" if context.head is None else f"head {context.head + 1}"
    title = f"{context.block.title}, {name}"
    text = (
        ": added to the score of a token at this offset in rows and columns. The frame in the middle is the query "
        "token. The bias is the same for every image."
    )
    st.markdown(f"**{title}**{text}")
    left, right = st.columns(2, gap="medium")
    figure = bias_figure(values)
    with left, square("bias"):
        st.plotly_chart(figure, height="stretch", config=CONFIG, alt=f"Relative position bias, {name}")
    with right:
        st.markdown(f"**All heads of {context.block.title}**, each on its own scale from blue to orange.")
        notes = [f"{head.min():+.2f} to {head.max():+.2f}" for head in maps]
        heads = _show_heads([signed_colours(head) for head in maps], context.head, notes)
    return [(_chart(figure, title, text, PRINTED_SIDE, PRINTED_SIDE),), *heads]


def _chart(figure: go.Figure, title: str, text: str, width: float, height: float) -> Tile:
    """Return a chart for print, with room for what stands beside its axes; sizes are in inches."""
    return Tile(title, notes=(text.removeprefix(": "),), chart=partial(draw_chart, figure), width=width, height=height)


def _show_features(context: PanelContext) -> list[Part]:
    view = context.internals.view
    title = "Model input"
    items = [StripItem({title: view}, title, f"{view.shape[0]} x {view.shape[1]} pixels")]
    for number, stage in enumerate(context.internals.stages, 1):
        title = f"Stage {number}" if context.anatomy.has_windows or not context.anatomy.blocks else stage.layer
        height, width = stage.magnitude.shape
        magnitude = sequential_colours(stage.magnitude, float(stage.magnitude.max()))
        items.append(
            StripItem(
                {f"{title}: strength": magnitude, f"{title}: kind": stage.colours},
                title,
                f"{height} x {width}, {stage.channels} channels; the colours hold {percent(stage.explained)} of the "
                "variance",
                rows=("strength", "kind"),
            )
        )
    return show_strip("wide", "Stages", items)


def _show_relevance(context: PanelContext) -> list[Part]:
    labels = context.inspection.classifier().labels
    target = choose_target(labels, int(context.internals.logits.argmax()), context.ignored)
    relevance = context.inspection.relevance(target)
    names = ["Pixels", *(f"Stage {number}" for number in range(1, len(relevance.maps)))]
    maps = {}
    for name, values, total in zip(names, relevance.maps, relevance.sums, strict=True):
        share = f", {100 * total / relevance.logit:.0f} % of the logit" if relevance.logit else ""
        top = float(np.quantile(np.abs(values), 0.995))
        maps[name] = MapCell(context.internals.view, values, notes=(f"sum {total:+.2f}{share}",), top=top)
    grid = _show_maps(context, maps, "relevance_maps")
    text = f": its logit is {relevance.logit:+.2f}"
    st.markdown(f"**{escape_markdown(relevance.label)}**{text}")
    sums = ", ".join(f"{name} {total:+.2f}" for name, total in zip(names, relevance.sums, strict=True))
    figure = relevance_figure(names, relevance.sums, relevance.logit)
    st.plotly_chart(figure, config=CONFIG, alt=f"Sums of relevance: {sums}; logit {relevance.logit:+.2f}")
    return [grid, (_chart(figure, relevance.label, text, INNER, CELL),)]


def _show_cost(context: PanelContext) -> list[Part]:
    block, token = context.block, context.token_size[0]
    window = max(block.windows.window) if context.anatomy.has_windows else PAPER_WINDOW
    left, top, right, bottom = context.inspection.classifier().region(context.inspection.image.pil)
    model_side, own_side = context.size[0], min(right - left, bottom - top)
    marks = [(model_side, "seen")] + ([(own_side, "own")] if own_side > model_side else [])
    note = "" if context.anatomy.has_windows else f"; it has no windows, {window} x {window} is for comparison"
    text = (
        f": {block.channels} channels, a token of {token} x {token} pixels{note}. Steps in the curve come from padding."
    )
    st.markdown(f"**{block.title}**{text}")
    figure = cost_figure(block, token, window, marks)
    chart, numbers = st.columns([5, 2], gap="medium")
    with chart:
        alt = "Cost of global attention and of windows against the side of the image"
        st.plotly_chart(figure, config=CONFIG, key="cost", alt=alt)
    said = []
    with numbers:
        for (side, _), size_name in zip(marks, ("as the model sees it", "at its own size"), strict=False):
            grid = (max(1, -(-side // token)),) * 2
            full, windowed = msa_complexity(grid, block.channels), window_msa_complexity(grid, block.channels, window)
            name, factor = f"The image {size_name}, {side} px", f"{full / windowed:.3g} times"
            words = (
                f"Global attention takes {_large_number(full)} multiply-adds, windows take {_large_number(windowed)}, "
                f"on {grid[0]} x {grid[1]} tokens."
            )
            st.metric(name, factor)
            st.caption(words)
            said.append(f"{name}: {factor}. {words}")
        grid, padded = block.grid, padded_grid(block.grid, window)
        multiply_adds = window_msa_complexity(grid, block.channels, window)
        padding = f", padded to {padded[0]} x {padded[1]}" if padded != grid else ""
        st.caption(
            f"PyTorch counts {_large_number(2 * multiply_adds)} FLOPs in this block's window attention, for "
            f"{grid[0]} x {grid[1]} tokens{padding}: two for each of the {_large_number(multiply_adds)} multiply-adds "
            "of equation 2."
        )
    return [(_chart(figure, block.title, " ".join([text, *said]), INNER, 2 * CELL),)]


def _large_number(count: int) -> str:
    for size, name in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if count >= size:
            return f"{count / size:.4g} {name}"
    return f"{count:,}"


_DRAW: dict[str, Callable[[PanelContext], list[Part]]] = {
    "Windows": show_windows,
    "Attention": _show_attention,
    "Position bias": _show_bias,
    "Feature maps": _show_features,
    "Relevance": _show_relevance,
    "Cost": _show_cost,
}
