"""Tests of the demo's API: its contract, the documented code, concurrency and input limits."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio_client
import httpx
import numpy as np
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import swin_core
from dashboard.demo.gate import INVALID_REQUEST
from swin_core.attribution.defaults import default_method
from tests.fixtures.demo import HOSTILE, OURS, ROOT, Started, with_random_models

ROSE = ROOT / "assets" / "samples" / "rose.jpg"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    yield from with_random_models(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def client(demo: Started) -> gradio_client.Client:
    return demo.client()


def explained(client: gradio_client.Client, picture: Path = ROSE, **named: Any) -> dict[str, Any]:
    numbers, _ = client.predict(handle_file(str(picture)), api_name="/explain", **named)
    return dict(numbers)


def refused(client: gradio_client.Client, **named: Any) -> str:
    """The message of a refused request."""
    with pytest.raises(AppError) as error:
        client.predict(**{"picture": handle_file(str(ROSE)), **named}, api_name="/explain")
    line = str(error.value)
    assert len(line.splitlines()) == 1
    assert "Traceback" not in line
    return line


def test_api_names_and_order_do_not_change(client: gradio_client.Client) -> None:
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/explain", "/models"}
    explain = endpoints["/explain"]
    names = ["picture", "models", "target", "method", "strokes", "fill", "keep"]
    assert [one["parameter_name"] for one in explain["parameters"]] == names
    assert [one["parameter_has_default"] for one in explain["parameters"]] == [False, *[True] * 6]
    assert len(explain["returns"]) == 2
    assert not client.view_api(return_format="dict")["unnamed_endpoints"]


def test_models_have_one_line_each(client: gradio_client.Client) -> None:
    models = client.predict(api_name="/models")
    assert list(models) == [*OURS, *HOSTILE]
    assert {name: models[name] for name in OURS} == {name: swin_core.available()[name] for name in OURS}
    assert all(line and "\n" not in line for line in models.values())


@pytest.mark.parametrize(("target", "method"), [("", ""), ("tulips", "gradcam")])
def test_the_answer_equals_explain(client: gradio_client.Client, target: str, method: str) -> None:
    numbers = explained(client, models=list(OURS), target=target, method=method)
    assert json.loads(json.dumps(numbers)) == numbers
    for name in OURS:
        classifier = swin_core.load(name)
        found = swin_core.explain(classifier, swin_core.read_image(ROSE), target or None, method or None)
        order = np.argsort(-found.probabilities, kind="stable")[:5]
        assert numbers["predictions"][name] == [
            {"label": found.labels[k], "probability": pytest.approx(float(found.probabilities[k]), rel=1e-5)}
            for k in order
        ]
        assert numbers["figures"][name] == {
            "method": method or default_method(classifier),
            "layer": found.layers[0],
            "target": found.label(0),
            "probability": pytest.approx(float(found.probabilities[found.targets[0]]), rel=1e-5),
            "magnitude": pytest.approx(found.magnitude(0), rel=1e-4),
            "weights_hash": found.weights_hash,
        }


@pytest.mark.parametrize(("fill", "keep"), [("blur", False), ("mean", True)])
def test_the_answer_to_strokes_equals_what_if(client: gradio_client.Client, fill: str, keep: bool) -> None:
    strokes = "b200-500.400-600.600_r-100.100-300.200"
    numbers = explained(client, models=list(OURS), method="gradcam", strokes=strokes, fill=fill, keep=keep)
    for name in OURS:
        image = swin_core.read_image(ROSE)
        found = swin_core.what_if(swin_core.load(name), image, strokes, method="gradcam", fill=fill, keep=keep)
        label, probability = found.after.top_classes(1)[0]
        assert numbers["predictions"][name][0] == {"label": label, "probability": pytest.approx(probability, rel=1e-4)}
        figures, target = numbers["figures"][name], found.after.targets[0]
        assert figures["target"] == found.after.labels[target]
        assert figures["probability"] == pytest.approx(float(found.after.probabilities[target]), rel=1e-4)
        assert figures["before"] == pytest.approx(float(found.before.probabilities[target]), rel=1e-4)
        assert figures["change"] == pytest.approx(float(found.change[0]), abs=1e-3)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"strokes": "x9"}, "a region is written as strokes such as"),
        ({"strokes": 5}, "a stroke has its text in `strokes`"),
        (
            {"strokes": "b9-1.1", "fill": "magic"},
            "a region can be filled with blur, mean, noise, neighbours, not 'magic'",
        ),
        ({"strokes": "r-0.0-1000.1000", "keep": True}, "the mask leaves nothing to replace"),
    ],
)
def test_strokes_that_cannot_be_painted_are_refused(
    client: gradio_client.Client, named: dict[str, Any], words: str
) -> None:
    assert words in refused(client, **named)


def test_the_grid_has_no_metadata(client: gradio_client.Client, tmp_path: Path) -> None:
    """GPS data, a comment and the camera's name are not in the answer."""
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 29.6)
    exif.get_ifd(0x8825)[29] = "2026:11:24"
    with Image.open(ROSE) as picture:
        picture.save(tmp_path / "gps.jpg", exif=exif, comment=b"SecretComment")
    assert b"SecretCamera" in (tmp_path / "gps.jpg").read_bytes()
    numbers, file = client.predict(handle_file(str(tmp_path / "gps.jpg")), api_name="/explain")
    content = Path(file).read_bytes() + json.dumps(numbers).encode()
    assert not [mark for mark in (b"Secret", b"2026:11:24", b"Exif", b"eXIf") if mark in content]
    with Image.open(file) as grid:
        assert grid.format == "PNG"
        assert grid.width > grid.height > 300
        assert not grid.getexif()


