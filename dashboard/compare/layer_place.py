"""A small drawing of where the chosen layer lies in each model, and of its grid."""

from contextlib import suppress

import jinja2
import streamlit as st

from dashboard.shared.cache import DEPTHS, FUSED, STAGES, layer_at_depth, loaded_classifier
from dashboard.shared.model_names import column_titles
from swin_core.attribution.layers import LayerPosition, default_layer, layer_positions
from swin_core.errors import LayerError
from swin_core.zoo.classifier import Classifier

_PLACES = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""
<div style="display: flex; flex-wrap: wrap; gap: 2px 24px; font-size: 0.875rem; opacity: 0.8">
  {% for name, text, layer, count, number in places %}
  <span style="display: inline-flex; align-items: center; gap: 8px" role="img"
        title="{{ layer }}" aria-label="{{ name }}{{ text }}">
    <span style="display: inline-flex; gap: 2px">
      {% for part in range(1, count + 1) %}
      <span style="width: 9px; height: 9px; border-radius: 2px; border: 1px solid currentColor;
                   background: {{ "currentColor" if part == number else "transparent" }}"></span>
      {% endfor %}
    </span>
    {{ name }}{{ text }}
  </span>
  {% endfor %}
</div>""")


def show_layer_places(models: list[str], layer: str | None) -> None:
    """Draw where a target layer lies in each model that is loaded and has it; None stands for each model's default."""
    if layer == STAGES or layer in FUSED:
        return
    places = []
    for title, name in zip(column_titles(models), models, strict=True):
        model = loaded_classifier(name)
        if model is None:
            continue
        with suppress(LayerError):  # the cells of a model without a spatial layer say so
            chosen, place = _place(model, layer)
            shown = f"{title}: " if len(models) > 1 else ""
            places.append((shown, position_text(place), chosen, place.count, place.number))
    if places:
        st.html(_PLACES.render(places=places))


def _place(model: Classifier, layer: str | None) -> tuple[str, LayerPosition]:
    """Return the name and the position of a layer, or of the default layer.

    Raises:
        LayerError: the model does not offer it.
    """
    chosen = layer_at_depth(model, layer) if layer in DEPTHS else layer or default_layer(model)
    positions = layer_positions(model)
    if chosen not in positions:
        raise LayerError(f"{model.name} does not offer the layer {chosen!r}.")
    return chosen, positions[chosen]


def position_text(place: LayerPosition) -> str:
    """Return a layer's position in words: "middle · 3 of 4 · 14 x 14"."""
    text = f"{place.grid[0]} x {place.grid[1]}"
    if place.count == 1:
        return text
    third = 3 * (2 * place.number - 1) // (2 * place.count)
    return f"{('early', 'middle', 'late')[third]} · {place.number} of {place.count} · {text}"
