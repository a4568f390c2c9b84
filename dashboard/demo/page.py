"""The demo's Gradio page and its API: components and events."""

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from dashboard.demo.answers import UPLOAD_BYTES, Answer, Demo, Painted, read_stroke
from dashboard.demo.gate import INVALID_REQUEST, Gate, refuse_urls
from dashboard.demo.theme import CSS, theme
from dashboard.demo.viewer import HEAD, notice, viewer_component
from dashboard.shared.cache import loaded_classifier
from dashboard.shared.connections import BodyDeadline
from dashboard.shared.formatting import unexpected
from dashboard.shared.model_names import model_title, sample_images, unique
from dashboard.shared.samples import first_models, first_sample, sample_groups
from swin_core.attribution.methods import METHODS
from swin_core.attribution.occlusion import FILLS
from swin_core.attribution.what_if import Edit
from swin_core.comparisons.compare import MODELS_AT_MOST
from swin_core.errors import SwinError
from swin_core.figures.files import encode

log = logging.getLogger(__name__)
T = TypeVar("T")

LOGO = Path(__file__).parent.parent / "logo.svg"
TOP1, BEST = "Top-1 class of each model", "Best for each model"
QUEUE_LENGTH = 256
"""Requests that Gradio hands on at once; they wait for their visitor's turn in `Turns`, which takes fewer."""
UPLOAD_SECONDS, CLEANUP_SECONDS = 3600, 300
"""How long uploads are kept, and the interval at which old ones are deleted."""
QUEUE_SECONDS = 0.05
"""Interval at which Gradio's queue polls for requests: its own value on Windows. Elsewhere it polls every millisecond,
which costs an idle server several percent of a core and takes Python's lock from the thread that draws."""
SESSIONS_KEPT = 200
REQUEST_OVERHEAD = 2**20
"""Bytes of a request besides the image."""

FOOT = (
    '<p class="swin-foot">Uploads are deleted when you close the page. A heat map shows where the evidence for a class '
    'lies, not whether the prediction is right. <a href="?view=api">For programs</a></p>'
)

FIRST_INPUTS = 4
"""Inputs of `/explain` that every program sends; one that uses no client of Gradio may leave out those that follow."""

RAW: dict[str, Any] = {"preprocess": False}
"""Gradio's components would decode images and check names themselves; `Demo` does both."""


class _Blocks(gr.Blocks):
    """Gradio's page with a check of what clients send.

    Gradio documents no place for this: middleware cannot turn Gradio's refusals into one line, and the functions of
    events run after Gradio has fetched URLs.
    """

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *rest: Any, **named: Any) -> Any:
        """Check the inputs before Gradio searches them for files; report Gradio's refusals in one line."""
        try:
            refuse_urls(inputs)
            if len(inputs) >= FIRST_INPUTS:
                inputs = [*inputs, *(block.value for block in block_fn.inputs[len(inputs) :])]
            return await super().preprocess_data(block_fn, inputs, *rest, **named)
        except SwinError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except gr.Error:
            raise
        except Exception as error:  # such as a file that is no upload, too few inputs, a path with NUL
            log.info("Gradio refused a request: %s", error)
            raise gr.Error(INVALID_REQUEST, print_exception=False) from None


def _describe_error(error: Exception) -> str:
    """Return the message for a visitor; log an unexpected error."""
    if isinstance(error, SwinError):
        return str(error)
    log.error("an answer failed", exc_info=error)
    return unexpected(error)


def page(demo: Demo) -> gr.Blocks:
    """Build the page and the API of a demo, without starting the server."""

    async def ended(request: gr.Request) -> None:
        """Forget what belongs to a session whose page was closed."""
        session = request.session_hash or ""
        demo.turns.leave(session)
        demo.files.end(session)

    blocks = _Blocks(title="SwinLens", analytics_enabled=False, delete_cache=(CLEANUP_SECONDS, UPLOAD_SECONDS))
    with blocks:
        logo = "data:image/svg+xml," + quote(LOGO.read_text(encoding="utf-8"))
        gr.HTML(
            f'<div class="swin-title"><h1><img src="{logo}" alt="SwinLens"></h1>'
            "<p>What does each model look at in an image? Compare heat maps side by side.</p></div>"
        )
        _build_page(demo, blocks)
        gr.HTML(FOOT)
        _build_api(demo)
        blocks.unload(ended)
    blocks.queue(max_size=QUEUE_LENGTH, default_concurrency_limit=None)
    blocks._queue.sleep_when_free = QUEUE_SECONDS  # no parameter sets it
    return blocks


