"""The viewer of heat maps as a Gradio component, and messages in its place."""

import gradio as gr
from jinja2 import Environment

from swin_core.figures.viewer_payload import viewer_script, viewer_style

_NOTICE = Environment(autoescape=True).from_string('<p class="swin-notice" role="status">{{ text }}</p>')

_STYLE = f"""{viewer_style()}
.swin-viewer {{ --st-primary-color: var(--border-color-accent); --st-background-color: var(--body-background-fill);
  --st-text-color: var(--body-text-color); }}
.swin-viewer :focus-visible {{ outline: 2px solid var(--border-color-accent); outline-offset: 2px; }}
.swin-viewer :is(select, [type=checkbox]) {{ appearance: auto; }}
"""
"""The viewer's style in the colours of Gradio's theme."""

HEAD = f"""<style>{_STYLE}</style>
<script type="module">{viewer_script()}
globalThis.swinlensMount = mount;</script>"""
"""The viewer's style and script, once for the page. Gradio's own `css` would drop the rules for narrow windows."""

_ON_LOAD = """
let viewer = null;
const kept = {};
function show() {
  if (!globalThis.swinlensMount) {
    setTimeout(show, 50);
    return;
  }
  const place = element.querySelector(".swin-viewer");
  if (viewer && (!props.value || !place.firstChild)) {
    viewer.destroy();
    viewer = null;
  }
  if (!props.value) return;
  if (viewer) viewer.update(props.value);
  else {
    const onClass = ({ label }) => trigger("asked", { label });
    const onStroke = (stroke) => trigger("stroke", stroke);
    viewer = globalThis.swinlensMount(place, props.value, { kept, onClass, onStroke });
  }
}
watch("value", show);
show();
"""


def notice(text: str) -> str:
    """Return the HTML of a message to show in place of heat maps."""
    return _NOTICE.render(text=text)


def viewer_component() -> gr.HTML:
    """Return the viewer; its value is a `viewer_payload` or None.

    Its event `asked` has the `label` of a class that was clicked; `stroke` has the `strokes`, `fill` and `keep` of the
    brush when a stroke ends. Both come from the browser and are unchecked.
    """
    return gr.HTML(None, html_template='<div class="swin-viewer"></div>', js_on_load=_ON_LOAD, apply_default_css=False)
