"""One image in one model: computed once, bounded, and safe for several sessions."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dashboard.inside import inspection as inspection_module
from dashboard.inside.inspection import Inspection
from dashboard.shared import cache
from swin_core.errors import ModelError
from tests.conftest import count_hooks
from tests.fixtures.pages import FLOWERS, empty_caches, picture, save_model

pytestmark = pytest.mark.usefixtures("one_thread", "fresh")


def test_results_are_cached_until_the_weights_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = tmp_path / "20260102-030405-mine"
    run.mkdir()
    (run / "config.json").write_text("{}")
    save_model(run, "model", FLOWERS, 1)
    monkeypatch.setenv("SWIN_RUNS_ROOT", str(tmp_path))
    made: list[str] = []
    read_internals = inspection_module.read_internals
    monkeypatch.setattr(
        inspection_module, "read_internals", lambda *given: made.append("pass") or read_internals(*given)
    )
    inspection = Inspection(run.name, picture())
    block = inspection.anatomy().blocks[1]
    one = inspection.token_attention(block, (3, 4), 1)
    assert inspection.token_attention(block, (3, 4), 1) is one
    assert Inspection(run.name, picture(key="an image")).internals() is inspection.internals()
    assert made == ["pass"]
    Inspection(run.name, picture("cat", "another")).internals()
    assert made == ["pass"] * 2
    save_model(run, "model", FLOWERS, 9)
    assert not np.array_equal(inspection.token_attention(block, (3, 4), 1).heads, one.heads)
    assert made == ["pass"] * 3


def test_caches_stay_within_their_limits() -> None:
    inspection = Inspection("first", picture())
    blocks = inspection.anatomy().blocks
    for block in blocks:
        for token in np.ndindex(*block.grid):
            inspection.token_attention(block, token, None)
    assert len(inspection_module._token_attentions) == inspection_module._token_attentions.entries
    assert len(inspection_module._attentions) <= inspection_module._attentions.entries


def test_concurrent_sessions_get_the_same_results(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [picture(name, name) for name in ("tulip", "rose", "cat", "cup")]

    def work(place: int) -> list[np.ndarray]:
        inspection = Inspection("first", pictures[place])
        attention = inspection.token_attention(inspection.anatomy().blocks[place], (1, 2), None)
        return [attention.heads, attention.rollout, *inspection.relevance(place).maps, inspection.internals().logits]

    alone = [work(place) for place in range(4)]
    empty_caches(monkeypatch, inspection_module)
    hooks = count_hooks(cache.classifier("first").model)
    start = threading.Barrier(4)

    def together(place: int) -> list[np.ndarray]:
        start.wait()
        return work(place)

    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(together, range(4)), alone, strict=True):
            assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert count_hooks(cache.classifier("first").model) == hooks == 0


def test_an_unknown_model_is_an_error() -> None:
    with pytest.raises(ModelError, match="there is no model nowhere"):
        Inspection("nowhere", picture()).internals()
