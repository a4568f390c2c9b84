"""Links that carry an uploaded image: kept for a day, by its digest, and nothing else can be read."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.shared import shared_uploads
from dashboard.shared.model_names import MAX_IMAGES
from swin_core.zoo import load as zoo
from tests.dashboard.test_carried import photo
from tests.fixtures.pages import bundle, empty_caches, opened, run, texts

__all__ = ["bundle"]

DAY = shared_uploads.KEPT_SECONDS


@pytest.fixture(autouse=True)
def fresh(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "ASSETS", bundle)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    empty_caches(monkeypatch)


def keep(number: int = 0, age: float = 0.0) -> str:
    """Put an image into the folder, as a session that shared it has done; return its digest."""
    content = photo(number)
    digest = hashlib.sha256(content).hexdigest()
    shared_uploads.folder().mkdir(parents=True, exist_ok=True)
    for file, written in ((f"{digest}.name", f"mine {number}.png".encode()), (digest, content)):
        path = shared_uploads.folder() / file
        path.write_bytes(written)
        os.utime(path, (time.time() - age, time.time() - age))
    return digest


def uploads(app: AppTest) -> list[str]:
    return [upload.digest for upload in app.session_state["kept_uploads"]]


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
    old = time.time() - DAY - 10
    os.utime(file, (old, old))
    late = opened(model="first", shared=digest)
    assert "no longer kept" in late.warning[0].value
    assert "mine.png" not in texts(late)
    assert not file.exists()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "0" * 63, "\0"])
def test_what_is_no_digest_reads_nothing(name: str) -> None:
    app = opened(model="first", shared=name)
    assert "no longer kept" in app.warning[0].value
    assert not app.session_state["kept_uploads"]
    assert not shared_uploads.folder().exists()


def test_an_upload_of_a_link_is_removed_for_good() -> None:
    one, other = keep(0), keep(1)
    app = opened(model="first", shared=[one, other])
    app.button(key=f"remove_{one}").click()
    run(app)
    assert uploads(run(app)) == [other]
    assert app.query_params["shared"] == [other] or app.query_params["shared"] == other
    app.button(key=f"remove_{other}").click()
    run(app)
    assert uploads(run(app)) == []
    assert "shared" not in app.query_params


def test_a_link_keeps_its_other_images_when_one_is_gone() -> None:
    here, gone, unnamed = keep(0), keep(1, age=DAY + 10), keep(2)
    (shared_uploads.folder() / f"{unnamed}.name").unlink()  # as between the two writes of another session
    app = opened(model="first", shared=[gone, here, unnamed])
    assert "no longer kept" in app.warning[0].value
    assert uploads(app) == [here]
    assert app.query_params["shared"] in (here, [here])
    assert uploads(run(app)) == [here]


def test_images_of_a_link_that_do_not_fit_are_named_once_and_leave_it() -> None:
    digests = [keep(number) for number in range(MAX_IMAGES + 2)]
    app = opened(model="first", shared=digests)
    (warning,) = app.warning
    text = warning.value.replace("\\", "")
    assert all(f"mine {number}.png" in text for number in (MAX_IMAGES, MAX_IMAGES + 1))
    assert uploads(app) == digests[:MAX_IMAGES]
    assert app.query_params["shared"] == digests[:MAX_IMAGES]
    app.button(key="dismiss_uploads").click()
    run(app)
    assert not run(app).warning


def test_the_folder_keeps_the_newest_images_up_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = keep(0, age=100), keep(1, age=50)
    monkeypatch.setattr(shared_uploads, "MOST_BYTES", len(photo(1)) + 100)
    opened(model="first")
    kept = {file.name.removesuffix(".name") for file in shared_uploads.folder().iterdir()}
    assert kept == {new} != {old}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    app = opened(model="first")
    app.file_uploader[0].upload("mine.png", photo())
    run(app)
    app.button(key="share_uploads").click()
    run(app)
    assert "could not be put into the link" in app.warning[0].value
    assert "\n" not in app.warning[0].value
    assert "shared" not in app.query_params
