"""The look in the link: what a link says is shown and exported, and what it says wrongly is named."""

from __future__ import annotations

import pytest

from swin_core.attribution.overlay import Look
from swin_core.figures.viewer_payload import look_payload
from tests.fixtures.pages import bundle, fresh, opened, shown

__all__ = ["bundle", "fresh"]

pytestmark = pytest.mark.usefixtures("fresh")


def test_a_link_holds_every_part_of_the_look() -> None:
    query = {"contours": "25,62.5", "wipe": "1", "wipe_at": "30", "photo": "false", "raw": "true", "opacity": "40"}
    app = opened(sample="tulip", model=["first", "second"], **query)
    look = Look(opacity=0.4, contours=(0.25, 0.625), wipe="1", split=0.3, image=False, raw=True)
    assert shown(app)["look"] == look_payload(look)
    assert app.session_state["look"].look == look  # what exports are drawn with
    assert not app.warning
    assert {name: app.query_params[name] for name in query} == query


@pytest.mark.parametrize(
    "query",
    [{"contours": "0"}, {"contours": "a"}, {"contours": "101"}, {"wipe": "left"}, {"wipe_at": "101"}, {"photo": "1"}],
)
def test_a_value_that_is_none_is_named(query: dict[str, str]) -> None:
    app = opened(sample="tulip", model="first", **query)
    ((name, value),) = query.items()
    (warning,) = (each.value for each in app.warning if "were ignored" in each.value)
    assert f"{name}={value} (possible: " in warning.replace("\\", "")
    assert shown(app)["look"] == look_payload(Look())