def readme_blocks() -> list[str]:
    texts = [(ROOT / name).read_text() for name in ("README.md", "docs/demo.md")]
    blocks = [block for text in texts for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
    return [block for block in blocks if "gradio_client" in block]


@pytest.mark.parametrize("block", readme_blocks())
def test_the_documented_code_runs(
    block: str, demo: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photo.jpg").write_bytes(ROSE.read_bytes())
    monkeypatch.chdir(tmp_path)
    plain = gradio_client.Client
    # Only the port differs: on this machine another demo may have the usual one.
    asked = "http://127.0.0.1:7860"
    monkeypatch.setattr(gradio_client, "Client", lambda at: plain({asked: demo.address}[at], verbose=False))
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert list(names["numbers"]["predictions"]) == ["swin_micro_flowers", "swin_micro_cifar100"]
    if "painted" in names:
        assert names["painted"]["figures"]["swin_micro_flowers"]["before"] > 0
    assert Path(names["grid"]).read_bytes().startswith(b"\x89PNG")
    assert "roses" in capsys.readouterr().out


def test_concurrent_clients_get_the_same_answers(demo: Started, samples: dict[str, Path]) -> None:
    """Concurrent answers equal those given one by one, to the last bit."""
    classes = ("roses", "tulips", "daisy", "")
    pictures = (ROSE, samples["tulip"], samples["cat"])
    wishes = [
        {"picture": pictures[n % 3], "models": list(OURS[: 1 + n % 2]), "target": classes[n % 4], "method": "gradcam"}
        for n in range(12)
    ]
    # Each asks for an image of its own, so that nothing is found in the cache.
    folder = demo.temporary / "pictures"
    folder.mkdir()
    for number, wish in enumerate(wishes):
        file = folder / f"{number}.png"
        with Image.open(wish["picture"]) as picture:
            picture.resize((200 + number, 210)).save(file)
        wish["picture"] = file
    with ThreadPoolExecutor(12) as clients:
        together = list(clients.map(lambda wish: explained(demo.client(), **wish), wishes))
    for file in folder.iterdir():
        with Image.open(file) as picture:
            picture.load()
        picture.save(file, compress_level=0)  # other bytes, the same pixels: computed anew
    client = demo.client()
    assert together == [explained(client, **wish) for wish in wishes]


@pytest.mark.parametrize(
    "name",
    ["../swin_micro_flowers", "/etc/passwd", "swin_micro_flowers\0", "timm/resnet18", "nobody", "", "x" * 10_000],
)
def test_a_model_that_is_not_offered_is_refused(client: gradio_client.Client, name: str) -> None:
    line = refused(client, models=[name])
    assert "the demo offers swin_micro_flowers" in line
    assert len(line) < 300


@pytest.mark.parametrize("models", [[], 3, {"path": "/etc/passwd"}, [["swin_micro_flowers"]], [None]])
def test_models_must_be_a_list_of_names(client: gradio_client.Client, models: Any) -> None:
    assert "the demo offers" in refused(client, models=models)


def test_unknown_classes_and_methods_are_refused(client: gradio_client.Client) -> None:
    assert refused(client, target="<img src=x onerror=1>") == "this model has no class <img src=x onerror=1>."
    assert "no method 'magic'" in refused(client, method="magic")
    assert "must be a name" in refused(client, target={"path": "/etc/passwd"})
    assert "is not an image" in refused(client, picture=handle_file(str(ROOT / "README.md")))
    assert "there is no image" in refused(client, picture=None)


def test_a_model_without_the_class_has_an_error_of_its_own(client: gradio_client.Client) -> None:
    figures = explained(client, models=list(OURS), target="rocket")["figures"]
    assert figures["swin_micro_flowers"] == {"error": "this model has no class rocket."}
    assert figures["swin_micro_cifar100"]["target"] == "rocket"


def raw(demo: Started, picture: Any, inputs: int = 4) -> str:
    """The message that refuses a request which Gradio's client would not send."""
    data = [picture, list(OURS[:1]), "", ""][:inputs]
    call = httpx.post(f"{demo.address}gradio_api/call/explain", json={"data": data}, timeout=60)
    if call.status_code != 200:
        return call.text
    answer = httpx.get(f"{demo.address}gradio_api/call/explain/{call.json()['event_id']}", timeout=60).text
    assert "event: error" in answer, answer[:500]
    return answer


ADDRESSES = ["https://127.0.0.1/x.png", "http://[::1]/", "file:///etc/passwd", "data:,x"]
OUTSIDE = ["/etc/passwd", str(ROSE), "README.md", "../../etc/passwd", "/proc/self/environ", "a\0b", "/dev/zero"]
MARK = {"_type": "gradio.FileData"}


@pytest.mark.parametrize("meta", [MARK, None], ids=["marked", "bare"])
@pytest.mark.parametrize("path", [*OUTSIDE, *ADDRESSES])
def test_paths_and_urls_are_refused(demo: Started, path: str, meta: Any) -> None:
    answer = raw(demo, {"path": path} | ({"meta": meta} if meta else {}))
    assert "must be an upload" in answer or "Invalid request" in answer
    assert "root:" not in answer


def test_symlinks_and_deleted_uploads_are_refused(demo: Started) -> None:
    place = demo.folder / ("0" * 64)
    place.mkdir()
    (place / "link.jpg").symlink_to(ROSE)
    lines = [raw(demo, {"path": str(place / name), "meta": MARK}) for name in ("link.jpg", "gone.jpg")]
    assert "must be an upload" in lines[0] or "Invalid request" in lines[0]
    assert "deleted after an hour" in lines[1]


@pytest.mark.parametrize("sent", [3, "text", [], {}, {"url": "data:image/png;base64,AAAA", "path": None, "meta": MARK}])
def test_other_values_than_files_are_refused(demo: Started, sent: Any) -> None:
    assert "no image" in raw(demo, sent) or "Invalid request" in raw(demo, sent)


def event(demo: Started, name: str, data: list[Any], sent: Any) -> dict[str, Any]:
    """Send an event of the page's viewer as a browser does; return how it ended."""
    config = httpx.get(f"{demo.address}config", timeout=60).json()
    (fn,) = (each["id"] for each in config["dependencies"] if each["targets"][0][1] == name)
    body = {"fn_index": fn, "data": data, "event_data": sent, "session_hash": name}
    joined = httpx.post(f"{demo.address}gradio_api/queue/join", json=body, timeout=60)
    assert joined.status_code == 200, joined.text
    with httpx.stream("GET", f"{demo.address}gradio_api/queue/data?session_hash={name}", timeout=60) as answer:
        for line in answer.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line else {}
            if message.get("msg") == "process_completed":
                return dict(message)
    raise AssertionError("the event did not end")


@pytest.mark.parametrize("sent", [None, "x", [], {}, {"strokes": 5, "fill": "blur"}, {"strokes": "x", "fill": "blur"}])
def test_other_strokes_than_the_brush_sends_are_refused_in_one_line(demo: Started, sent: Any) -> None:
    ended = event(demo, "stroke", [None], sent)
    assert ended["success"] is False
    assert re.match("a (stroke|region) ", ended["output"]["error"])
    assert event(demo, "stroke", [None], {"strokes": "b9-1.1", "fill": "blur"})["success"] is True


@pytest.mark.parametrize("sent", [None, "x", {}])
def test_other_classes_than_the_viewer_sends_are_no_error(demo: Started, sent: Any) -> None:
    assert event(demo, "asked", [], sent)["output"]["data"] == [""]


def test_a_program_that_sends_the_first_inputs_only_is_answered(demo: Started) -> None:
    files = {"files": ("rose.jpg", ROSE.read_bytes())}
    (path,) = httpx.post(f"{demo.address}gradio_api/upload", files=files, timeout=60).json()
    sent = {"data": [{"path": path, "meta": MARK}, list(OURS[:1]), "", ""]}
    call = httpx.post(f"{demo.address}gradio_api/call/explain", json=sent, timeout=60).json()
    answer = httpx.get(f"{demo.address}gradio_api/call/explain/{call['event_id']}", timeout=60).text
    assert "event: complete" in answer, answer[:500]


def test_too_few_inputs_are_refused(demo: Started) -> None:
    assert "Traceback" not in raw(demo, None, inputs=1)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "README.md", str(ROSE), "dashboard/gradio_demo.py", "../log.txt", "https://example.org/"]
)
def test_no_other_file_is_served(demo: Started, path: str) -> None:
    answer = httpx.get(f"{demo.address}gradio_api/file={path}", timeout=60)
    assert answer.status_code in (403, 404)
    assert b"root:" not in answer.content


