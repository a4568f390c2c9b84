"""The predictions of the chosen models: progress while they are computed, then metrics and a comparison."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import streamlit as st

from dashboard.browse.filters import ModelChoice, show_images
from dashboard.browse.matching import ByHand
from dashboard.browse.prediction_jobs import PredictionRequest, predictions_or_job
from dashboard.browse.tiles import BrowsedData
from dashboard.shared import cache
from dashboard.shared.background_jobs import Job
from dashboard.shared.formatting import duration
from dashboard.shared.mean_map import trained_rows
from dashboard.shared.theme import escape_markdown
from swin_core.class_names import match_classes
from swin_core.errors import DataError, SwinError, TargetError
from swin_core.evaluation.predictions import Predictions
from swin_core.evaluation.selection import COMPARING, CONFIDENT, WRONG, CatalogPredictions, compared
from swin_core.zoo.load import available, bundled_metadata

POLL_SECONDS = 1.0


def models_for(data: BrowsedData, chosen: Sequence[str]) -> tuple[list[str], str | None]:
    """Return the models whose predictions are offered for a data set, and the one to start with.

    Offered are the chosen models, then the bundled ones that know all of the classes, the most accurate first. The
    page starts with the first that knows the most classes; with None if no model knows any.
    """
    classes = tuple(data.catalog.classes)
    bundled = {name: bundled_metadata(name) for name in available() if name not in chosen}
    bundled = {
        name: metadata
        for name, metadata in bundled.items()
        if classes and _known_classes(classes, tuple(metadata.get("labels", ()))) == len(classes)
    }
    accurate = sorted(bundled, key=lambda name: -bundled[name].get("figures", {}).get("top1", 0.0))
    counts = {name: len(classes) for name in accurate}
    for model in chosen:
        try:
            counts[model] = _known_classes(classes, tuple(cache.classifier(model).labels))
        except SwinError:
            counts[model] = 0
    offered = [*chosen, *accurate]
    best = max(offered, key=counts.__getitem__, default=None)
    return offered, best if best and counts[best] else None


@lru_cache(maxsize=64)
def _known_classes(classes: tuple[str, ...], labels: tuple[str, ...]) -> int:
    """Return how many classes match a label; 0 if a class fits several."""
    try:
        return sum(index is not None for index in match_classes(classes, labels))
    except TargetError:
        return 0


def load_predictions(data: BrowsedData, models: ModelChoice, by_hand: Mapping[str, ByHand]) -> list[CatalogPredictions]:
    """Return the predictions of the first model, then of the second, up to the first one that is not ready.

    `by_hand` names labels of each model for classes that it does not know by name.
    In place of missing predictions the page shows their progress, and reruns when they are ready.
    """
    results: list[CatalogPredictions] = []
    for model, title in zip((models.first, models.second), models.titles, strict=False):
        if model is None:
            break
        try:
            parts = _load_model_predictions(data, model, title, by_hand.get(model, {}))
        except SwinError as error:
            st.error(escape_markdown(f"{title}: {error}"), icon=":material/error:")
            break
        if parts is None:
            break
        results.append(CatalogPredictions.of(data.catalog, parts, by_hand.get(model, {})))
    return results


def _load_model_predictions(data: BrowsedData, model: str, title: str, by_hand: ByHand) -> list[Predictions] | None:
    """Return a model's predictions for each split, or None while they are missing."""
    requests = [(model, data.collection.name, split) for split in data.splits]
    with st.spinner(escape_markdown(f"Loading {title} ...")):
        cache.classifier(model)
    ready: list[Predictions] = []
    jobs: list[Job[PredictionRequest]] = []
    for request in requests:
        result = predictions_or_job(*request, request in st.session_state.get("predict", []), by_hand)
        if result is None:
            st.button(
                f"Predict {len(data.catalog):,} images with {escape_markdown(title)}",
                icon=":material/hourglass_empty:",
                help="This takes some minutes. The predictions are stored on disk for the next time.",
                on_click=_allow_long_jobs,
                args=(requests,),
                key=f"predict {model}",
            )
            return None
        if isinstance(result, Job):
            jobs.append(result)
        else:
            ready.append(result)
    if not jobs:
        return ready
    if jobs[0].error:
        st.error(escape_markdown(f"{title}: {jobs[0].error}"), icon=":material/error:")
    else:
        st.fragment(_show_progress, run_every=POLL_SECONDS)(jobs, title)
    return None