def launch(blocks: gr.Blocks, demo: Demo, auth: tuple[str, str] | None = None, hosts: Sequence[str] = ("*",)) -> str:
    """Start the server in the background and return the page's URL.

    It answers requests to the names `hosts` only, so that no other web page reaches it under a name of its own (DNS
    rebinding). It listens at the environment's `GRADIO_SERVER_NAME`, which hosts of demos set, else on 127.0.0.1.
    """
    _, address, _ = blocks.launch(
        share=False,
        auth=auth,
        quiet=True,
        prevent_thread_lock=True,
        inbrowser=False,
        max_file_size=UPLOAD_BYTES,
        allowed_paths=[],  # Gradio serves its own folder, which is the demo's, and nothing else
        state_session_capacity=SESSIONS_KEPT,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=CSS,
        head=HEAD,
        # Requests wait for their turn in `Turns`, not for a thread.
        max_threads=QUEUE_LENGTH,
        app_kwargs={
            "middleware": [
                Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
                Middleware(BodyDeadline),
                Middleware(
                    Gate,
                    upload_bytes=UPLOAD_BYTES + REQUEST_OVERHEAD,
                    files=demo.files,
                    turns=demo.turns,
                    frames="https://huggingface.co" if "SPACE_ID" in os.environ else "",
                ),
            ]
        },
    )
    return str(address)


def _build_page(demo: Demo, blocks: gr.Blocks) -> None:
    """Build the controls on the left, and the heat maps on the right."""
    known = sample_images()
    sample_files = {name: known[name] for names in sample_groups().values() for name in names}
    first = [name for name in first_models() if name in demo.models] or list(demo.models[:2])
    with gr.Row():
        with gr.Column(scale=1, min_width=290):
            image = gr.Image(
                str(sample_files[first_sample(first)]),
                label="Image",
                type="filepath",
                sources=["upload", "clipboard"],
                height=230,
                buttons=[],
            )
            examples = gr.Dataset(
                components=[image],
                samples=[[str(file)] for file in sample_files.values()],
                sample_labels=[name.replace("_", " ") for name in sample_files],
                label="Examples",
                type="index",
                samples_per_page=len(sample_files),
            )
            models = gr.Dropdown(
                [(model_title(name), name) for name in demo.models],
                value=first,
                multiselect=True,
                max_choices=MODELS_AT_MOST,
                label=f"Models, up to {MODELS_AT_MOST}",
            )
            target = gr.Dropdown([(TOP1, "")], value="", label="Class")
            method = gr.Dropdown(
                [(BEST, ""), *((method.title, name) for name, method in METHODS.items())], value="", label="Method"
            )
        with gr.Column(scale=3, min_width=320):
            message = gr.HTML(notice("Loading the models and explaining the first image ..."))
            maps = viewer_component()
    painted = gr.State()  # on the server: a visitor's strokes reach it through `_take_stroke` alone

    inputs, outputs = [image, models, target, method, painted], [message, maps, target]
    options: dict[str, Any] = {
        "trigger_mode": "always_last",
        "api_visibility": "private",
        "show_progress": "minimal",
        "show_progress_on": maps,
        **RAW,
    }
    update = _update_page(demo)
    # An image that is cleared triggers `input` with the old image, and `change` without it.
    changes = [blocks.load, image.change, models.input, target.input, method.input, painted.change]
    gr.on(changes, update, inputs, outputs, **options)
    # An event of its own, since Gradio repeats the first event's data where `always_last` joins several.
    stroke = {"trigger_mode": "multiple", "api_visibility": "private", "show_progress": "hidden", **RAW}
    maps.stroke(_take_stroke, image, painted, **stroke)
    asked = maps.asked(_asked_class, None, target, api_visibility="private", show_progress="hidden")
    asked.then(update, inputs, outputs, **options)
    files = [str(file) for file in sample_files.values()]
    examples.click(lambda number: files[number], examples, image, api_visibility="private", show_progress="hidden")


async def _take_turn(demo: Demo, request: gr.Request, upload: object, work: Callable[[], T]) -> T:
    """Run `work` on a visitor's upload when it is the visitor's turn.

    Raises:
        SwinError: of `work`, or the demo is busy.
    """
    session = request.session_hash or ""
    demo.files.use(upload.get("path") if isinstance(upload, dict) else None, session)
    return await demo.turns.run(request.client.host, session, work)


