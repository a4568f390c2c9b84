"""What the panels of the Inside page are put together from: square images that can be clicked, and strips."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import plotly.graph_objects as go
import streamlit as st

from dashboard.inside.choices import Choice, clicked_block
from dashboard.inside.figures import stages_figure
from swin_core.anatomy.structure import Block
from swin_core.figures.plotly_grid import CONFIG

__all__ = ["STYLE", "show_picture", "show_stages", "show_strip", "square"]

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
.strip img {{ display: block; width: 100%; height: auto; margin-bottom: 5px; border-radius: 3px; }}
.strip img {{ image-rendering: pixelated; outline: 3px solid transparent; }}
.strip figure.here img {{ outline-color: #2F86C1; }}
.strip figure.here figcaption {{ font-weight: 650; }}
</style>"""


@contextmanager
def square(key: str) -> Iterator[None]:
    """A place as high as it is wide, which Streamlit's charts cannot be by themselves."""
    with st.container(key=f"square_{key}", gap=None), st.container(key=f"sized_{key}", gap=None):
        yield


def show_stages(blocks: Sequence[Block], block: Block) -> None:
    """The drawing of the stages, in which a block can be clicked; a narrow page scrolls it."""
    with st.container(key="stages"):
        st.html(
            f"<style>.st-key-stages_chart {{ min-width: {BLOCK_PIXELS * len(blocks)}px; }}</style><span hidden></span>"
        )
        st.plotly_chart(
            stages_figure(blocks, block.title),
            height=150,
            config=CONFIG,
            key="stages_chart",
            on_select=clicked_block,
            selection_mode="points",
            alt=f"The {len(blocks)} blocks of the model by stage; {block.title} is chosen",
        )


def show_picture(figure: go.Figure, key: str, alt: str, choice: Choice | None = None) -> None:
    """A square image; with a choice, one whose tokens can be clicked."""
    with square(key):
        if choice is None:
            st.plotly_chart(figure, height="stretch", config=CONFIG, key=key, alt=alt)
        else:
            st.plotly_chart(
                figure,
                height="stretch",
                config=CONFIG,
                key=key,
                alt=alt,
                on_select=choice.click(key),
                selection_mode="points",
            )


def show_strip(kind: str, name: str, figures: Sequence[str]) -> None:
    """Small images in a row that a narrow page scrolls, by the keyboard too."""
    st.html(f'<div class="strip {kind}" tabindex="0" role="group" aria-label="{name}">{"".join(figures)}</div>')
