"""The panels of the Inside page: attention, position bias, feature maps, relevance and cost."""

from collections.abc import Callable, Sequence

import numpy as np
import streamlit as st

from dashboard.inside.controls import PanelContext, choose_target
from dashboard.inside.drawing import (
    edges,
    enlarge,
    heat_overlay,
    mark_cell,
    over_tokens,
    sequential_colours,
    signed_colours,
)
from dashboard.inside.layout import show_image, show_strip, square, strip_item
from dashboard.inside.panel_texts import Panel
from dashboard.inside.plotly_figures import (
    Lines,
    bias_figure,
    cost_figure,
    image_figure,
    relevance_figure,
    token_outline,
)
from dashboard.inside.windows_panel import show_windows
from dashboard.shared.charts import CONFIG
from dashboard.shared.theme import escape_markdown
from swin_core.anatomy.structure import bias_maps
from swin_core.attribution.overlay import Look, overlay
from swin_core.figures.text import percent
from swin_core.models.complexity import count_flops, msa_complexity, padded_grid, window_msa_complexity

PAPER_WINDOW = 7
"""Window side used for comparison with a model without windows."""


def show_panel(panel: Panel, context: PanelContext) -> None:
    """Draw a panel with its sentence."""
    st.markdown(panel.sentence)
    _DRAW[panel.title](context)


def show_equation(panel: Panel) -> None:
    """Draw the button that shows the paper's equation."""
    with st.popover("Equation", icon=":material/function:"):
        st.caption(panel.source)
        for formula in panel.equation:
            st.latex(formula)
        st.caption(panel.symbols)


def _show_attention(context: PanelContext) -> None:
    attention = context.inspection.token_attention(context.block, context.token, context.head)
    size, token = context.size, context.token_size
    image = enlarge(context.internals.view)
    scale = image.shape[0] // size[0]
    positions = context.block.positions()
    windows = positions.on_map(positions.windows)
    mark = token_outline(context.token, token, size)
    name = "mean of all heads" if context.head is None else f"head {context.head + 1}"
    left, right = st.columns(2, gap="medium", vertical_alignment="bottom")
    with left:
        values, lines, visible = attention.of(context.head), [mark], None
        if windows.max():
            own = windows == windows[context.token]
            visible = over_tokens(own, token, size, scale)
            lines = [Lines(edges(own, token, size)), mark]
        drawn = heat_overlay(image, over_tokens(values, token, size, scale), float(values.max()), visible)
        st.markdown(f"**In its window**, {name}: {_describe_sum(context, values)}")
        hover = [f"row {r + 1}, column {c + 1}: {percent(float(values[r, c]))}" for r, c in np.ndindex(*values.shape)]
        figure = image_figure(drawn, size, lines, (), context.block.grid, token, hover)
        show_image(figure, "attention_picture", f"Attention of the marked token, {name}", clickable=True)
    with right:
        first, rollout = context.anatomy.blocks[0], attention.rollout
        first_token = context.anatomy.token_size(first)
        # The token's own patches hold more than half of the share: end the scale at the 98th percentile.
        top = float(np.quantile(rollout[rollout > 0], 0.98)) if (rollout > 0).any() else 0.0
        drawn = heat_overlay(image, over_tokens(rollout, first_token, size, scale), top)
        reached = percent(float((rollout > 1e-6).mean()))
        st.markdown(f"**Attention rollout**: through all blocks so far, the token has drawn on {reached} of the image.")
        hover = [f"{percent(float(value))} of its share" for value in rollout.ravel()]
        figure = image_figure(drawn, size, [mark], (), first.grid, first_token, hover)
        show_image(figure, "rolled_out", "Attention rollout of the marked token")
    st.markdown("**Each head** within the window, as the block computes it; one scale for all heads.")
    row, column = positions.position_of(context.token)
    cell = (row % attention.in_window.shape[1], column % attention.in_window.shape[2])
    top = float(attention.in_window.max())
    _show_heads(
        [mark_cell(sequential_colours(head, top), cell) for head in attention.in_window],
        context.head,
        [f"up to {percent(float(head.max()))}" for head in attention.in_window],
    )


def _describe_sum(context: PanelContext, values: np.ndarray) -> str:
    rest, own = 1 - float(values.sum()), float(values[context.token])
    others = "padded tokens" if context.anatomy.has_windows else "the class token"
    elsewhere = f", {percent(rest)} goes to {others}" if rest > 5e-4 else ""
    return f"all weights sum to {percent(1)}, {percent(own)} stays with the token itself{elsewhere}."


def _show_heads(images: Sequence[np.ndarray], chosen: int | None, notes: Sequence[str]) -> None:
    items = [
        strip_item({f"Head {head}, {note}": image}, f"Head {head}", note, head - 1 == chosen)
        for head, (image, note) in enumerate(zip(images, notes, strict=True), 1)
    ]
    show_strip("heads", "Heads", items)


