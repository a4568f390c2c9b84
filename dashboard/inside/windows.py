"""The first panel of the Inside page: patches, windows, their shift and their mask, on an image."""

import numpy as np
import streamlit as st

from dashboard.inside.choices import Choice, choose_shown
from dashboard.inside.drawing import (
    MARK,
    edges,
    enlarged,
    label_places,
    outline,
    over_tokens,
    pixel_uri,
    rolled_view,
    tint_numbers,
    tinted,
)
from dashboard.inside.figures import Lines, picture_figure
from dashboard.inside.parts import show_picture, show_strip
from swin_core.anatomy.structure import PADDING, Places
from swin_core.figures.text import percent

__all__ = ["show_windows"]

SEEN, UNSEEN = (86, 180, 233), (40, 46, 56)
FEW_TOKENS, LABELS_AT_MOST = 40, 64
"""Tokens of a side up to which their lines are strong, and windows up to which each gets its number: of more than that
nobody could read them."""


def show_windows(choice: Choice) -> list[str]:
    """The panel; it returns what the address asked in vain."""
    block, places = choice.block, choice.block.places()
    shown, ignored = choose_shown(block)
    view = choice.inside.view
    size, token = (view.shape[0], view.shape[1]), choice.token_size
    numbers = places.on_map(places.windows)
    base = enlarged(view)
    fine = (token[0] * base.shape[0] // size[0], token[1] * base.shape[1] // size[1])
    lines, labels = [], []
    tokens = np.arange(block.grid[0] * block.grid[1]).reshape(block.grid)
    if "Patches" in shown:
        few = max(block.grid) <= FEW_TOKENS  # lines of many would hide the image
        strength = (0.8, "rgba(255,255,255,0.75)", 1.9) if few else (0.5, "rgba(255,255,255,0.45)", 1.2)
        lines.append(Lines(edges(tokens, token, size), *strength))
    tints = tint_numbers(numbers)
    drawn = base
    if "Windows" in shown and numbers.max() > 0:
        drawn = tinted(base, over_tokens(tints, fine, base.shape[:2]))
        lines.append(Lines(edges(numbers, token, size)))
        labels = label_places(numbers, token) if numbers.max() < LABELS_AT_MOST else []
    lines.append(Lines(outline(choice.token, token, size), 2.4, MARK, 5))
    hover = [f"row {r + 1}, column {c + 1}: window {numbers[r, c] + 1}" for r, c in np.ndindex(*block.grid)]
    left, right = st.columns(2, gap="medium", vertical_alignment="bottom")
    with left:
        st.markdown(f"**On the image**: {_window_words(choice, int(numbers.max()) + 1)}")
        figure = picture_figure(drawn, size, lines, labels, block.grid, token, hover)
        alt = f"{choice.subject.picture.title} with the windows of {block.title}"
        show_picture(figure, "windows_picture", alt, choice)
    with right:
        if "Shift" in shown and block.shifted:
            _rolled(choice, places, tints, "Windows" in shown, "Mask" in shown)
        else:
            _plain_window(choice, places)
    if "Mask" in shown:
        _masks(choice, places)
    return ignored


def _window_words(choice: Choice, count: int) -> str:
    block = choice.block
    high, wide = block.windows.window
    patches = f"{block.grid[0]} x {block.grid[1]} tokens of {choice.token_size[0]} x {choice.token_size[1]} pixels"
    if count == 1:
        return f"{patches}, all of them in one window."
    parts = " A window with its number and colour in several places is one window." if block.shifted else ""
    return f"{patches} in {count} windows of {high} x {wide}.{parts if block.mixer == 'attention' else ''}"


def _rolled(choice: Choice, places: Places, tints: np.ndarray, tint: bool, mask: bool) -> None:
    """The map as the block lays it, with the regions that may not see each other."""
    token = choice.token_size
    laid = rolled_view(choice.inside.view, places, token)
    size = (laid.shape[0], laid.shape[1])
    base = enlarged(laid)
    fine = (token[0] * base.shape[0] // size[0], token[1] * base.shape[1] // size[1])
    if tint:
        there = places.tokens != PADDING
        on_places = np.where(there, tints.ravel()[np.maximum(places.tokens, 0)], 0)
        base = tinted(base, over_tokens(on_places, fine, base.shape[:2]), over_tokens(there, fine, base.shape[:2]))
    lines = []
    if choice.block.mixer == "attention":
        shift = choice.block.windows.shift
        words = f"**As it is computed**: the map rolled {shift[0]} tokens up and {shift[1]} to the left"
    else:
        words = "**As it is computed**: the map moved by padding at the top and left; nothing is rolled"
    if mask and choice.block.mixer == "attention":
        window = places.window_of(choice.token)
        regions = places.regions + 4 * places.windows
        own = np.zeros(places.tokens.shape, bool)
        own[window] = places.regions[window] == places.regions[places.place_of(choice.token)]
        lit = over_tokens(own, fine, base.shape[:2])
        base = np.where(lit[..., None], base, (base * 0.5).astype(np.uint8))
        lines.append(Lines(edges(regions, token, size), 1.4, "#FFC933", 3))
        words += "; across a yellow line no token sees another, and what the marked one sees is lit"
    lines.append(Lines(edges(places.windows, token, size)))
    lines.append(Lines(outline(places.place_of(choice.token), token, size), 2.4, MARK, 5))
    if (places.tokens == PADDING).any():
        words += "; grey is padding"
    st.markdown(f"{words}.")
    labels = label_places(places.windows, token) if places.windows.max() < LABELS_AT_MOST else []
    show_picture(picture_figure(base, size, lines, labels), "rolled_picture", "The map as the block lays it")


def _masks(choice: Choice, places: Places) -> None:
    """The masks that differ, each with the windows that have it; the marked token's own is framed."""
    own, figures = places.mask(choice.token), []
    for allowed, numbers in places.masks():
        picture = np.where(allowed[..., None], SEEN, UNSEEN).astype(np.uint8)
        windows = f"window {numbers[0] + 1}" + (f" and {len(numbers) - 1} more" if len(numbers) > 1 else "")
        words = f"{percent(float(allowed.mean()))} of pairs"
        here = " class=here" if np.array_equal(allowed, own) else ""
        figures.append(
            f'<figure{here}><img src="{pixel_uri(picture)}" alt="Mask of {windows}: {words}">'
            f"<figcaption>{windows}<br>{words}</figcaption></figure>"
        )
    st.markdown(
        "**The mask** of a window, from the token that looks (rows) to the one that is seen (columns): light pairs may "
        "attend, dark ones get minus infinity before the softmax."
    )
    show_strip("heads", "Masks", figures)


def _plain_window(choice: Choice, places: Places) -> None:
    """The window of the token on its own, as large as the image."""
    window = places.window_of(choice.token)
    laid = rolled_view(choice.inside.view, places, choice.token_size)
    high, wide = choice.token_size
    part = laid[window[0].start * high : window[0].stop * high, window[1].start * wide : window[1].stop * wide]
    place = places.place_of(choice.token)
    at = (place[0] - window[0].start, place[1] - window[1].start)
    size = (part.shape[0], part.shape[1])
    cells = np.arange(places.window[0] * places.window[1]).reshape(places.window)
    lines = [Lines(edges(cells, choice.token_size, size), 0.7, "rgba(255,255,255,0.75)", 1.9)]
    lines.append(Lines(outline(at, choice.token_size, size), 2.4, MARK, 5))
    whole = places.windows.max() == 0
    st.markdown(
        "**What the marked token sees**: all of the map."
        if whole
        else "**What the marked token sees** in this block: its window, and nothing outside of it."
    )
    show_picture(picture_figure(part, size, lines), "window_picture", "The window of the marked token")