def _update_page(demo: Demo) -> Callable[..., Awaitable[tuple[Any, ...]]]:
    """Return the function from the page's controls to what it shows; it shows errors in place of heat maps."""

    def draw(image: object, models: object, target: object, method: object, painted: Painted | None) -> tuple[Any, ...]:
        answer = demo.answer(image, models, target, method, painted)
        return gr.HTML(visible=False), answer.payload(), _class_dropdown(answer)

    async def update(request: gr.Request, image: object, *choices: Any) -> tuple[Any, ...]:
        try:
            return await _take_turn(demo, request, image, lambda: draw(image, *choices))
        except Exception as error:
            return gr.HTML(notice(_describe_error(error)), visible=True), None, gr.skip()

    return update


def _asked_class(event: gr.EventData) -> str:
    """Return the class that was clicked under a heat map; one that no model knows is refused when it is explained."""
    return str(_event_data(event).get("label", ""))


async def _take_stroke(event: gr.EventData, image: object) -> Painted:
    """Return what was painted on the image; its change draws the answer, in the visitor's turn."""
    try:
        return read_stroke(image, _event_data(event))
    except SwinError as error:
        raise gr.Error(str(error), print_exception=False) from None


def _event_data(event: gr.EventData) -> dict[str, Any]:
    """Return what the browser sent with an event; empty if that is no object."""
    return event._data if isinstance(event._data, dict) else {}


def _class_dropdown(answer: Answer) -> Any:
    """Return the choice of all classes that a model knows; the chosen class stays, even if no model knows it."""
    classifiers = [loaded_classifier(name) for name in answer.models]
    labels = unique(classifier.labels for classifier in classifiers if classifier is not None)
    return gr.Dropdown(choices=[(TOP1, ""), *((label, label) for label in labels)])


def _build_api(demo: Demo) -> None:
    """Build the API's two endpoints. Names, order and results of `/explain` and `/models` do not change; new parameters
    follow the others and have a default.
    """
    with gr.Group(visible=False):
        picture = gr.File(label="picture")
        models = gr.Dropdown(list(demo.models), value=list(demo.models[:2]), multiselect=True, label="models")
        target = gr.Textbox(value="", label="target")
        method = gr.Dropdown(["", *METHODS], value="", label="method")
        strokes = gr.Textbox(value="", label="strokes")
        fill = gr.Dropdown(list(FILLS), value=Edit.fill, label="fill")
        keep = gr.Checkbox(value=Edit.keep, label="keep")
        numbers, grid, descriptions = gr.JSON(label="numbers"), gr.File(label="grid"), gr.JSON(label="models")
        explain_button, models_button = gr.Button(), gr.Button()

    # Gradio makes the names of these parameters those of the API.
    async def explain(
        request: gr.Request,
        picture: object,
        models: object,
        target: object,
        method: object,
        strokes: object,
        fill: object,
        keep: object,
    ) -> tuple[dict[str, Any], str]:
        def answer_file() -> tuple[dict[str, Any], str]:
            painted = read_stroke(picture, {"strokes": strokes or "", "fill": fill or Edit.fill, "keep": keep})
            answer = demo.answer(picture, models, target, method, painted)
            if answer.fault:
                raise SwinError(answer.fault)
            file = demo.new_file("heat-maps.png")
            file.write_bytes(encode(answer.grid, "png"))
            demo.files.add(file, request.client.host, request.session_hash or "")
            return answer.numbers(), str(file)

        try:
            return await _take_turn(demo, request, picture, answer_file)
        except Exception as error:
            raise gr.Error(_describe_error(error), print_exception=False) from None

    explain_button.click(
        explain,
        [picture, models, target, method, strokes, fill, keep],
        [numbers, grid],
        api_name="explain",
        api_description=(
            "Heat maps of one image. `picture`: a file. `models`: 1 to 4 names from /models. `target`: a class name, "
            "or empty for each model's top-1 class. `method`: a name, or empty for the method measured best for each "
            "model. `strokes`: a painted region as a link of the dashboard holds it, such as b150-400.300; it is "
            "replaced before the models see the image. `fill`: blur, mean, noise or neighbours. `keep`: keep it only. "
            "Returns the likeliest classes and the numbers of each heat map by model, and the grid as a PNG."
        ),
        **RAW,
    )
    models_button.click(
        lambda: demo.descriptions,
        None,
        descriptions,
        api_name="models",
        api_description="The models that the demo offers, each with one line on it.",
    )
