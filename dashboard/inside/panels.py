"""The panels of the Inside page: each draws one thing that goes on in a block, for one image."""

from collections.abc import Callable, Sequence
from html import escape

import numpy as np
import streamlit as st

from dashboard.inside.choices import Choice, choose_class
from dashboard.inside.drawing import (
    MARK,
    colours_of,
    edges,
    enlarged,
    heat,
    marked,
    outline,
    over_tokens,
    pixel_uri,
    signed_colours,
)
from dashboard.inside.figures import Lines, bias_figure, cost_figure, picture_figure, relevance_figure
from dashboard.inside.parts import show_picture, show_strip, square
from dashboard.inside.windows import show_windows
from dashboard.inside.words import Panel
from dashboard.shared.theme import escape_markdown
from swin_core.anatomy.internals import StageRelevance
from swin_core.anatomy.structure import Places, bias_maps
from swin_core.attribution.overlay import Look, overlay
from swin_core.figures.plotly_grid import CONFIG
from swin_core.figures.text import percent
from swin_core.models.complexity import count_flops, msa_complexity, padded_grid, window_msa_complexity
from swin_core.models.windows import Pair

__all__ = ["show_equation", "show_panel"]

PAPER_WINDOW = 7
"""Of a model without windows, for comparison."""


def show_panel(panel: Panel, choice: Choice) -> list[str]:
    """The panel's sentence and its drawing; it returns what the address asked in vain."""
    st.markdown(panel.sentence)
    return _SHOWN[panel.title](choice) or []


def show_equation(panel: Panel) -> None:
    """The paper's equation, on demand."""
    with st.popover("Equation", icon=":material/function:"):
        st.caption(panel.where)
        for formula in panel.equation:
            st.latex(formula)
        st.caption(panel.explained)