def _show_bias(context: PanelContext) -> None:
    maps = bias_maps(context.block)
    if maps is None:
        st.info("This block has no relative position bias.", icon=":material/info:")
        return
    values = maps.mean(0) if context.head is None else maps[context.head]
    name = "mean of all heads" if context.head is None else f"head {context.head + 1}"
    st.markdown(
        f"**{context.block.title}, {name}**: added to the score of a token at this offset in rows and columns. The "
        "frame in the middle is the query token. The bias is the same for every image."
    )
    left, right = st.columns(2, gap="medium")
    with left, square("bias"):
        st.plotly_chart(bias_figure(values), height="stretch", config=CONFIG, alt=f"Relative position bias, {name}")
    with right:
        st.markdown("**All heads**, each on its own scale from blue to orange.")
        notes = [f"{head.min():+.2f} to {head.max():+.2f}" for head in maps]
        _show_heads([signed_colours(head) for head in maps], context.head, notes)


def _show_features(context: PanelContext) -> None:
    view = context.internals.view
    title = "Model input"
    items = [strip_item({title: view}, title, f"{view.shape[0]} x {view.shape[1]} pixels")]
    for number, stage in enumerate(context.internals.stages, 1):
        title = f"Stage {number}" if context.anatomy.has_windows or not context.anatomy.blocks else stage.layer
        height, width = stage.magnitude.shape
        magnitude = sequential_colours(stage.magnitude, float(stage.magnitude.max()))
        items.append(
            strip_item(
                {f"{title}: magnitude": magnitude, f"{title}: principal components": stage.colours},
                title,
                f"{height} x {width}, {stage.channels} channels; the colours hold {percent(stage.explained)} of the "
                "variance",
            )
        )
    show_strip("wide", "Stages", items)


def _show_relevance(context: PanelContext) -> None:
    labels = context.inspection.classifier().labels
    target = choose_target(labels, int(context.internals.logits.argmax()), context.ignored)
    relevance = context.inspection.relevance(target)
    names = ["Pixels", *(f"Stage {number}" for number in range(1, len(relevance.maps)))]
    view = enlarge(context.internals.view, 256)
    items = []
    for name, values, total in zip(names, relevance.maps, relevance.sums, strict=True):
        drawn = overlay(view, values, float(np.quantile(np.abs(values), 0.995)), Look(opacity=0.9), signed=True)
        share = f", {100 * total / relevance.logit:.0f} % of the logit" if relevance.logit else ""
        items.append(strip_item({f"{name}: relevance": drawn}, name, f"sum {total:+.2f}{share}"))
    show_strip("wide", "Stages", items)
    st.markdown(f"**{escape_markdown(relevance.label)}**: its logit is {relevance.logit:+.2f}")
    sums = ", ".join(f"{name} {total:+.2f}" for name, total in zip(names, relevance.sums, strict=True))
    st.plotly_chart(
        relevance_figure(names, relevance.sums, relevance.logit),
        config=CONFIG,
        alt=f"Sums of relevance: {sums}; logit {relevance.logit:+.2f}",
    )


def _show_cost(context: PanelContext) -> None:
    block, token = context.block, context.token_size[0]
    window = max(block.windows.window) if context.anatomy.has_windows else PAPER_WINDOW
    left, top, right, bottom = context.inspection.classifier().region(context.inspection.image.pil)
    model_side, own_side = context.size[0], min(right - left, bottom - top)
    marks = [(model_side, "seen")] + ([(own_side, "own")] if own_side > model_side else [])
    note = "" if context.anatomy.has_windows else f"; it has no windows, {window} x {window} is for comparison"
    st.markdown(
        f"**{block.title}**: {block.channels} channels, a token of {token} x {token} pixels{note}. Steps in the curve "
        "come from padding."
    )
    chart, numbers = st.columns([5, 2], gap="medium")
    with chart:
        alt = "Cost of global attention and of windows against the side of the image"
        st.plotly_chart(cost_figure(block, token, window, marks), config=CONFIG, key="cost", alt=alt)
    with numbers:
        for (side, _), size_name in zip(marks, ("as the model sees it", "at its own size"), strict=False):
            grid = (max(1, -(-side // token)),) * 2
            full, windowed = msa_complexity(grid, block.channels), window_msa_complexity(grid, block.channels, window)
            st.metric(f"The image {size_name}, {side} px", f"{full / windowed:.3g} times")
            st.caption(
                f"Global attention takes {_large_number(full)} multiply-adds, windows take {_large_number(windowed)}, "
                f"on {grid[0]} x {grid[1]} tokens."
            )
        grid, padded = block.grid, padded_grid(block.grid, window)
        flops = count_flops(grid, block.channels, block.heads, window)
        padding = f", padded to {padded[0]} x {padded[1]}" if padded != grid else ""
        st.caption(
            f"PyTorch counts {_large_number(flops)} FLOPs in this block's window attention, for {grid[0]} x {grid[1]} "
            f"tokens{padding}. It counts two for each multiply-add; equation 2 gives "
            f"{_large_number(window_msa_complexity(grid, block.channels, window))} multiply-adds."
        )


def _large_number(count: int) -> str:
    for size, name in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if count >= size:
            return f"{count / size:.4g} {name}"
    return f"{count:,}"


_DRAW: dict[str, Callable[[PanelContext], None]] = {
    "Windows": show_windows,
    "Attention": _show_attention,
    "Position bias": _show_bias,
    "Feature maps": _show_features,
    "Relevance": _show_relevance,
    "Cost": _show_cost,
}
