"""The Windows panel of the Inside page: patches, windows, their shift and their mask on an image."""

import numpy as np
import streamlit as st

from dashboard.inside.controls import PanelContext, choose_layers
from dashboard.inside.drawing import (
    Segments,
    edges,
    enlarge,
    over_tokens,
    rolled_view,
    tint,
    tint_indices,
    window_labels,
)
from dashboard.inside.layout import StripItem, show_image, show_strip
from dashboard.inside.plotly_figures import Lines, image_figure, token_outline
from dashboard.inside.shift import show_shift
from swin_core.anatomy.structure import PADDING, WindowPositions
from swin_core.figures.sheet import Part, Tile
from swin_core.figures.text import percent
from swin_core.models.windows import Pair

ALLOWED, MASKED = (86, 180, 233), (40, 46, 56)
FEW_TOKENS = 40
"""Tokens of a side up to which the lines between them are strong; many strong lines would hide the image."""
LABELS_AT_MOST = 64
"""Windows up to which each shows its number."""


def show_windows(context: PanelContext) -> list[Part]:
    """Draw the panel; return the same for print, without the animation."""
    block, positions = context.block, context.block.positions()
    size, token = context.size, context.token_size
    layers = choose_layers(block, context.ignored)
    windows = positions.on_map(positions.windows)
    count = int(windows.max()) + 1
    tints = tint_indices(windows)
    image = enlarge(context.internals.view)
    lines, labels = [], []
    if "Patches" in layers:
        strength = (0.8, "rgba(255,255,255,0.75)", 1.9)
        if max(block.grid) > FEW_TOKENS:
            strength = (0.5, "rgba(255,255,255,0.45)", 1.2)
        lines.append(Lines(_token_edges(block.grid, token, size), *strength))
    if "Windows" in layers and count > 1:
        image = tint(image, over_tokens(tints, token, size, image.shape[0] // size[0]))
        lines.append(Lines(edges(windows, token, size)))
        labels = window_labels(windows, token) if count <= LABELS_AT_MOST else []
    lines.append(token_outline(context.token, token, size))
    hover = [f"row {r + 1}, column {c + 1}: window {windows[r, c] + 1}" for r, c in np.ndindex(*block.grid)]
    left, right = st.columns(2, gap="medium", vertical_alignment="bottom")
    with left:
        text = f": {_describe_windows(context, count)}"
        figure = image_figure(image, size, lines, labels, block.grid, token, hover)
        alt = f"{context.inspection.image.title} with the windows of {block.title}"
        whole = show_image(figure, "windows_picture", "On the image", text, alt, clickable=True)
    with right:
        if "Shift" in layers and block.shifted:
            beside = _show_rolled(context, positions, tints if "Windows" in layers else None, "Mask" in layers)
        else:
            beside = _show_own_window(context, positions)
    masks = _show_masks(context, positions) if "Mask" in layers else []
    if block.shifted and block.mixer == "attention":
        show_shift(context)
    return [(whole, beside), *masks]


def _token_edges(grid: Pair, token: Pair, size: Pair) -> Segments:
    return edges(np.arange(grid[0] * grid[1]).reshape(grid), token, size)


def _describe_windows(context: PanelContext, count: int) -> str:
    block, token = context.block, context.token_size
    tokens = f"{block.grid[0]} x {block.grid[1]} tokens of {token[0]} x {token[1]} pixels"
    if count == 1:
        return f"{tokens}, all of them in one window."
    height, width = block.windows.window
    text = f"{tokens} in {count} windows of {height} x {width}."
    if block.shifted and block.mixer == "attention":
        text += " Parts with the same number and colour are one window."
    return text


def _show_rolled(context: PanelContext, positions: WindowPositions, tints: np.ndarray | None, mask: bool) -> Tile:
    """Draw the feature map as the block computes on it, with the regions that the mask separates."""
    token, attention = context.token_size, context.block.mixer == "attention"
    rolled = rolled_view(context.internals.view, positions, token)
    size = (rolled.shape[0], rolled.shape[1])
    image = enlarge(rolled)
    scale = image.shape[0] // size[0]
    real = positions.tokens != PADDING
    if tints is not None:
        rolled_tints = np.where(real, tints.ravel()[np.maximum(positions.tokens, 0)], 0)
        image = tint(image, over_tokens(rolled_tints, token, size, scale), over_tokens(real, token, size, scale))
    text = ": the map shifted by padding at the top and left, without a roll"
    if attention:
        shift = context.block.windows.shift
        text = f": the map rolled {shift[0]} tokens up and {shift[1]} to the left"
    lines = []
    if mask and attention:
        own = np.zeros(positions.tokens.shape, bool)
        window = positions.window_of(context.token)
        own[window] = positions.regions[window] == positions.regions[positions.position_of(context.token)]
        image = np.where(over_tokens(own, token, size, scale)[..., None], image, (image * 0.5).astype(np.uint8))
        lines.append(Lines(edges(positions.regions + 4 * positions.windows, token, size), 1.4, "#FFC933", 3))
        text += "; no token attends across a yellow line, and what the marked token sees is bright"
    lines.append(Lines(edges(positions.windows, token, size)))
    lines.append(token_outline(positions.position_of(context.token), token, size))
    text += "." if real.all() else "; grey is padding."
    labels = window_labels(positions.windows, token) if positions.windows.max() < LABELS_AT_MOST else []
    figure = image_figure(image, size, lines, labels)
    return show_image(figure, "rolled_picture", "As it is computed", text, "The rolled feature map")


def _show_masks(context: PanelContext, positions: WindowPositions) -> list[Part]:
    """Draw the distinct masks with the windows that use each; the query token's own is framed."""
    own, items = positions.mask(context.token), []
    for allowed, windows in positions.masks():
        image = np.where(allowed[..., None], ALLOWED, MASKED).astype(np.uint8)
        title = f"window {windows[0] + 1}" + (f" and {len(windows) - 1} more" if len(windows) > 1 else "")
        text = f"{percent(float(allowed.mean()))} of pairs"
        items.append(StripItem({f"Mask of {title}: {text}": image}, title, text, np.array_equal(allowed, own)))
    st.markdown(
        "**The mask** of a window, with query tokens as rows and key tokens as columns: light pairs may attend; dark "
        "pairs get minus infinity before the softmax."
    )
    return show_strip("heads", "Masks", items)


def _show_own_window(context: PanelContext, positions: WindowPositions) -> Tile:
    """Draw the query token's window alone, as large as the image."""
    token = context.token_size
    rows, columns = positions.window_of(context.token)
    rolled = rolled_view(context.internals.view, positions, token)
    window = rolled[rows.start * token[0] : rows.stop * token[0], columns.start * token[1] : columns.stop * token[1]]
    row, column = positions.position_of(context.token)
    size = (window.shape[0], window.shape[1])
    lines = [
        Lines(_token_edges(positions.window, token, size), 0.7, "rgba(255,255,255,0.75)", 1.9),
        token_outline((row - rows.start, column - columns.start), token, size),
    ]
    one_window = positions.windows.max() == 0
    text = ": the whole feature map." if one_window else " in this block: its window, and nothing outside it."
    figure, alt = image_figure(window, size, lines), "The window of the marked token"
    return show_image(figure, "window_picture", "What the marked token sees", text, alt)
