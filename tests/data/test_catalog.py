"""Filter, search, sort, sample sheets and confusions against slow loops over the same images."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_core.data.catalog import Catalog, each_class_in_turn
from swin_core.data.dataset import DataSet
from swin_core.data.folders import image_folder
from swin_core.data.thumbnails import SIDE, encode, thumbnails
from swin_core.errors import ConfigError
from swin_core.evaluation.confusion import confusion, grouped, most_frequent, worst_classes
from swin_core.evaluation.predictions import Predictions
from swin_core.evaluation.selection import (
    ANY,
    OTHER,
    SHOWN,
    SORTS,
    CatalogPredictions,
    ImageQuery,
    class_choice,
    class_choices,
    select,
)

CLASSES = ("ox", "sea_bass", "shark", "<img src=x>", "fish_eagle")
COARSE = ("mammals", "fish", "birds & <b>")
OF_CLASS = np.array([0, 1, 1, 0, 2])


def made_up(count: int, seed: int, split: str = "test") -> DataSet:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, len(CLASSES), count)
    names = tuple(
        f"{CLASSES[label][:4]}_{draw.integers(0, 9)}{'_FISH' if draw.random() < 0.2 else ''}.png" for label in labels
    )
    pixels = draw.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return DataSet(
        "made",
        split,
        CLASSES,
        labels,
        names,
        pixels,
        lambda source, _: Image.fromarray(source),
        OF_CLASS[labels],
        COARSE,
    )


@pytest.fixture
def catalog() -> Catalog:
    return Catalog([made_up(130, 1), made_up(70, 2, "train")])


def judged(catalog: Catalog, seed: int) -> CatalogPredictions:
    """Made-up predictions by a model that knows four of the classes, in another order, and one more."""
    draw = np.random.default_rng(seed)
    labels = ("shark", "whale", "ox", "fish_eagle", "sea_bass")
    place = {"shark": 0, "ox": 2, "fish_eagle": 3, "sea_bass": 4}
    truth = np.array([place.get(catalog.classes[label], -1) for label in catalog.labels])
    predicted = np.where(draw.random(len(truth)) < 0.5, np.maximum(truth, 0), draw.integers(0, 5, len(truth)))
    predicted[:3] = -1
    probabilities = draw.random((len(truth), 5)).astype(np.float32)
    loss = np.where(truth < 0, np.nan, draw.random(len(truth))).astype(np.float32)
    return CatalogPredictions(
        Predictions(labels, truth, predicted, np.tile(np.arange(5), (len(truth), 1)), probabilities, loss), catalog
    )


def test_a_right_picture_is_on_the_diagonal_where_two_classes_mean_one() -> None:
    pixels = np.zeros((4, 8, 8, 3), np.uint8)
    labels, names = np.array([0, 1, 1, 2]), tuple("abcd")
    data = DataSet(
        "made", "all", ("Rose", "roses", "tulip"), labels, names, pixels, lambda one, _: Image.fromarray(one)
    )
    found = Predictions(
        ("tulips", "roses"),
        np.array([1, 1, 1, 0]),
        np.array([1, 1, 0, 0]),
        np.zeros((4, 1), np.int64),
        np.ones((4, 1), np.float32),
        np.zeros(4, np.float32),
    )
    confusion = CatalogPredictions(found, Catalog([data])).confusion
    assert confusion[:, :3].tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert np.trace(confusion) == found.metrics().top1 * 4


@pytest.mark.parametrize(
    "text", ["", "fish", "FISH", "ox 3", "sea_b png", "birds", "nothing", "<img", "& <b>", ".png shark"]
)
def test_search_finds_what_a_slow_loop_finds(catalog: Catalog, text: str) -> None:
    found = set(np.flatnonzero(catalog.matching(text)).tolist())
    wanted = set()
    for row in range(len(catalog)):
        names = (catalog.files[row], CLASSES[catalog.labels[row]], COARSE[catalog.coarse[row]])
        if all(any(word in name.lower() for name in names) for word in text.lower().split()):
            wanted.add(row)
    assert found == wanted


def slow_select(
    catalog: Catalog, wanted: ImageQuery, first: CatalogPredictions, second: CatalogPredictions
) -> set[int]:
    def fits(name: str, choice: str) -> bool:
        group = choice.removesuffix(" (super-class)")
        if choice == ANY:
            return True
        return name in CLASSES and (
            COARSE[OF_CLASS[CLASSES.index(name)]] == group if group != choice else name == choice
        )

    def state(judgement: CatalogPredictions, row: int) -> str:
        found = judgement.predictions
        if found.truth[row] < 0 or found.predicted[row] < 0:
            return "unknown"
        return "right" if found.truth[row] == found.predicted[row] else "wrong"

    def answer(judgement: CatalogPredictions, row: int) -> str:
        index = judgement.predictions.predicted[row]
        return "" if index < 0 else judgement.predictions.labels[index]

    rows = set()
    for row in range(len(catalog)):
        taken_for, other = answer(first, row), answer(second, row)
        here, there = state(first, row), state(second, row)
        predicted = taken_for == "whale" if wanted.predicted == OTHER else fits(taken_for, wanted.predicted)
        if wanted.predicted == OTHER:
            predicted &= here != "unknown"
        shown = {
            "All": True,
            "Right": here == "right",
            "Wrong": here == "wrong",
            "Models disagree": taken_for not in ("", other) and other != "",
            "Only A right": (here, there) == ("right", "wrong"),
            "Only B right": (here, there) == ("wrong", "right"),
            "Both wrong": (here, there) == ("wrong", "wrong"),
        }[wanted.shown]
        if fits(CLASSES[catalog.labels[row]], wanted.truth) and (predicted or wanted.predicted == ANY) and shown:
            rows.add(row)
    return rows


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("truth", [ANY, "ox", "<img src=x>", "fish (super-class)"])
@pytest.mark.parametrize("predicted", [ANY, OTHER, "sea_bass", "mammals (super-class)"])
def test_filters_keep_what_a_slow_loop_keeps(catalog: Catalog, shown: str, truth: str, predicted: str) -> None:
    first, second = judged(catalog, 3), judged(catalog, 4)
    wanted = ImageQuery(truth=truth, predicted=predicted, shown=shown)
    rows = select(catalog, wanted, first, second)
    assert set(rows.tolist()) == slow_select(catalog, wanted, first, second)
    assert len(set(rows.tolist())) == len(rows)


@pytest.mark.parametrize("sort", SORTS)
def test_every_order_is_that_of_a_slow_sort(catalog: Catalog, sort: str) -> None:
    first = judged(catalog, 5)
    rows = select(catalog, ImageQuery(search="fish", sort=sort), first).tolist()
    assert len(rows) > 30
    keys = {
        "Name": lambda row: catalog.files[row].lower(),
        "Most confident first": lambda row: -first.predictions.confidence[row],
        "Least confident first": lambda row: first.predictions.confidence[row],
        "Greatest loss first": lambda row: -first.predictions.loss[row],
        "Smallest loss first": lambda row: first.predictions.loss[row],
    }
    if sort in keys:
        values = [keys[sort](row) for row in rows]
        finite = [value for value in values if value == value]
        assert finite == sorted(finite)
        # What has no loss comes last.
        assert values[: len(finite)] == finite
    else:
        times: Counter[int] = Counter()
        rounds = []
        for row in rows:
            rounds.append((times[int(catalog.labels[row])], int(catalog.labels[row])))
            times[int(catalog.labels[row])] += 1
        assert rounds == sorted(rounds)


def test_without_predictions_everything_is_shown(catalog: Catalog) -> None:
    wanted = ImageQuery(shown="Wrong", predicted="ox", sort="Greatest loss first")
    assert wanted.needs_predictions
    assert len(select(catalog, wanted)) == len(catalog)
    assert not ImageQuery(search="ox", truth="ox", sort="Name").needs_predictions


def test_each_class_in_turn_of_nothing_and_of_one() -> None:
    assert each_class_in_turn(np.zeros(0, np.int64)).tolist() == []
    assert each_class_in_turn(np.array([4, 4])).tolist() == [0, 1]
    assert each_class_in_turn(np.array([2, 1, 2, 1, 1, 0])).tolist() == [5, 1, 0, 3, 2, 4]


def test_rows_lead_back_to_the_pictures_of_their_split(catalog: Catalog) -> None:
    assert len(catalog) == 200
    for row in (0, 129, 130, 199):
        part = catalog.parts[catalog.part[row]]
        assert part.names[catalog.index[row]] == catalog.files[row]
        assert part.labels[catalog.index[row]] == catalog.labels[row]


def test_splits_of_different_classes_are_refused() -> None:
    other = made_up(5, 1).subset(range(5), "test")
    object.__setattr__(other, "classes", ("a", "b"))
    for parts in ([], [made_up(5, 1), other]):
        with pytest.raises(ConfigError):
            Catalog(parts)


def test_the_choices_of_classes_are_told_apart(catalog: Catalog) -> None:
    choices = class_choices(catalog)
    assert choices[0] == ANY
    assert len(set(choices)) == 1 + len(COARSE) + len(CLASSES)


def test_classes_that_are_called_like_other_choices_are_chosen_alone() -> None:
    classes = (ANY, OTHER, f"{ANY} (class)", "fish (super-class)", "fish")
    labels = np.array([0, 1, 2, 3, 4])
    pixels = np.zeros((5, 8, 8, 3), np.uint8)
    data = DataSet(
        "made", "all", classes, labels, classes, pixels, lambda one, _: Image.fromarray(one), labels % 2, ("fish", "x")
    )
    catalog = Catalog([data])
    choices = class_choices(catalog)
    assert len({*choices, OTHER}) == 1 + 1 + 2 + 5
    for place, name in enumerate(classes):
        assert class_choice(name) in choices
        assert select(catalog, ImageQuery(truth=class_choice(name))).tolist() == [place]


def test_the_confusion_matrix_is_a_count_by_hand(catalog: Catalog) -> None:
    first = judged(catalog, 6)
    counted: Counter[tuple[str, str]] = Counter()
    for row in range(len(catalog)):
        found = first.predictions
        if found.truth[row] >= 0 and found.predicted[row] >= 0:
            counted[CLASSES[catalog.labels[row]], found.labels[found.predicted[row]]] += 1
    matrix = first.confusion
    for i, truth in enumerate(CLASSES):
        for j, predicted in enumerate(CLASSES):
            assert matrix[i, j] == counted[truth, predicted]
        assert matrix[i, -1] == counted[truth, "whale"]
    assert matrix.sum() == counted.total() > 100

    # Of groups: the same count with the names of the groups.
    groups: Counter[tuple[int, int]] = Counter()
    for (truth, predicted), count in counted.items():
        column = OF_CLASS[CLASSES.index(predicted)] if predicted in CLASSES else len(COARSE)
        groups[int(OF_CLASS[CLASSES.index(truth)]), int(column)] += count
    coarse = grouped(matrix, OF_CLASS, len(COARSE))
    assert {place: int(coarse[place]) for place in np.ndindex(coarse.shape) if coarse[place]} == dict(groups)

    # The most frequent mistakes, and the classes with most of them.
    names = (*CLASSES, "whale")
    mistakes = sorted((count for pair, count in counted.items() if pair[0] != pair[1]), reverse=True)
    frequent = most_frequent(matrix, 100)
    assert [one.count for one in frequent] == mistakes
    for one in frequent:
        assert one.count == counted[names[one.truth], names[one.predicted]]
        assert one.share == pytest.approx(one.count / matrix[one.truth].sum())
    part = [sum(c for (a, b), c in counted.items() if a != b and name in (a, b)) for name in CLASSES]
    assert [part[place] for place in worst_classes(matrix)] == sorted(part, reverse=True)


def test_the_confusion_matrix_is_that_of_another_library() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(0)
    truth, predicted = draw.integers(0, 30, 5000), draw.integers(0, 30, 5000)
    matrix = confusion(truth, predicted, 30)
    np.testing.assert_array_equal(matrix[:, :-1], metrics.confusion_matrix(truth, predicted))
    assert not matrix[:, -1].any()


def test_thumbnails_are_small_squares_of_the_middle(tmp_path: Path) -> None:
    (tmp_path / "photos" / "a").mkdir(parents=True)
    ramp = np.zeros((300, 500, 3), np.uint8)
    ramp[:, 100:400] = 200
    Image.fromarray(ramp).save(tmp_path / "photos" / "a" / "1.png")
    (tmp_path / "photos" / "a" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    wide, broken = thumbnails(image_folder(tmp_path / "photos"), [0, 1])
    assert isinstance(wide, tuple)
    kind, content = wide
    shown = Image.open(io.BytesIO(content))
    assert (kind, shown.size) == ("image/jpeg", (SIDE, SIDE))
    assert np.asarray(shown).min() > 120  # the dark margins are cut off
    assert isinstance(broken, str)
    assert "2.png" in broken
    assert "\n" not in broken


def test_tiny_pictures_are_kept_to_the_pixel() -> None:
    data = made_up(4, 9)
    for index, found in enumerate(thumbnails(data, range(4))):
        assert isinstance(found, tuple)
        assert found[0] == "image/webp"
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(found[1])).convert("RGB")), data.sources[index])
    assert encode(Image.new("RGB", (65, 65)))[0] == "image/jpeg"
