"""The work of the Browse page: search in 60,000 images, a sheet of thumbnails, predictions against plain inference.

Needs CIFAR-100 and flower_photos in the folder that `SWIN_DATA_ROOT` names.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from benchmarks.timing import Contenders, measure, median_ms

import swin_core
from swin_core.data.catalog import Catalog
from swin_core.data.cifar100 import cifar100
from swin_core.data.flowers import flower_photos
from swin_core.data.thumbnails import thumbnails
from swin_core.evaluation.metrics import batch_size
from swin_core.evaluation.predictions import Predictions, predict
from swin_core.evaluation.selection import CatalogPredictions, ImageQuery, select

SHEET = 100
BASE64 = 4 / 3
"""Bytes on the page for each byte of an image file."""


def browse(rounds: int) -> list[dict[str, Any]]:
    """Search, filter and sort 60,000 images; 100 thumbnails and their bytes; predictions of 10,000 images."""
    return [*_selecting(rounds), *_sheets(rounds), _predicting(min(rounds, 3))]


def _selecting(rounds: int) -> list[dict[str, Any]]:
    catalog = Catalog([cifar100(split="test"), cifar100(split="train")])
    first, second = (_random_predictions(catalog, seed) for seed in (0, 1))
    queries = {
        "search by name": ImageQuery(search="wolf 00"),
        "search, by the files' names": ImageQuery(search="a", sort="Name"),
        "a super-class": ImageQuery(truth="fish (super-class)"),
        "wrong, most confident first": ImageQuery(shown="Wrong", sort="Most confident first"),
        "only A right": ImageQuery(shown="Only A right", sort="Greatest loss first"),
        "everything, each class in turn": ImageQuery(),
    }
    results = []
    select(catalog, ImageQuery(predicted="wolf"), first, second)  # warm-up: fills the page's caches
    for title, query in queries.items():
        median = median_ms(partial(select, catalog, query, first, second), rounds)
        print(f"{len(catalog):,} images, {title}: {median:.1f} ms")
        results.append({"title": title, "pictures": len(catalog), "median_ms": median, "rounds": rounds})
    return results


def _random_predictions(catalog: Catalog, seed: int) -> CatalogPredictions:
    """Return random predictions, half of them right."""
    draw = np.random.default_rng(seed)
    count, classes = len(catalog), len(catalog.classes)
    predicted = np.where(draw.random(count) < 0.5, catalog.labels, draw.integers(0, classes, count))
    probabilities = draw.random((count, 5), np.float32)
    top = draw.integers(0, classes, (count, 5))
    predictions = Predictions(catalog.classes, catalog.labels, predicted, top, probabilities, probabilities[:, 0])
    return CatalogPredictions(predictions, catalog)


def _sheets(rounds: int) -> list[dict[str, Any]]:
    results = []
    for data in (cifar100(split="test"), flower_photos(split="train")):
        rows = list(range(0, len(data), len(data) // SHEET))[:SHEET]
        median = median_ms(partial(thumbnails, data, rows), rounds)
        size = BASE64 * sum(len(result[1]) for result in thumbnails(data, rows) if isinstance(result, tuple))
        print(f"{SHEET} thumbnails of {data.name}: {median:.0f} ms, {size / 1e3:.0f} KB on the page")
        results.append({"title": f"thumbnails of {data.name}", "median_ms": median, "page_bytes": size})
    return results


def _predicting(rounds: int) -> dict[str, Any]:
    """Predict with decoding, against the model alone on images that are already normalised."""
    classifier = swin_core.load("swin_micro_cifar100")
    data = cifar100(split="test")
    views = data.array(classifier.image_size)
    step = batch_size(classifier.device, classifier.image_size)
    batches = [classifier.tensor(views[start : start + step]) for start in range(0, len(data), step)]

    def bare() -> None:
        with torch.inference_mode():
            for batch in batches:
                classifier.model(batch)

    calls: Contenders = {"predictions": lambda: predict(classifier, data), "bare inference": bare}
    result = measure(f"predictions of {len(data):,} images, 32 px", calls, rounds, "bare inference")
    times = 1 / float(result["ratio"])
    print(f"    predictions take {times:.2f} times as long as the bare inference")
    return {**result, "times_as_long": times}