def weight(demo: Started) -> int:
    """Bytes in the demo's folder."""
    return sum(file.stat().st_size for file in demo.folder.rglob("*") if file.is_file())


def test_large_and_endless_uploads_are_refused(demo: Started) -> None:
    upload = f"{demo.address}gradio_api/upload"
    before = weight(demo)
    with contextlib.suppress(httpx.WriteError):  # the server may close before all is sent
        answer = httpx.post(upload, files={"files": ("a.png", bytes(22 * 2**20))}, timeout=60)
        assert answer.status_code == 413
    many = [("files", (f"{number}.png", bytes(2**20))) for number in range(30)]
    with contextlib.suppress(httpx.WriteError):
        assert httpx.post(upload, files=many, timeout=60).status_code == 413
    # What the other tests sent lies there for an hour.
    assert weight(demo) - before < 2**20


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/process_recording",
        "gradio_api/component_server",
        "monitoring/summary",
        "gradio_api/run/explain",
        "gradio_api/api/explain",
        "gradio_api/file/http://127.0.0.1/x.png",
        "gradio_api/file=http://127.0.0.1/x.png",
        "gradio_api/proxy=http://127.0.0.1/x.png",
    ],
)
def test_other_routes_of_gradio_are_closed(demo: Started, path: str) -> None:
    for answer in (
        httpx.post(f"{demo.address}{path}", json={}, timeout=60),
        httpx.get(demo.address + path, timeout=60),
    ):
        assert answer.status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("call/nothing", {"data": []}),
        ("call/v2/nothing", {}),
        ("queue/join", {"data": [], "fn_index": 999, "session_hash": "a"}),
    ],
)
def test_unknown_events_are_refused_in_one_line(demo: Started, path: str, body: dict[str, Any]) -> None:
    answer = httpx.post(f"{demo.address}gradio_api/{path}", json=body, timeout=60)
    assert (answer.status_code, answer.text) == (400, INVALID_REQUEST)
    assert "Traceback" not in demo.log.read_text()


def test_the_server_uses_the_loopback_interface_only(demo: Started) -> None:
    """There is no connection to Gradio's servers either."""
    sockets = demo.server.net_connections(kind="inet")
    assert {one.laddr.ip for one in sockets if one.status == "LISTEN"} == {"127.0.0.1"}
    assert {one.raddr.ip for one in sockets if one.raddr} <= {"127.0.0.1"}


def test_the_log_has_no_traceback(demo: Started) -> None:
    """The last test of this file: no request caused an unexpected error."""
    assert demo.server.is_running()
    assert "Traceback" not in demo.log.read_text()
