"""What the chosen models say about the images that are browsed, and how far that is while it is computed."""

from collections.abc import Sequence

import streamlit as st

from dashboard.browse import work as browse_work
from dashboard.browse.choices import Judges, open_rows
from dashboard.browse.tiles import Shown
from dashboard.shared import cache
from dashboard.shared.formatting import duration
from dashboard.shared.theme import escape_markdown
from swin_core.class_names import match_classes
from swin_core.errors import DataError, SwinError
from swin_core.evaluation.predictions import Predictions
from swin_core.evaluation.selection import CONFIDENT, RIGHT_HERE, WRONG, WRONG_BOTH, WRONG_HERE, CatalogPredictions

__all__ = ["judge", "knowing_model", "show_comparison", "show_figures"]

LOOK_EVERY_SECONDS = 1.0


def knowing_model(models: Sequence[str], shown: Shown) -> str | None:
    """The model that knows most of the images' classes, the first of several; None if none knows any."""
    known = {model: _known_classes(model, shown) for model in models}
    best = max(known, key=known.__getitem__, default=None)
    return best if best and known[best] else None


def _known_classes(model: str, shown: Shown) -> int:
    try:
        labels = cache.classifier(model).labels
        return sum(place is not None for place in match_classes(shown.catalog.classes, labels))
    except SwinError:
        return 0


def judge(shown: Shown, judges: Judges) -> list[CatalogPredictions]:
    """What the models say about the images, the first one's and then the second's, as far as it is known.

    In place of what is not known yet the page says how far it is, and comes back when it is there.
    """
    found: list[CatalogPredictions] = []
    for model, title in zip((judges.first, judges.second), judges.titles, strict=False):
        if model is None:
            break
        try:
            parts = _parts(shown, model, title)
        except SwinError as error:
            st.error(escape_markdown(f"{title}: {error}"), icon=":material/error:")
            break
        if parts is None:
            break
        found.append(CatalogPredictions.of(shown.catalog, parts))
    return found


def _parts(shown: Shown, model: str, title: str) -> list[Predictions] | None:
    collection = shown.collection.name
    waiting: list[browse_work.Job] = []
    parts: list[Predictions] = []
    with st.spinner(escape_markdown(f"Loading {title} ...")):
        cache.classifier(model)
    for split in shown.splits:
        asked = (model, collection, split)
        if browse_work.is_long(*asked) and asked not in st.session_state.get("predict", []):
            count = len(shown.catalog)
            st.button(
                f"Predict {count:,} images with {escape_markdown(title)}",
                icon=":material/hourglass_empty:",
                help="It takes some minutes. It is kept on disk: the next time it is there at once.",
                on_click=_ask,
                args=([(model, collection, one) for one in shown.splits],),
                key=f"predict {model}",
            )
            return None
        one = browse_work.predicted(*asked)
        if isinstance(one, Predictions):
            parts.append(one)
        else:
            waiting.append(one)
    if not waiting:
        return parts
    if waiting[0].error:
        st.error(escape_markdown(f"{title}: {waiting[0].error}"), icon=":material/error:")
        return None
    st.fragment(_wait, run_every=LOOK_EVERY_SECONDS)(waiting, title)
    return None


def _ask(asked: list[tuple[str, str, str]]) -> None:
    st.session_state.predict = [*st.session_state.get("predict", []), *asked][-16:]


def _wait(jobs: Sequence[browse_work.Job], title: str) -> None:
    """Show how far the first job is; the whole page runs again when it has ended."""
    job = jobs[0]
    if job.ended.is_set():
        st.session_state.came_back = True
        st.rerun()
    for shown in jobs:
        browse_work.look_at(shown)
    left = job.seconds_left
    rest = "" if left is None else f", {duration(left)} left"
    words = f"{title} predicts: {job.done:,} of {job.count:,} images{rest}"
    st.progress(job.done / job.count, escape_markdown(words))


def show_figures(shown: Shown, judges: Judges, judgements: Sequence[CatalogPredictions]) -> None:
    """Each model's figures in a line, and the way to its most confident mistakes."""
    for letter, title, judgement in zip(("A", "B"), judges.titles, judgements, strict=False):
        with st.container(horizontal=True, vertical_alignment="center"):
            name = f"{letter}: {title}" if len(judgements) > 1 else title
            try:
                figures = judgement.predictions.metrics()
            except DataError:
                st.markdown(
                    f"**{escape_markdown(name)}** knows no class of these images: it is neither right nor wrong."
                )
                continue
            top5 = "" if figures.top5 is None else f", top-5 **{100 * figures.top5:.2f} %**"
            words = f"top-1 **{100 * figures.top1:.2f} %**{top5}, loss **{figures.loss:.3f}**"
            st.markdown(f"**{escape_markdown(name)}** · {words} on {figures.count:,} images", width="content")
            if letter == "A":
                st.button(
                    "Most confident mistakes",
                    icon=":material/priority_high:",
                    on_click=open_rows,
                    kwargs={"show": WRONG, "sort": CONFIDENT},
                    key="mistakes_first",
                )
    if "train" in shown.splits and judgements:
        st.caption("Models that were trained on these images know them: these figures say little about others.")


def show_comparison(judgements: Sequence[CatalogPredictions]) -> None:
    """How often one of two models is right where the other is wrong, with the way to these images."""
    if len(judgements) < 2:
        return
    first, second = judgements[0].predictions, judgements[1].predictions
    wrong, other_wrong = first.counted & ~first.right, second.counted & ~second.right
    counts = {
        RIGHT_HERE: ("A right, B wrong", int((first.right & other_wrong).sum())),
        WRONG_HERE: ("A wrong, B right", int((wrong & second.right).sum())),
        WRONG_BOTH: ("Both wrong", int((wrong & other_wrong).sum())),
    }
    with st.container(horizontal=True):
        for show, (words, count) in counts.items():
            st.button(f"{words}: {count:,}", on_click=open_rows, kwargs={"show": show}, key=f"open {show}")