def _allow_long_jobs(requests: list[tuple[str, str, str]]) -> None:
    st.session_state.predict = [*st.session_state.get("predict", []), *requests][-16:]


def _show_progress(jobs: Sequence[Job[PredictionRequest]], title: str) -> None:
    """Show the progress of the first job; rerun the page when it has ended."""
    job = jobs[0]
    if job.ended.is_set():
        st.rerun()
    for shown in jobs:
        shown.ask()
    left = "" if job.seconds_left is None else f", {duration(job.seconds_left)} left"
    count = len(job.request.data)
    st.progress(job.done / count, escape_markdown(f"{title}: predicted {job.done:,} of {count:,} images{left}"))


def show_metrics(data: BrowsedData, models: ModelChoice, results: Sequence[CatalogPredictions]) -> None:
    """Show each model's metrics in a line, with a button that opens its most confident mistakes."""
    for letter, title, result in zip(("A", "B"), models.titles, results, strict=False):
        with st.container(horizontal=True, vertical_alignment="center"):
            name = escape_markdown(f"{letter}: {title}" if len(results) > 1 else title)
            try:
                metrics = result.predictions.metrics()
            except DataError:
                why = "knows no class of these images" if data.catalog.classes else "predicts images without labels"
                st.markdown(f"**{name}** {why}, so its predictions cannot be checked.")
                continue
            top5 = "" if metrics.top5 is None else f", top-5 **{100 * metrics.top5:.2f} %**"
            balanced = f", balanced accuracy **{100 * metrics.balanced:.2f} %**" if metrics.is_uneven else ""
            text = f"top-1 **{100 * metrics.top1:.2f} %**{balanced}{top5}, loss **{metrics.loss:.3f}**"
            st.markdown(f"**{name}** · {text} on {metrics.count:,} images", width="content")
            if letter == "A":
                st.button(
                    "Most confident mistakes",
                    icon=":material/priority_high:",
                    on_click=show_images,
                    kwargs={"show": WRONG, "sort": CONFIDENT},
                    key="mistakes_first",
                )
    if results:
        show_trained(data, models)


def show_trained(data: BrowsedData, models: ModelChoice) -> None:
    """Say how many of the images the models were trained on, if they were."""
    for model, title in zip((models.first, models.second), models.titles, strict=False):
        trained = trained_rows(model, data.catalog) if model else None
        if trained is not None and trained.any():
            st.caption(
                escape_markdown(
                    f"{title} was trained on {int(trained.sum()):,} of these {len(trained):,} images, so its metrics "
                    "are optimistic."
                )
            )


def show_comparison(results: Sequence[CatalogPredictions]) -> None:
    """Show how often the two models disagree and which of them is right, as buttons that open these images."""
    if len(results) < 2:
        return
    cases = COMPARING if results[0].catalog.classes else COMPARING[:1]
    with st.container(horizontal=True):
        for show in cases:
            count = int(compared(show, *results).sum())
            st.button(f"{show}: {count:,}", on_click=show_images, kwargs={"show": show}, key=f"open {show}")


def show_skipped(data: BrowsedData) -> None:
    """List the files of the data set that are not used, if there are any."""
    files = list(dict.fromkeys(file for part in data.catalog.parts for file in part.skipped))
    if not files:
        return
    text = "1 file is skipped" if len(files) == 1 else f"{len(files):,} files are skipped"
    with st.expander(text, icon=":material/warning:"):
        st.dataframe(
            {
                "File": [file.name for file in files],
                "Class": [file.class_name for file in files],
                "Why it is skipped": [file.reason for file in files],
            },
            hide_index=True,
            alt=f"{len(files)} files that are skipped, with the reason",
        )
