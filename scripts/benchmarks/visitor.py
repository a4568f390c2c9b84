"""A tab of a browser that visits the dashboard without drawing it: it opens links and uses the page's controls."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Delta_pb2 import Delta
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.typing import Origin

SCRIPT_SECONDS = 300.0
"""Longest time for one run of the page."""
_FIELDS = {
    "button": "trigger_value",
    "button_group": "string_array_value",
    "checkbox": "bool_value",
    "number_input": "double_value",
    "pagination": "int_value",
    "selectbox": "string_value",
    "slider": "double_array_value",
    "text_input": "string_value",
}
"""The field of a widget's state that holds its value, by the widget's kind."""
_FAULTS = ("These values in the URL were ignored", "failed unexpectedly")
"""What a page says if it did not do what was asked."""


class Visitor:
    """One session of the dashboard.

    Attributes:
        fault: what went wrong in the last run of the page, in one line; empty if nothing did.
        seconds: how long the last run took.
        grid: what the viewer of the Compare page was sent last: `swin_core.figures.viewer_payload`.
    """

    def __init__(self, address: str):
        self.fault = ""
        self.seconds = 0.0
        self.grid: dict[str, Any] = {}
        self._query = ""
        self._page = ""
        self._widgets: dict[str, tuple[str, str]] = {}  # id and kind by key
        self._offered: dict[str, list[str]] = {}
        self._fragment = ""
        origin = Origin(address)
        self._socket = connect(
            address.replace("http", "ws") + "/_stcore/stream", max_size=None, origin=origin, ping_interval=None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(WebSocketException, OSError):
            self._socket.close()

    @property
    def maps(self) -> set[str]:
        """The keys of the heat maps on the Compare page, which tell different maps apart."""
        cells = [cell for row in self.grid.get("rows", []) for cell in row["cells"]]
        return {cell["key"] for cell in cells if cell["map"]}

    @property
    def controls(self) -> set[str]:
        """Keys of the widgets that the page offers now."""
        return set(self._widgets)

    def offered(self, key: str) -> list[str]:
        """Return the options of a select or of a group of buttons, as the page shows them."""
        return self._offered[key]

    def open(self, page: str = "", query: Mapping[str, Sequence[str]] | None = None) -> None:
        """Open a link to a page, or go to it, with query parameters in place of those before."""
        self._query, self._page = urlencode(query or {}, doseq=True), page
        self._run(BackMsg())

    def choose(self, key: str, value: Any) -> None:
        """Set the widget of a key to a value, as its JavaScript would send it; of several options, choose one.

        Raises:
            KeyError: the page has no such widget.
        """
        request = BackMsg()
        identity, kind = self._widgets[key]
        state = request.rerun_script.widget_states.widgets.add(id=identity)
        if _FIELDS[kind].endswith("array_value"):
            getattr(state, _FIELDS[kind]).data.append(value)
        else:
            setattr(state, _FIELDS[kind], value)
        self._run(request)

    def press(self, key: str) -> None:
        """Press the button of a key."""
        self.choose(key, True)

    def refresh(self) -> None:
        """Run the part of the page that refreshes itself, if there is one; a browser does so every second."""
        if self._fragment:
            request = BackMsg()
            request.rerun_script.fragment_id, self._fragment = self._fragment, ""
            self._run(request)

    def _run(self, request: BackMsg) -> None:
        """Send a request for a run and read all messages up to its end."""
        start, self.fault = time.perf_counter(), ""
        request.rerun_script.query_string, request.rerun_script.page_name = self._query, self._page
        if not request.rerun_script.fragment_id:
            self._widgets = {}
        try:
            self._socket.send(request.SerializeToString())
            while True:
                message = ForwardMsg()
                content = self._socket.recv(timeout=start + SCRIPT_SECONDS - time.perf_counter())
                message.ParseFromString(content if isinstance(content, bytes) else content.encode())
                match message.WhichOneof("type"):
                    case "delta":
                        self._take(message.delta)
                    case "page_info_changed":
                        self._query = message.page_info_changed.query_string
                    case "auto_rerun":
                        self._fragment = message.auto_rerun.fragment_id
                    case "script_finished" if message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                        break
        except (OSError, TimeoutError, WebSocketException) as error:
            self.fault = f"{type(error).__name__}: {error}"
        self.seconds = time.perf_counter() - start

    def _take(self, delta: Delta) -> None:
        """Keep what an element tells."""
        kind = delta.new_element.WhichOneof("type")
        if not kind:
            return
        element = getattr(delta.new_element, kind)
        if kind in _FIELDS:
            # An id is "$$ID-", a digest without a hyphen, and the key.
            key = element.id.split("-", 2)[-1]
            self._widgets[key] = element.id, kind
            options = getattr(element, "options", [])
            self._offered[key] = [getattr(option, "content", option) for option in options]
        elif kind == "exception":
            self.fault = f"the page shows {element.type}: {element.message[:100]}"
        elif kind == "alert" and any(fault in element.body for fault in _FAULTS):
            self.fault = element.body[:200]
        elif kind == "bidi_component" and element.id.endswith("-grid"):
            self.grid = json.loads(element.json)["payload"]
            errors = [cell["error"] for row in self.grid["rows"] for cell in row["cells"]]
            self.fault = next((error for error in errors if _FAULTS[1] in error), self.fault)
