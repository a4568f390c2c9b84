"""The tour at the first visit, which the browser shows once."""

from pathlib import Path

import streamlit as st

_tour = st.components.v2.component(
    "swinlens_tour",
    html='<section id="tour" aria-label="Tour" hidden>\n</section>',
    css="""#tour {
  position: fixed; right: 16px; bottom: 16px; z-index: 999980; width: min(330px, calc(100vw - 32px));
  box-sizing: border-box; padding: 12px 16px; border-radius: 10px; border: 1px solid var(--st-border-color);
  background: var(--st-background-color); color: var(--st-text-color); box-shadow: 0 4px 24px rgb(0 0 0 / 0.25);
  font-family: var(--st-font);
}
#tour[hidden] { display: none; }
h2 { font-size: 1rem; margin: 0 0 4px; }
p { margin: 0 0 10px; font-size: 0.93rem; line-height: 1.45; }
div { display: flex; justify-content: space-between; gap: 8px; }
button {
  font: inherit; font-size: 0.9rem; min-height: 32px; padding: 0 12px; cursor: pointer; border-radius: 6px;
  border: 1px solid var(--st-border-color); background: none; color: inherit;
}
.next { border-color: var(--st-primary-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 1px; }
@media (max-width: 640px) { #tour { position: static; width: 100%; } } /* it would cover the tools of the brush */
""",
    js=(Path(__file__).parent / "tour.js").read_text(encoding="utf-8"),
)


def show_tour() -> None:
    """Show the tour if this browser has not seen it."""
    with st.container(key="tour_place"):
        _tour(key="tour")
