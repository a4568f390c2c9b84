"""The dashboard that the tests in a browser share: one server, not one for each file."""

from __future__ import annotations

from tests.fixtures.browser import dashboard

__all__ = ["dashboard"]
