"""Fixtures of the tests of figures."""

from __future__ import annotations

import pytest

from tests.fixtures.grids import Make, maker


@pytest.fixture
def make() -> Make:
    return maker()
