"""How the demo looks: the dashboard's colours as Gradio's theme, and the style of its own parts."""

import gradio as gr

from dashboard.shared.theme import DARK, LIGHT

__all__ = ["CSS", "theme"]

_FONTS = ["Source Sans 3", "Source Sans Pro", "Segoe UI", "Helvetica", "Arial", "sans-serif"]
"""Fonts of the machine: a theme's usual ones are fetched from another server."""


def theme() -> gr.themes.Base:
    """Gradio's theme in the colours of `dashboard.shared.theme`, light and dark."""
    colors: dict[str, str] = {}
    for ending, palette in (("", LIGHT), ("_dark", DARK)):
        shown = {
            "body_background_fill": "backgroundColor",
            "background_fill_primary": "backgroundColor",
            "background_fill_secondary": "secondaryBackgroundColor",
            "block_background_fill": "backgroundColor",
            "block_label_background_fill": "secondaryBackgroundColor",
            "block_label_text_color": "textColor",
            "block_title_text_color": "textColor",
            "block_info_text_color": "textColor",
            "body_text_color": "textColor",
            "body_text_color_subdued": "textColor",
            "border_color_primary": "borderColor",
            "block_border_color": "borderColor",
            "input_background_fill": "secondaryBackgroundColor",
            "input_border_color": "borderColor",
            "color_accent_soft": "secondaryBackgroundColor",
            "border_color_accent": "primaryColor",
            "checkbox_background_color_selected": "primaryColor",
            "checkbox_border_color_selected": "primaryColor",
            "checkbox_label_background_fill": "backgroundColor",
            "checkbox_label_background_fill_hover": "secondaryBackgroundColor",
            "checkbox_label_background_fill_selected": "secondaryBackgroundColor",
            "checkbox_label_text_color_selected": "textColor",
            "button_primary_background_fill": "primaryColor",
            # White would be hard to read on the dark theme's light blue.
            "button_primary_text_color": "backgroundColor",
            "link_text_color": "linkColor",
            "link_text_color_hover": "linkColor",
            "slider_color": "primaryColor",
            "loader_color": "primaryColor",
        }
        colors |= {variable + ending: palette[name] for variable, name in shown.items()}
    base = gr.themes.Base(font=_FONTS, font_mono=["Consolas", "monospace"], radius_size=gr.themes.sizes.radius_md)
    return base.set(color_accent=LIGHT["primaryColor"], **colors)


CSS = """
.swin-grid { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(210px, 100%), 1fr)); }
.swin-grid figure { margin: 0; min-width: 0; }
.swin-grid img, .swin-empty { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 4px; }
.swin-empty { display: flex; align-items: center; padding: 14px; background: var(--background-fill-secondary);
  border: 1px dashed var(--border-color-primary); overflow-wrap: anywhere; overflow: auto; }
.swin-head { font-weight: 600; margin-bottom: 5px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.swin-grid figcaption { margin-top: 7px; line-height: 1.35; overflow-wrap: anywhere; }
.swin-grid figcaption > strong, .swin-grid figcaption > span { display: block; }
.swin-grid figcaption > span { opacity: .8; font-size: .92em; }
.swin-bars { list-style: none; margin: 10px 0 0; padding: 0; }
.swin-bars li { position: relative; display: flex; justify-content: space-between; gap: 8px; padding: 1px 0 6px;
  font-size: .92em; }
.swin-label { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.swin-bars i { position: absolute; left: 0; bottom: 2px; height: 3px; min-width: 1px; border-radius: 2px;
  background: var(--border-color-accent); }
.swin-scale { display: flex; align-items: center; gap: 10px; flex-wrap: wrap; margin: 12px 0 0; font-size: .92em; }
.swin-scale i { width: 120px; height: 10px; border-radius: 2px; }
.swin-notice { margin: 0; padding: 18px; border-radius: 6px; background: var(--background-fill-secondary);
  border: 1px solid var(--border-color-primary); overflow-wrap: anywhere; }
.swin-grid:focus-visible { outline: 2px solid var(--border-color-accent); outline-offset: 4px; }
.swin-foot { margin: 8px 0 0; font-size: .92em; }
@media (max-width: 640px) {
  .swin-grid { grid-template-columns: none; grid-auto-flow: column; grid-auto-columns: 80%; overflow-x: auto;
    scroll-snap-type: x mandatory; }
  .swin-grid figure { scroll-snap-align: start; }
}
/* Gradio knows one accent for both themes. */
.dark [data-testid="source-select"] { --color-accent: var(--border-color-accent); }
.swin-title { display: flex; align-items: center; gap: 18px; flex-wrap: wrap; }
.swin-title img { height: 42px; }
.swin-title p { margin: 0; }
"""
