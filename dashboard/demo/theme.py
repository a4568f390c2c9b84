"""The demo's Gradio theme, in the dashboard's colours, and the CSS of its own elements."""

import gradio as gr

from dashboard.shared.theme import DARK, LIGHT

_FONTS = ["Source Sans 3", "Source Sans Pro", "Segoe UI", "Helvetica", "Arial", "sans-serif"]
"""System fonts; Gradio's default fonts are fetched from another server."""


_VARIABLES = {
    "backgroundColor": "body_background_fill background_fill_primary block_background_fill "
    "checkbox_label_background_fill "
    # White is hard to read on the light blue of the dark theme.
    "button_primary_text_color",
    "secondaryBackgroundColor": "background_fill_secondary block_label_background_fill input_background_fill "
    "color_accent_soft checkbox_label_background_fill_hover checkbox_label_background_fill_selected",
    "textColor": "block_label_text_color block_title_text_color block_info_text_color body_text_color "
    "body_text_color_subdued checkbox_label_text_color_selected",
    "borderColor": "border_color_primary block_border_color input_border_color",
    "primaryColor": "border_color_accent checkbox_background_color_selected checkbox_border_color_selected "
    "button_primary_background_fill slider_color loader_color",
    "linkColor": "link_text_color link_text_color_hover",
}
"""Gradio's variables by the dashboard's colour for them."""


def theme() -> gr.themes.Base:
    """Return Gradio's theme in the colours of `dashboard.shared.theme`, light and dark."""
    colors = {
        variable + suffix: palette[name]
        for suffix, palette in (("", LIGHT), ("_dark", DARK))
        for name, variables in _VARIABLES.items()
        for variable in variables.split()
    }
    base = gr.themes.Base(font=_FONTS, font_mono=["Consolas", "monospace"], radius_size=gr.themes.sizes.radius_md)
    return base.set(color_accent=LIGHT["primaryColor"], **colors)


CSS = """
.swin-notice { margin: 0; padding: 18px; border-radius: 6px; background: var(--background-fill-secondary);
  border: 1px solid var(--border-color-primary); overflow-wrap: anywhere; }
.swin-foot { margin: 8px 0 0; font-size: .92em; }
/* Gradio has one accent colour for both themes. */
.dark [data-testid="source-select"] { --color-accent: var(--border-color-accent); }
.swin-title { display: flex; align-items: center; gap: 18px; flex-wrap: wrap; }
.swin-title img { height: 42px; }
.swin-title p { margin: 0; }
"""
