"""The map of images: neighbours stay neighbours, the same each time, with progress and stop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest
from sklearn.manifold import trustworthiness

from swin_core.errors import DataError
from swin_core.evaluation import embedding
from swin_core.evaluation.embedding import cached_embedding, drawn
from swin_core.evaluation.tsne import arrange


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SWIN_CACHE_ROOT", str(tmp_path))
    return tmp_path


def groups(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Features of three groups of images, and the group of each."""
    draw = np.random.default_rng(1)
    of = np.repeat(np.arange(3), count)
    return (3 * np.eye(3, 12)[of] + draw.normal(size=(len(of), 12)) / 4).astype(np.float32), of


def test_neighbours_stay_neighbours_and_the_map_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, of = groups()
    steps: list[tuple[int, int]] = []
    places = cached_embedding(features, progress=lambda *step: steps.append(step))
    assert places.shape == (120, 2)
    assert np.abs(places).max() == pytest.approx(1)
    centres = np.stack([places[of == group].mean(0) for group in range(3)])
    nearest = np.linalg.norm(places[:, None] - centres, axis=2).argmin(1)
    assert (nearest == of).all()
    assert trustworthiness(features, places, n_neighbors=5, metric="cosine") > 0.8
    assert [step for step, _ in steps] == sorted({step for step, _ in steps})
    assert {total for _, total in steps} == {embedding.STEPS}
    # The length of a vector does not count, and the same features give the same map on every computation.
    again = cached_embedding(features, root=cache / "other")
    np.testing.assert_array_equal(again, places)
    monkeypatch.setattr(embedding, "_computed", None)  # the second time it is read
    np.testing.assert_array_equal(cached_embedding(features), places)


def test_it_stops_and_leaves_no_program() -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_embedding(groups()[0], progress=stop)
    assert not any("tsne" in " ".join(child.cmdline()) for child in psutil.Process().children())


@pytest.mark.parametrize("count", [4, 7])
def test_a_few_images_have_a_map(count: int) -> None:
    assert np.isfinite(arrange(groups()[0][:count], 0)).all()


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="a map needs 4 images, and there are 3; choose more images"):
        cached_embedding(groups()[0][:3])


def test_a_failure_is_one_line() -> None:
    with pytest.raises(DataError, match=r"the map could not be computed \(ValueError: .*contains NaN.*\); try again"):
        cached_embedding(np.full((10, 3), np.nan, np.float32))


def test_large_sets_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "MOST_IMAGES", 10)
    assert drawn(7).tolist() == list(range(7))
    rows = drawn(50)
    assert len(set(rows.tolist())) == 10
    assert rows.tolist() == sorted(rows.tolist())
    assert rows.max() < 50
    np.testing.assert_array_equal(rows, drawn(50))
    assert drawn(50, 1).tolist() != rows.tolist()
