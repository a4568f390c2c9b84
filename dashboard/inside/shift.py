"""The shift of windows as an animation: play, pause, and step by step by button or key."""

from importlib.resources import files

import streamlit as st

from dashboard.inside.controls import PanelContext
from swin_core.images.data_uri import image_uri

_HTML = """<div class="shift-figure" role="group" aria-label="The shift, step by step" tabindex="0">
<canvas class="shift-canvas" role="img"></canvas>
<div class="shift-buttons">
  <button type="button" class="shift-back">Back</button>
  <button type="button" class="shift-play">Play</button>
  <button type="button" class="shift-next">Next</button>
</div>
<p class="shift-words" role="status"></p>
</div>"""
_CSS = """
.shift-figure { max-width: 480px; color: var(--st-text-color); font-family: var(--st-font); }
.shift-figure:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 4px; border-radius: 4px; }
.shift-canvas { display: block; width: 100%; height: auto; border-radius: 4px; }
.shift-buttons { display: flex; gap: 8px; margin: 10px 0 6px; }
.shift-buttons button { min-width: 68px; min-height: 36px; padding: 4px 12px; font: inherit; color: inherit;
  cursor: pointer; background: none; border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius); }
.shift-buttons button:hover:enabled { border-color: var(--st-primary-color); color: var(--st-primary-color); }
.shift-buttons button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
.shift-buttons button:disabled { opacity: 0.4; cursor: default; }
.shift-words { margin: 0; min-height: 3em; line-height: 1.5; }
"""
_shift = st.components.v2.component(
    "swinlens_shift", html=_HTML, css=_CSS, js=(files("dashboard.inside") / "shift.js").read_text("utf-8")
)


def show_shift(context: PanelContext) -> None:
    """Draw the animation for a block that shifts its windows and attends within them."""
    block, positions = context.block, context.block.positions()
    (height, width), shift = positions.window, block.windows.shift
    tokens = f"{shift[0]} tokens" if shift[0] == shift[1] else f"{shift[0]} rows and {shift[1]} columns of tokens"
    texts = (
        f"a block without a shift attends within windows of {height} x {width} tokens.",
        f"this block moves them by {tokens}, half a window, so that neighbours meet; windows at the border are cut.",
        "the map is rolled up and to the left, so that the parts of cut windows come together and all are whole.",
        "the mask keeps apart what the roll brought together: no token attends across a yellow line.",
    )
    st.markdown("**The shift, step by step**; the arrow keys step through it.")
    _shift(
        data={
            "image": image_uri(context.internals.view, "PNG"),
            "size": context.size,
            "token": context.token_size,
            "map": positions.tokens.shape,
            "window": positions.window,
            "shift": shift,
            "texts": texts,
        },
        key="shift",
    )
