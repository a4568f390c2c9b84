"""The demo's page and its API, as Gradio builds them: components and events, and no logic of their own."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
from starlette.middleware import Middleware

from dashboard.demo.answers import UPLOAD_BYTES, Answer, Demo
from dashboard.demo.gate import NOT_UNDERSTOOD, Gate, refuse_addresses
from dashboard.demo.look import CSS, theme
from dashboard.demo.markup import PICTURE, heat_maps, notice, slides
from dashboard.shared.cache import loaded_classifier
from dashboard.shared.model_names import sample_images, unique
from swin_core.attribution.methods import METHODS
from swin_core.comparisons.compare import MODELS_AT_MOST
from swin_core.errors import SwinError
from swin_core.figures.files import encode

__all__ = ["launch", "page"]

log = logging.getLogger(__name__)

HERE = Path(__file__).parent.parent
FIRST_SAMPLE = "rose"
OWN_CHOICE, BEST = "Each model's own first choice", "Each model's best measured"
WAITING_AT_MOST = 64
AT_ONCE = 2
"""Answers that are worked on at once: one model is asked by one at a time, and another may be decoded meanwhile."""
SECONDS_KEPT, SECONDS_BETWEEN = 3600, 300
QUEUE_SECONDS = 0.05
"""Interval at which Gradio's queue polls for requests: its own value on Windows. Elsewhere it polls every millisecond,
which costs an idle server several percent of a core and takes Python's lock from the thread that draws."""
SESSIONS_KEPT = 200
ROOM_AROUND = 2**20
"""Bytes of a request beside the image."""

FOOT = (
    '<p class="swin-foot">Uploads are deleted after an hour. A heat map shows where the evidence for a class lies, not '
    'whether the prediction is right. <a href="?view=api">For programs</a></p>'
)

QUEUED: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": AT_ONCE}
"""For all events that ask a model."""
RAW: dict[str, Any] = {"preprocess": False}
"""Gradio's components would decode images and check names on their own; both is done by `Demo`."""


class _Blocks(gr.Blocks):
    """Gradio's page with a check of what clients send.

    Gradio has no documented place for it: middleware cannot turn Gradio's refusals into one line, and functions of
    events run after Gradio has fetched the addresses.
    """

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *rest: Any, **named: Any) -> Any:
        """Check what was sent before Gradio looks for files in it; what Gradio refuses is said in one line."""
        try:
            refuse_addresses(inputs)
            return await super().preprocess_data(block_fn, inputs, *rest, **named)
        except SwinError as error:
            raise _shown(error) from None
        except gr.Error:
            raise
        except Exception as error:  # of many kinds: a file that is no upload, too few inputs, a path with NUL
            log.info("Gradio refused a request: %s", error)
            raise gr.Error(NOT_UNDERSTOOD, print_exception=False) from None


def _shown(error: SwinError) -> gr.Error:
    return gr.Error(str(error), print_exception=False)


def _unexpected(error: Exception) -> str:
    return f"This failed unexpectedly ({type(error).__name__}); the server's log says more."


def page(demo: Demo) -> gr.Blocks:
    """The page and the API of a demo, not yet started."""
    blocks = _Blocks(title="SwinLens", analytics_enabled=False, delete_cache=(SECONDS_BETWEEN, SECONDS_KEPT))
    with blocks:
        _head()
        _page(demo, blocks)
        gr.HTML(FOOT)
        _api(demo)
    blocks.queue(max_size=WAITING_AT_MOST, default_concurrency_limit=AT_ONCE)
    blocks._queue.sleep_when_free = QUEUE_SECONDS  # no parameter sets it
    return blocks


def launch(blocks: gr.Blocks, auth: tuple[str, str] | None = None) -> str:
    """Start the server in the background.

    It listens where the environment's `GRADIO_SERVER_NAME` says, as hosts of demos set it, else on 127.0.0.1.

    Returns:
        The page's address.
    """
    _, address, _ = blocks.launch(
        share=False,
        auth=auth,
        quiet=True,
        prevent_thread_lock=True,
        inbrowser=False,
        max_file_size=UPLOAD_BYTES,
        # Gradio serves its own folder, which is the demo's; nothing else of this machine.
        allowed_paths=[],
        state_session_capacity=SESSIONS_KEPT,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=CSS,
        app_kwargs={"middleware": [Middleware(Gate, most_bytes=UPLOAD_BYTES + ROOM_AROUND)]},
    )
    return str(address)


def _head() -> None:
    logo = "data:image/svg+xml," + quote((HERE / "logo.svg").read_text(encoding="utf-8"))
    gr.HTML(
        f'<div class="swin-title"><h1><img src="{logo}" alt="SwinLens"></h1>'
        "<p>What does each model look at in an image? Heat maps side by side, for one class or for each one's own.</p>"
        "</div>"
    )


