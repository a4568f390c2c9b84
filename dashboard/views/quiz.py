"""The quiz: where does a model look? Compare links to it."""

import streamlit as st

from dashboard.compare.quiz import guesses, rounds, score, show_round
from dashboard.shared.model_names import model_title
from dashboard.shared.page_heading import show_heading
from dashboard.shared.share_link import show_link
from dashboard.shared.theme import escape_markdown
from dashboard.shared.url_state import invalid_number, settle, show_ignored
from swin_core.errors import SwinError
from swin_core.figures.text import percent

MOST_SEED = 9999


def main() -> None:
    """Draw the page."""
    ignored = invalid_number("quiz", 1, MOST_SEED)
    seed = 1 if ignored else int(st.query_params.get("quiz", st.session_state.get("quiz_seed", 1)))
    if seed != st.session_state.get("quiz_seed", seed):
        _start(seed)
    st.session_state.quiz_seed = seed
    st.query_params["quiz"] = str(seed)  # a class that opens the link sees the same images
    actions = show_heading("quiz")
    settle(ignored)
    show_ignored(ignored, st.container())
    with actions:
        show_link()
    games = rounds(seed)
    shown = st.session_state.setdefault("quiz_round", 0)
    if shown >= len(games):
        _show_result(seed)
        return
    game, known = games[shown], guesses()
    title = escape_markdown(model_title(game.model))
    guess = known[shown] if shown < len(known) else None
    how = "" if guess else " Place the circle by a click, a touch or the arrow keys."
    label = escape_markdown(game.label)
    st.markdown(f"**Round {shown + 1} of {len(games)}**: where does {title} look for **{label}**?{how}")
    try:
        with st.spinner("Explaining ..."):
            found = game.explanation()
    except SwinError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    show_round(shown, game, found, guess)
    if guess is None:
        return
    result = score(found.maps[0, 0], *guess)
    st.markdown(
        f"**{result.points} points**: your circle holds {percent(result.caught)} of the evidence, the best one "
        f"(dashed) {percent(result.best)}."
    )
    said, probability = found.top_classes(1)[0]
    st.caption(f"The model says {escape_markdown(said)}, {percent(probability)}.")
    last = shown + 1 == len(games)
    st.button("See the result" if last else "Next image", type="primary", on_click=_next, key="quiz_next")


def _show_result(seed: int) -> None:
    games = rounds(seed)
    scores = [score(game.explanation().maps[0, 0], *guess) for game, guess in zip(games, guesses(), strict=True)]
    st.markdown(f"**{sum(each.points for each in scores)} of {100 * len(scores)} points**")
    rows = ((game, each) for game, each in zip(games, scores, strict=True))
    st.table(
        [
            {
                "Image": game.label,
                "Model": model_title(game.model),
                "Your circle": percent(each.caught),
                "Best circle": percent(each.best),
                "Points": each.points,
            }
            for game, each in rows
        ]
    )
    with st.container(horizontal=True):
        st.button("Play again", type="primary", on_click=_start, args=(seed,), key="quiz_again")
        st.button("Other images", on_click=_start, args=(seed % MOST_SEED + 1,), key="quiz_other")


def _next() -> None:
    st.session_state.quiz_round = len(guesses())  # a second click goes no further


def _start(seed: int) -> None:
    st.session_state.quiz_seed, st.session_state.quiz_round, st.session_state.quiz_guesses = seed, 0, []
    st.query_params["quiz"] = str(seed)


main()
