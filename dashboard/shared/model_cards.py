"""The chosen models as cards: title, what the model knows, its accuracy, and buttons to move, remove and add one."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.shared.cache import loaded_classifier
from dashboard.shared.model_names import column_titles, from_display_name, model_title, offered_models, unique
from dashboard.shared.notices import set_notice, show_notice
from dashboard.shared.samples import first_models
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import set_url_list, url_list
from swin_core.comparisons.compare import MODELS_AT_MOST
from swin_core.runs.read_only import is_read_only
from swin_core.zoo.titles import bundled_title, known_classes

STYLE = """<style>
.st-key-models { flex-wrap: nowrap; overflow-x: auto; align-items: center; scrollbar-width: thin; }
.st-key-models > * { flex: none; }
.st-key-cards { flex-wrap: nowrap; align-items: stretch; }
/* Wrap the controls beside the cards before a label is cut. */
:has(> .st-key-models) { flex: none; max-width: 100%; }
[class*="st-key-card_"] {
  border: 1px solid var(--st-border-color, rgba(128, 128, 128, 0.35)); border-radius: 6px;
  padding: 2px 2px 3px 10px; width: auto;
}
[class*="st-key-card_"] p { line-height: 1.3; white-space: nowrap; }
[class*="st-key-card_"] button { min-height: 24px; min-width: 24px; padding: 0 3px; }
</style>"""


def choose_models() -> list[str]:
    """Draw the cards of the chosen models and what adds one; return the models' names, not yet checked."""
    names, place = offer_models()
    show_cards(names, place)
    return names


def offer_models() -> tuple[list[str], DeltaGenerator]:
    """Draw what adds a model; return the chosen models in the order of the columns, and the place of their cards.

    The names are not yet checked. `show_cards` fills the place, unless the heads of a grid's columns are the cards.
    """
    names = chosen_models()
    st.html(STYLE)
    with st.container(horizontal=True, gap="xsmall", key="models", vertical_alignment="center", width="content"):
        place = st.container(horizontal=True, gap="xsmall", key="cards", width="content")
        with st.popover("Add a model", icon=":material/add:", type="tertiary", key="add_model"):
            _show_offer(names)
    show_notice("models")
    return names, place


def show_cards(names: list[str], place: DeltaGenerator) -> None:
    """Draw a card for each model at the place that `offer_models` returned."""
    with place:
        for number, (title, subtitle) in enumerate(zip(column_titles(names), column_subtitles(names), strict=True)):
            _show_card(number, names, title, subtitle)


def chosen_models() -> list[str]:
    """Return the names of the chosen models, not yet checked."""
    return url_list("model", first_models(), most=MODELS_AT_MOST, read=from_display_name)


def arrange_models(shown: Sequence[str], change: Mapping[str, Any]) -> bool:
    """Move or remove a model as the user did with the head of its column; return whether that changes anything.

    Args:
        shown: the model of each column; models that failed have none.
        change: `columns` of `ViewerEvents`.
    """
    column, to = change.get("column"), change.get("to")
    if not (_is_column(column, shown) and (to is None or _is_column(to, shown))) or column == to:
        return False
    names = chosen_models()
    affected = {shown[index] for index in (column, to) if index is not None}
    # The browser shows the old columns until the page has run, so a second click may mean another one.
    if column_titles(shown)[column] != change.get("title") or not affected <= set(names):
        return False
    names.remove(shown[column])
    if to is not None:
        names.insert(names.index(shown[to]) + (to > column), shown[column])
    set_url_list("model", names)
    return True


def _is_column(value: Any, shown: Sequence[str]) -> TypeGuard[int]:
    return isinstance(value, int) and 0 <= value < len(shown)


def drop_model(name: str) -> None:
    """Remove a model; to be called in a callback."""
    set_url_list("model", [kept for kept in chosen_models() if kept != name])


def known_labels() -> list[str]:
    """Return the classes of the chosen models that are loaded."""
    return unique(model.labels for model in map(loaded_classifier, chosen_models()) if model is not None)


def column_subtitles(names: Sequence[str]) -> tuple[str, ...]:
    """Return what each model knows and how often it is right: "5 flowers · 88 % right"; empty while it is unknown."""
    return tuple(bundled_title(name).subtitle or _known_by_loaded(name) for name in names)


def _known_by_loaded(name: str) -> str:
    model = loaded_classifier(name)
    return known_classes(tuple(model.labels)) if model is not None else ""


def _show_card(number: int, names: list[str], title: str, subtitle: str) -> None:
    with st.container(horizontal=True, gap=None, vertical_alignment="center", key=f"card_{number}", width="content"):
        with st.container(gap=None, width="content"):
            st.markdown(f"**{escape_markdown(title)}**")
            st.caption(escape_markdown(subtitle or " "))
        if number:
            moved = [*names[: number - 1], names[number], names[number - 1], *names[number + 1 :]]
            st.button(
                "",
                icon=":material/arrow_back:",
                type="tertiary",
                help=f"Move {escape_markdown(title)} to the left",
                key=f"left_{number}",
                on_click=set_url_list,
                args=("model", moved),
            )
        st.button(
            "",
            icon=":material/close:",
            type="tertiary",
            help=f"Remove {escape_markdown(title)}",
            key=f"drop_{number}",
            on_click=drop_model,
            args=(names[number],),
        )


def _show_offer(names: list[str]) -> None:
    """Draw the models that can be added."""
    offered = [name for name in offered_models() if name not in names]
    st.selectbox(
        "Models on this machine",
        offered,
        index=None,
        format_func=model_title,
        placeholder="Search by name or by what it knows",
        key="offer",
        on_change=_add,
        args=("offer",),
    )
    if is_read_only():
        return
    st.text_input(
        "Another model",
        placeholder="timm/resnet50, or a weights file",
        help="A weights file or a folder of `save_pretrained` in the working folder, a run, or pretrained weights: "
        "`timm/<model>`, `torchvision/<model>`, `hf/<repo>`. `timm/<model>@FILE` names the architecture of a file.",
        key="more",
        on_change=_add,
        args=("more",),
    )
    # A link, since `st.switch_page` would remove all choices from the URL.
    st.page_link("views/models.py", label="From a weights file", icon=":material/upload_file:")


def _add(key: str) -> None:
    """Add the model that a field names, and empty the field."""
    name = (st.session_state[key] or "").strip()
    names = chosen_models()
    refused = ""
    if name and name not in names:
        if len(names) < MODELS_AT_MOST:
            set_url_list("model", [*names, name])
        else:
            refused = f"Up to {MODELS_AT_MOST} models: remove one first, then add {name}."
    set_notice("models", refused)
    st.session_state[key] = "" if key == "more" else None
