"""Layout of the Inside page: the chart of the stages, square images and strips of small images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from html import escape

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from dashboard.inside.controls import choose_clicked_block, choose_clicked_token
from dashboard.inside.plotly_figures import stages_figure
from dashboard.shared.charts import CONFIG
from swin_core.anatomy.structure import Block
from swin_core.images.data_uri import image_uri

SIDE, BLOCK_PIXELS = 520, 38
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


def show_image(figure: go.Figure, key: str, alt: str, clickable: bool = False) -> None:
    """Draw a square image; if `clickable`, a click on a token chooses it."""
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


def show_strip(kind: str, name: str, items: Sequence[str]) -> None:
    """Draw small images in a row, which scrolls on a narrow screen, with the keyboard too."""
    st.html(f'<div class="strip {kind}" tabindex="0" role="group" aria-label="{name}">{"".join(items)}</div>')


def strip_item(
    images: dict[str, np.ndarray], title: str, text: str, chosen: bool = False, rows: Sequence[str] = ()
) -> str:
    """Return the HTML of one item of a strip: images above a caption.

    Args:
        images: `(h, w, 3)` uint8, by alternative text.
        title: first line of the caption.
        text: the rest of it.
        chosen: whether it is marked.
        rows: what each image shows, written into its corner; the same in all items, as their images form rows.
    """
    labels = [f'<span class="row" aria-hidden="true">{escape(row)}</span>' for row in rows] or [""] * len(images)
    tags = "".join(
        f'<div class="shown"><img src="{image_uri(image, "PNG")}" alt="{escape(alt)}">{label}</div>'
        for (alt, image), label in zip(images.items(), labels, strict=True)
    )
    caption = f'<span class="title">{escape(title)}</span><br>{escape(text)}'
    return f"<figure{' class=here' if chosen else ''}>{tags}<figcaption>{caption}</figcaption></figure>"
