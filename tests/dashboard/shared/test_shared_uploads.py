"""Links that carry an uploaded image: kept for a day, by its digest, and nothing else can be read."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dashboard.shared import shared_uploads
from swin_core.zoo import load as zoo
from tests.dashboard.test_carried import photo
from tests.fixtures.pages import bundle, empty_caches, opened, run, texts

__all__ = ["bundle"]


@pytest.fixture(autouse=True)
def fresh(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "ASSETS", bundle)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    empty_caches(monkeypatch)


def test_a_link_opens_an_upload_in_another_session_for_a_day() -> None:
    app = opened(model="first")
    app.file_uploader[0].upload("mine.png", photo())
    run(app)
    app.button(key="share_uploads").click()
    run(app)
    digest = app.query_params["shared"]
    assert "mine.png" in texts(opened(model="first", shared=digest))
    file = shared_uploads.folder() / str(digest)
    assert file.read_bytes() == photo()
    assert (file.parent.stat().st_mode & 0o077) == 0
    old = time.time() - shared_uploads.KEPT_SECONDS - 10
    os.utime(file, (old, old))
    late = opened(model="first", shared=digest)
    assert "no longer kept" in late.warning[0].value
    assert "mine.png" not in texts(late)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "0" * 63, "\0"])
def test_what_is_no_digest_reads_nothing(name: str) -> None:
    app = opened(model="first", shared=name)
    assert "no longer kept" in app.warning[0].value
    assert not app.session_state["kept_uploads"]
