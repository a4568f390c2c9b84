"""What the tests of the pages share: one server for the tests in a browser, and the components that are installed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from streamlit.components.v2 import manifest_scanner

from tests.fixtures.browser import dashboard

__all__ = ["dashboard"]


@pytest.fixture(scope="session", autouse=True)
def _components_are_found_once() -> Iterator[None]:
    """Each `AppTest` reads the metadata of all installed packages, which takes as long as a page's script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests))
        yield
