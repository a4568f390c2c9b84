"""A quiz: the learner places a circle where a model may find evidence for a class, and sees its heat map."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import streamlit as st
from scipy.signal import fftconvolve

from dashboard.shared.cache import InputImage, Request, explanation
from dashboard.shared.model_names import model_title, sample_images, sample_label
from dashboard.shared.samples import sample_image
from swin_core.attribution.explanation import Explanation
from swin_core.attribution.overlay import enlarged
from swin_core.attribution.regions import bilinear
from swin_core.class_names import candidates
from swin_core.images.data_uri import image_uri
from swin_core.zoo.load import available, bundled_metadata

ROUNDS = 5
RADIUS = 0.18
"""Of the circle, as a share of the image's side: it covers a tenth of the image."""
GRID = 64
"""Places along each side of an image at which a map is read."""

_board = st.components.v2.component(
    "swinlens_quiz",
    html='<div id="board"><img class="photo"><div class="best circle" hidden></div><div class="own circle"></div></div>'
    '<div class="place" role="status"></div><button type="button">This is my guess</button>',
    css="""#board { position: relative; overflow: hidden; max-width: 520px; cursor: crosshair; line-height: 0;
  border-radius: 6px; touch-action: manipulation; }
#board:focus-visible, button:focus-visible { outline: 3px solid var(--st-primary-color); outline-offset: 2px; }
#board[role=group] { outline: none; cursor: auto; }
.photo { width: 100%; }
.circle { position: absolute; aspect-ratio: 1; transform: translate(-50%, -50%); border-radius: 50%;
  box-sizing: border-box; border: 3px solid #fff; box-shadow: 0 0 0 2px #000, inset 0 0 0 2px #000; }
.circle[hidden] { display: none; }
.best { border-style: dashed; border-color: #F0E442; }
.place { min-height: 1.4em; margin: 6px 0; font: 14px var(--st-font); color: var(--st-text-color); }
button { min-height: 44px; padding: 4px 18px; font: inherit; cursor: pointer; border: 0;
  border-radius: var(--st-button-radius); background: var(--st-primary-color); color: light-dark(#FFFFFF, #12161C); }
""",
    js=(files("dashboard.compare") / "quiz.js").read_text("utf-8"),
)


@dataclass(frozen=True)
class Round:
    """An image, and a bundled model that knows what it shows."""

    sample: str
    model: str

    @property
    def label(self) -> str:
        """The true class, which is explained."""
        return sample_label(self.sample)

    def image(self) -> InputImage:
        """Return the image."""
        return sample_image(self.sample)

    def explanation(self) -> Explanation:
        """Return the model's explanation of the true class.

        Raises:
            SwinError: as `explain`.
        """
        labels = bundled_metadata(self.model)["labels"]
        target = candidates(labels, self.label)[0]
        return explanation(Request(self.model, self.image(), (target,), None, None))


@dataclass(frozen=True)
class Score:
    """What a circle catches of a map's evidence for the class."""

    caught: float
    """Share of the evidence, 0 to 1."""
    best: float
    """The most that a circle of this size can catch."""
    place: tuple[float, float]
    """Its centre, in fractions of width and height."""

    @property
    def points(self) -> int:
        """0 to 100, for the best circle."""
        return round(100 * self.caught / self.best) if self.best else 0


def rounds(seed: int) -> list[Round]:
    """Return the rounds of a quiz; the same for everybody with the same seed."""
    known = [
        Round(sample, next(model for model in available() if _knows(model, sample)))
        for sample in sample_images()
        if any(_knows(model, sample) for model in available())
    ]
    random.Random(seed).shuffle(known)
    return known[:ROUNDS]


def _knows(model: str, sample: str) -> bool:
    return len(candidates(bundled_metadata(model).get("labels", ()), sample_label(sample))) == 1


def score(values: np.ndarray, x: float, y: float) -> Score:
    """Score a circle on a map `(h, w)`; its centre is in fractions of width and height."""
    evidence = np.clip(bilinear(values, GRID, GRID), 0, None)
    total = float(evidence.sum())
    if not total:
        return Score(0.0, 0.0, (0.5, 0.5))
    places = (np.arange(GRID) + 0.5) / GRID
    caught = float(evidence[np.hypot(places[None] - x, places[:, None] - y) <= RADIUS].sum()) / total
    reach = int(RADIUS * GRID)
    offsets = np.arange(-reach, reach + 1) / GRID
    circle = (np.hypot(offsets[None], offsets[:, None]) <= RADIUS).astype(float)
    sums = fftconvolve(evidence, circle, "same") / total
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return Score(caught, max(float(sums.max()), caught), (float(places[column]), float(places[row])))


def show_round(number: int, game: Round, found: Explanation, guess: tuple[float, float] | None) -> None:
    """Draw the board of a round; a guess is kept before the page runs again."""
    picture = enlarged(found.image) if guess is None else found.overlay()
    best = score(found.maps[0, 0], *(guess or (0.5, 0.5))).place
    _board(
        data={
            "round": number,
            "image": image_uri(picture, "PNG"),
            "alt": f"{game.label}, round {number + 1}" if guess is None else f"Heat map of {model_title(game.model)}",
            "radius": RADIUS,
            "guess": guess,
            "best": best,
        },
        key="quiz_board",
        on_guess_change=_take_guess,
    )


def guesses() -> list[tuple[float, float]]:
    """Return the places that were guessed so far, one for each finished round."""
    kept: list[tuple[float, float]] = st.session_state.setdefault("quiz_guesses", [])
    return kept


def _take_guess() -> None:
    sent: Any = st.session_state.quiz_board.get("guess")
    kept = guesses()
    if not isinstance(sent, Mapping) or sent.get("round") != len(kept):  # also a second click on the button
        return
    x, y = sent.get("x"), sent.get("y")
    if isinstance(x, int | float) and isinstance(y, int | float) and 0 <= min(x, y) <= max(x, y) <= 1:
        kept.append((float(x), float(y)))
