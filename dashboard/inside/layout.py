"""Layout of the Inside page: the chart of the stages, square images and strips of small images."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from html import escape

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from dashboard.inside.controls import choose_clicked_block, choose_clicked_token
from dashboard.inside.drawing import enlarge
from dashboard.inside.plotly_figures import stages_figure
from dashboard.shared.chart_drawing import draw_chart
from dashboard.shared.charts import CONFIG
from swin_core.anatomy.structure import Block
from swin_core.attribution.overlay import LEAST_PIXELS
from swin_core.figures.matplotlib_page import CELL, GAP
from swin_core.figures.sheet import Part, Tile
from swin_core.images.data_uri import image_uri

SIDE, BLOCK_PIXELS = 520, 38
PRINTED_WIDTHS = {"heads": 1.2, "wide": (4 * CELL - GAP) / 5}
"""Width of an item of each kind of strip in print, in inches."""
PRINTED_SIDE = 2 * CELL + GAP
"""Side of a large image in print, in inches: two stand beside each other."""
STYLE = f"""<style>
[class*="st-key-square_"] {{ container-type: inline-size; }}
[class*="st-key-square_"] [class*="st-key-sized_"] {{
    flex: none; height: min({SIDE}px, 100cqw); max-width: {SIDE}px;
}}
.st-key-stages {{ overflow-x: auto; overflow-y: hidden; }}
.strip {{ display: flex; gap: 10px; overflow-x: auto; padding: 3px 3px 8px; }}
.strip figure {{ margin: 0; flex: 1 0 84px; font-size: 12.5px; line-height: 1.45; }}
.strip.heads figure {{ flex: 0 0 92px; text-align: center; }}
@media (min-width: 640px) {{ .strip.heads {{ flex-wrap: wrap; }} }}
.strip.wide figure {{ flex-basis: 150px; max-width: 300px; }}
.strip.wide .title {{ font-weight: 650; }}
.strip img {{ display: block; width: 100%; height: auto; margin-bottom: 5px; border-radius: 3px; }}
.strip .shown {{ position: relative; }}
.strip .row {{ position: absolute; left: 4px; top: 4px; padding: 0 7px; border-radius: 9px; }}
.strip .row {{ background: rgb(12 16 22 / 0.82); color: #FFFFFF; }}
.strip img {{ image-rendering: pixelated; outline: 3px solid transparent; }}
.strip figure.here img {{ outline-color: #2F86C1; }}
.strip figure.here figcaption {{ font-weight: 650; }}
</style>"""


@contextmanager
def square(key: str) -> Iterator[None]:
    """A container as high as it is wide; Streamlit's charts cannot be square by themselves."""
    with st.container(key=f"square_{key}", gap=None), st.container(key=f"sized_{key}", gap=None):
        yield


def show_stages(blocks: Sequence[Block], block: Block) -> None:
    """Draw the chart of the stages, in which a block can be clicked; on a narrow screen it scrolls."""
    with st.container(key="stages"):
        st.html(
            f"<style>.st-key-stages_chart {{ min-width: {BLOCK_PIXELS * len(blocks)}px; }}</style><span hidden></span>"
        )
        st.plotly_chart(
            stages_figure(blocks, block.title),
            height=150,
            config=CONFIG,
            key="stages_chart",
            on_select=choose_clicked_block,
            selection_mode="points",
            alt=f"The {len(blocks)} blocks of the model by stage; {block.title} is chosen",
        )


def show_image(figure: go.Figure, key: str, title: str, text: str, alt: str, clickable: bool = False) -> Tile:
    """Draw a square image below a title and a text; if `clickable`, a click on a token chooses it.

    Returns:
        The same for print.
    """
    st.markdown(f"**{title}**{text}")
    with square(key):
        st.plotly_chart(
            figure,
            height="stretch",
            config=CONFIG,
            key=key,
            alt=alt,
            on_select=partial(choose_clicked_token, key) if clickable else "ignore",
            selection_mode="points",
        )
    notes = (text.removeprefix(": ").strip(),)
    return Tile(title, notes=notes, chart=partial(draw_chart, figure), width=PRINTED_SIDE, height=PRINTED_SIDE)


@dataclass(frozen=True)
class StripItem:
    """One item of a strip: images above a caption."""

    images: Mapping[str, np.ndarray]
    """`(h, w, 3)` uint8, by alternative text."""
    title: str
    """First line of the caption."""
    text: str
    """The rest of it."""
    chosen: bool = False
    """Whether it is marked."""
    rows: Sequence[str] = ()
    """What each image shows, written into its corner; the same in all items, as their images form rows."""

    def html(self) -> str:
        """Return the item as HTML."""
        labels = [f'<span class="row" aria-hidden="true">{escape(row)}</span>' for row in self.rows]
        tags = "".join(
            f'<div class="shown"><img src="{image_uri(image, "PNG")}" alt="{escape(alt)}">{label}</div>'
            for (alt, image), label in zip(self.images.items(), labels or [""] * len(self.images), strict=True)
        )
        caption = f'<span class="title">{escape(self.title)}</span><br>{escape(self.text)}'
        return f"<figure{' class=here' if self.chosen else ''}>{tags}<figcaption>{caption}</figcaption></figure>"


def show_strip(kind: str, name: str, items: Sequence[StripItem]) -> list[Part]:
    """Draw small images in a row, which scrolls on a narrow screen, with the keyboard too.

    Returns:
        The same for print: a row for each image of an item.
    """
    content = "".join(item.html() for item in items)
    st.html(f'<div class="strip {kind}" tabindex="0" role="group" aria-label="{name}">{content}</div>')
    width = PRINTED_WIDTHS[kind]
    count = max((len(item.images) for item in items), default=0)
    parts: list[Part] = []
    for number in range(count):
        tiles = []
        for item in items:
            if number >= len(item.images):
                tiles.append(Tile("", width=width, height=width))
                continue
            label = f", {item.rows[number]}" if item.rows else ""
            image = enlarge(list(item.images.values())[number], LEAST_PIXELS)
            notes = () if number else (item.text,)
            tiles.append(Tile(f"{'▸ ' if item.chosen else ''}{item.title}{label}", image, notes, width=width))
        parts.append(tuple(tiles))
    return parts