def _attention(choice: Choice) -> None:
    look = choice.subject.look(choice.block, choice.token, choice.head)
    view = choice.inside.view
    size, token = (view.shape[0], view.shape[1]), choice.token_size
    base = enlarged(view)
    fine = (token[0] * base.shape[0] // size[0], token[1] * base.shape[1] // size[1])
    places = choice.block.places()
    numbers = places.on_map(places.windows)
    values = look.of(choice.head)
    mark = Lines(outline(choice.token, token, size), 2.4, MARK, 5)
    name = "all heads on average" if choice.head is None else f"head {choice.head + 1}"
    left, right = st.columns(2, gap="medium", vertical_alignment="bottom")
    with left:
        own = numbers == numbers[choice.token]
        drawn = heat(
            base,
            over_tokens(values, fine, base.shape[:2]),
            float(values.max()),
            over_tokens(own, fine, base.shape[:2]) if numbers.max() else None,
        )
        st.markdown(f"**In its window**, {name}: {_sum_words(choice, values)}")
        hover = [f"row {r + 1}, column {c + 1}: {percent(float(values[r, c]))}" for r, c in np.ndindex(*values.shape)]
        lines = [Lines(edges(np.where(own, 1, 0), token, size)), mark] if numbers.max() else [mark]
        figure = picture_figure(drawn, size, lines, (), choice.block.grid, token, hover)
        show_picture(figure, "attention_picture", f"Attention of the marked token, {name}", choice)
    with right:
        first = choice.parts.blocks[0]
        small = choice.parts.token_size(first)
        fine = (small[0] * base.shape[0] // size[0], small[1] * base.shape[1] // size[1])
        rolled = look.rolled
        # Its own patches hold half of the share and more on the shortcuts: the scale ends where the others do.
        top = float(np.quantile(rolled[rolled > 0], 0.98)) if (rolled > 0).any() else 0.0
        drawn = heat(base, over_tokens(rolled, fine, base.shape[:2]), top)
        reached = percent(float((rolled > 1e-6).mean()))
        st.markdown(f"**Rolled out over the image**: through all blocks so far it has drawn on {reached} of the image.")
        hover = [f"{percent(float(value))} of its share" for value in rolled.ravel()]
        figure = picture_figure(drawn, size, [mark], (), first.grid, small, hover)
        show_picture(figure, "rolled_out", "What the marked token has drawn on")
    st.markdown("**Head by head**, the window as the block lays it; one scale for all heads.")
    top = float(look.within.max())
    at = _place_in_window(choice, places, look.within.shape[1:])
    pictures = [marked(colours_of(one, top), at) for one in look.within]
    _heads(pictures, choice.head, [f"up to {percent(float(one.max()))}" for one in look.within])


def _place_in_window(choice: Choice, places: Places, window: tuple[int, ...]) -> Pair:
    """Where the marked token lies in its window, of so many tokens."""
    row, column = places.place_of(choice.token)
    return row % window[0], column % window[1]


def _sum_words(choice: Choice, values: np.ndarray) -> str:
    total, own = float(values.sum()), float(values[choice.token])
    rest = 1 - total
    left_over = "padded tokens" if choice.parts.has_windows else "the class token"
    gone = f", {percent(rest)} goes to {left_over}" if rest > 5e-4 else ""
    return f"all shares add up to 100 %, {percent(own)} stays with the token itself{gone}."


def _heads(pictures: Sequence[np.ndarray], chosen: int | None, notes: Sequence[str]) -> None:
    """A strip with a small image for each head."""
    figures = []
    for head, (picture, note) in enumerate(zip(pictures, notes, strict=True)):
        words = escape(f"Head {head + 1}, {note}")
        figures.append(
            f'<figure{" class=here" if head == chosen else ""}><img src="{pixel_uri(picture)}" alt="{words}">'
            f"<figcaption>Head {head + 1}<br>{escape(note)}</figcaption></figure>"
        )
    show_strip("heads", "Heads", figures)


def _bias(choice: Choice) -> None:
    maps = bias_maps(choice.block)
    if maps is None:
        st.info("This block has no relative position bias.", icon=":material/info:")
        return
    values = maps.mean(0) if choice.head is None else maps[choice.head]
    name = "mean of all heads" if choice.head is None else f"head {choice.head + 1}"
    st.markdown(
        f"**{choice.block.title}, {name}**: what is added to the score of a token so many rows and columns away; the "
        "frame in the middle is the token that looks. It is the same for every image."
    )
    left, right = st.columns(2, gap="medium")
    with left, square("bias"):
        st.plotly_chart(bias_figure(values), height="stretch", config=CONFIG, alt=f"Relative position bias, {name}")
    with right:
        st.markdown("**All heads**, each on its own scale from blue to orange.")
        _heads(
            [signed_colours(one) for one in maps],
            choice.head,
            [f"{one.min():+.2f} to {one.max():+.2f}" for one in maps],
        )


def _features(choice: Choice) -> None:
    figures = []
    view = choice.inside.view
    figures.append(_cell([view], "What the model sees", f"{view.shape[0]} x {view.shape[1]} pixels"))
    for number, one in enumerate(choice.inside.stages, 1):
        strong = colours_of(one.magnitude, float(one.magnitude.max()))
        title = f"Stage {number}" if choice.parts.has_windows or not choice.parts.blocks else one.layer
        high, wide = one.magnitude.shape
        words = f"{high} x {wide}, {one.channels} channels; the colours hold {percent(one.explained)} of the variance"
        figures.append(_cell([strong, one.colours], title, words))
    show_strip("wide", "Stages", figures)


def _cell(pictures: Sequence[np.ndarray], title: str, words: str) -> str:
    kinds = ("strength", "kind") if len(pictures) > 1 else ("picture",)
    images = "".join(
        f'<img src="{pixel_uri(one)}" alt="{escape(f"{title}: {kind}")}">'
        for one, kind in zip(pictures, kinds, strict=True)
    )
    return f"<figure>{images}<figcaption><b>{escape(title)}</b><br>{escape(words)}</figcaption></figure>"


def _relevance(choice: Choice) -> list[str]:
    labels = choice.subject.load().labels
    target, ignored = choose_class(labels, int(choice.inside.logits.argmax()))
    found: StageRelevance = choice.subject.relevance(target)
    names = ["Pixels", *(f"Stage {number}" for number in range(1, len(found.maps)))]
    view = enlarged(choice.inside.view, 256)
    figures = []
    for name, values, total in zip(names, found.maps, found.sums, strict=True):
        drawn = overlay(view, values, float(np.quantile(np.abs(values), 0.995)), Look(opacity=0.9), signed=True)
        figures.append(_cell([drawn], name, f"sum {total:+.2f}, {_share(total, found.logit)} of the logit"))
    show_strip("wide", "Stages", figures)
    st.markdown(f"**{escape_markdown(found.label)}**: its logit is {found.logit:+.2f}")
    words = ", ".join(f"{name} {total:+.2f}" for name, total in zip(names, found.sums, strict=True))
    st.plotly_chart(
        relevance_figure(names, found.sums, found.logit),
        config=CONFIG,
        alt=f"Sums of relevance: {words}; logit {found.logit:+.2f}",
    )
    return ignored


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "no share"


def _cost(choice: Choice) -> None:
    block, picture = choice.block, choice.subject.picture
    side = choice.inside.view.shape[0]
    token = choice.token_size[0]
    window = max(block.windows.window) if choice.parts.has_windows else PAPER_WINDOW
    left, top, right, bottom = choice.subject.load().region(picture.image)
    own = min(right - left, bottom - top)
    marks = [(side, "as the model sees it", "seen")] + ([(own, "at its own size", "own")] if own > side else [])
    note = "" if choice.parts.has_windows else f"; it has no windows, those of {window} x {window} are for comparison"
    st.markdown(
        f"**{block.title}**: {block.channels} channels, a token of {token} x {token} pixels{note}. Steps of the curve "
        "are padding."
    )
    chart, figures = st.columns([5, 2], gap="medium")
    with chart:
        alt = "Cost of global attention and of windows against the side of the image"
        short = [(pixels, name) for pixels, _, name in marks]
        st.plotly_chart(cost_figure(block, token, window, short), config=CONFIG, key="cost", alt=alt)
    with figures:
        for pixels, words, _ in marks:
            grid = (max(1, -(-pixels // token)), max(1, -(-pixels // token)))
            whole, cut = msa_complexity(grid, block.channels), window_msa_complexity(grid, block.channels, window)
            st.metric(f"The image {words}, {pixels} px", f"{whole / cut:.3g} times")
            st.caption(
                f"Global attention takes {_millions(whole)} multiply-adds, windows take {_millions(cut)}, "
                f"on {grid[0]} x {grid[1]} tokens."
            )
        grid, padded = block.grid, padded_grid(block.grid, window)
        counted = count_flops(grid, block.channels, block.heads, window)
        added = f", padded to {padded[0]} x {padded[1]}" if padded != grid else ""
        st.caption(
            f"PyTorch counts {_millions(counted)} FLOPs in this block's attention within windows, for {grid[0]} x "
            f"{grid[1]} tokens{added}. It counts two for each multiply-add: equation 2 gives "
            f"{_millions(window_msa_complexity(grid, block.channels, window))}."
        )


def _millions(count: int) -> str:
    for size, name in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if count >= size:
            return f"{count / size:.4g} {name}"
    return f"{count:,}"


_SHOWN: dict[str, Callable[[Choice], list[str] | None]] = {
    "Windows": show_windows,
    "Attention": _attention,
    "Position bias": _bias,
    "Feature maps": _features,
    "Relevance": _relevance,
    "Cost": _cost,
}
