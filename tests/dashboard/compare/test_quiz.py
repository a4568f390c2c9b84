"""The quiz: rounds that everybody sees alike, a score against a slow count, and a game from first to last round."""

from __future__ import annotations

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboard.compare.quiz import GRID, RADIUS, ROUNDS, rounds, score
from swin_core.attribution.regions import bilinear
from swin_core.class_names import candidates
from swin_core.zoo.load import bundled_metadata
from tests.fixtures.pages import ROOT, bundle, component, fresh, run

__all__ = ["bundle", "fresh"]


def test_a_score_counts_the_evidence_in_the_circle_and_in_the_best_one() -> None:
    values = np.random.default_rng(0).normal(size=(7, 9))
    evidence = np.maximum(bilinear(values, GRID, GRID), 0)

    def share(x: float, y: float) -> float:
        inside = 0.0
        for row, column in np.ndindex(GRID, GRID):
            if ((column + 0.5) / GRID - x) ** 2 + ((row + 0.5) / GRID - y) ** 2 <= RADIUS**2:
                inside += evidence[row, column]
        return inside / evidence.sum()

    result = score(values, 0.3, 0.8)
    assert result.caught == pytest.approx(share(0.3, 0.8))
    assert result.best == pytest.approx(share(*result.place))
    tried = np.random.default_rng(1).integers(0, GRID, (40, 2))
    assert all(share((x + 0.5) / GRID, (y + 0.5) / GRID) <= result.best + 1e-9 for x, y in tried)
    assert score(values, *result.place).points == 100


def test_a_map_without_evidence_gives_no_points() -> None:
    assert score(np.full((4, 4), -1.0), 0.5, 0.5).points == 0


def test_everybody_with_the_same_link_sees_the_same_images_by_models_that_know_them() -> None:
    games = rounds(7)
    assert games == rounds(7)
    assert len({game.sample for game in games}) == ROUNDS
    assert rounds(8) != games
    for game in games:
        assert candidates(bundled_metadata(game.model)["labels"], game.label)


@pytest.mark.usefixtures("one_thread", "fresh")
def test_a_game_from_the_first_guess_to_the_result() -> None:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=120).switch_page("views/quiz.py")
    app.query_params["quiz"] = "3"
    run(app)
    games = rounds(3)
    points = 0
    for number, game in enumerate(games):
        (board,) = component(app, "_quiz")
        assert (board["round"], board["guess"]) == (number, None)
        assert game.label in app.markdown[-1].value
        app.session_state.quiz_guesses = [*app.session_state.quiz_guesses, (0.4, 0.6)]
        run(app)
        (solved,) = component(app, "_quiz")
        result = score(game.explanation().maps[0, 0], 0.4, 0.6)
        assert (solved["guess"], solved["best"]) == ([0.4, 0.6], list(result.place))
        assert solved["image"] != board["image"]
        assert f"**{result.points} points**" in app.markdown[-1].value
        points += result.points
        app.button(key="quiz_next").click()
        run(app)
    assert app.markdown[-1].value == f"**{points} of {100 * len(games)} points**"
    app.button(key="quiz_other").click()
    run(app)
    assert app.query_params["quiz"] == "4"
    assert component(app, "_quiz")[0]["round"] == 0


@pytest.mark.usefixtures("one_thread", "fresh")
def test_a_seed_that_is_none_is_named() -> None:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=120).switch_page("views/quiz.py")
    app.query_params["quiz"] = "many"
    (warning,) = run(app).warning
    assert "quiz=many (possible: 1 to 9999)" in warning.value.replace("\\", "")