def _page(demo: Demo, blocks: gr.Blocks) -> None:
    """The controls on the left, the heat maps and the slider on the right."""
    known = sample_images()
    with gr.Row():
        with gr.Column(scale=1, min_width=290):
            picture = gr.Image(
                str(known[FIRST_SAMPLE]),
                label="Picture",
                type="filepath",
                sources=["upload", "clipboard"],
                height=230,
                buttons=[],
            )
            examples = gr.Dataset(
                components=[picture],
                samples=[[str(file)] for file in known.values()],
                sample_labels=[name.replace("_", " ") for name in known],
                label="Examples",
                type="index",
                samples_per_page=len(known),
            )
            models = gr.CheckboxGroup(
                list(demo.models), value=list(demo.models[:2]), label=f"Models, up to {MODELS_AT_MOST}"
            )
            target = gr.Dropdown([(OWN_CHOICE, "")], value="", label="Class")
            method = gr.Dropdown(
                [(BEST, ""), *((title, name) for name, title in METHODS.items())], value="", label="Method"
            )
        with gr.Column(scale=3, min_width=320):
            maps = gr.HTML(notice("Loading the models and explaining the first image ..."))
            with gr.Row():
                left = gr.Dropdown(_slide_choices(demo.models), value=None, label="Slide from", min_width=220)
                right = gr.Dropdown(_slide_choices(demo.models), value=None, label="to", min_width=220)
            slider = gr.ImageSlider(label="Slider", type="filepath", interactive=False, buttons=["fullscreen"])

    shown = [maps, slider, target, left, right]
    asked = [picture, models, target, method, left, right]
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal", "show_progress_on": maps}
    draw: dict[str, Any] = {"fn": _drawing(demo), "inputs": asked, "outputs": shown} | QUEUED | RAW | private
    # The page still sends the old image with the event that says that it was cleared; its change comes after.
    events = [picture.change, models.input, target.input, method.input, left.input, right.input]
    gr.on([blocks.load, *events], trigger_mode="always_last", **draw)
    examples.click(_example, examples, picture, api_visibility="private", show_progress="hidden", queue=False)


def _example(number: int) -> str:
    return str(list(sample_images().values())[number])


def _slide_choices(models: tuple[str, ...]) -> list[str]:
    return [*models, PICTURE]


def _drawing(demo: Demo) -> Callable[..., tuple[Any, ...]]:
    """From the page's controls to what it shows; what goes wrong is shown in its place."""

    def draw(
        picture: object, models: object, target: object, method: object, left: object, right: object
    ) -> tuple[Any, ...]:
        try:
            answer = demo.answer(picture, models, target, method)
        except SwinError as error:
            return notice(str(error)), None, gr.skip(), gr.skip(), gr.skip()
        except Exception as error:
            log.exception("an answer failed")
            return notice(_unexpected(error)), None, gr.skip(), gr.skip(), gr.skip()
        return heat_maps(answer), _slider(demo, answer, left, right), _classes(answer), *_sides(answer, left, right)

    return draw


def _slider(demo: Demo, answer: Answer, left: object, right: object) -> Any:
    pair = slides(answer, left, right)
    if pair is None:
        return None
    files = []
    for image in pair:
        files.append(str(demo.new_file("heat-map.jpg")))
        image.save(files[-1], quality=90)
    return tuple(files)


def _classes(answer: Answer) -> Any:
    """The classes that one of the models knows; a class stays chosen, also where no model knows it."""
    held = [loaded_classifier(name) for name in answer.models]
    labels = unique(model.labels for model in held if model is not None)
    return gr.Dropdown(choices=[(OWN_CHOICE, ""), *((label, label) for label in labels)])


def _sides(answer: Answer, left: object, right: object) -> list[Any]:
    choices = _slide_choices(answer.models)
    first = [answer.models[0], (answer.models[1:] or (PICTURE,))[0]]
    return [
        gr.Dropdown(choices=choices, value=side if side in choices else usual)
        for side, usual in zip((left, right), first, strict=True)
    ]


def _api(demo: Demo) -> None:
    """The two addresses for programs. Names, order and results of `/explain` and `/models` do not change."""
    with gr.Group(visible=False):
        picture = gr.File(label="picture")
        models = gr.Dropdown(list(demo.models), value=list(demo.models[:2]), multiselect=True, label="models")
        target = gr.Textbox(value="", label="target")
        method = gr.Dropdown(["", *METHODS], value="", label="method")
        numbers, drawn, names = gr.JSON(label="numbers"), gr.File(label="grid"), gr.JSON(label="models")
        asked, listed = gr.Button(), gr.Button()

    def explain(picture: object, models: object, target: object, method: object) -> tuple[dict[str, Any], str]:
        try:
            answer = demo.answer(picture, models, target, method)
            file = demo.new_file("heat-maps.png")
            file.write_bytes(encode(answer.grid, "png"))
        except SwinError as error:
            raise _shown(error) from None
        except Exception as error:
            log.exception("an answer failed")
            raise gr.Error(_unexpected(error), print_exception=False) from None
        return answer.numbers(), str(file)

    inputs = [picture, models, target, method]
    described = (
        "Heat maps of one image. `picture`: a file. `models`: names from /models, 1 to 4. `target`: a class's name, "
        "or empty for each model's own first choice. `method`: a name, or empty for each model's best measured. "
        "Returns the likeliest classes and the facts of each heat map by model, and the grid as a PNG file."
    )
    asked.click(explain, inputs, [numbers, drawn], api_name="explain", api_description=described, **QUEUED, **RAW)
    described = "The models that the demo offers: name and one line each."
    listed.click(lambda: demo.descriptions, None, names, api_name="models", api_description=described, queue=False)
