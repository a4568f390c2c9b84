"""Read the JSON of a report, which may be truncated, edited or malicious.

pydantic checks the type and range of each value before it is used. No value is opened as a path, and all sizes that
determine memory use are bounded.
"""

import base64
import json
import os
from pathlib import Path
from typing import Annotated, Any, NoReturn, Self

from PIL import Image
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from swin_core.attribution.methods import METHODS
from swin_core.attribution.overlay import CONTOURS_AT_MOST, Look
from swin_core.attribution.strokes import parse_strokes
from swin_core.attribution.what_if import Edit
from swin_core.errors import ConfigError, ImageError, ReportError
from swin_core.figures.report_json import BYTES_AT_MOST, FORMAT, PIXELS_AT_MOST, checksum
from swin_core.images.read import read_image

ROWS_AT_MOST, COLUMNS_AT_MOST, CLASSES_AT_MOST, LETTERS_AT_MOST = 1000, 32, 1_000_000, 10_000
SIDE_AT_MOST = 4096
"""Maximum side of a map."""

Text = Annotated[str, Field(max_length=LETTERS_AT_MOST)]
Number = Annotated[float, Field(gt=-1e308, lt=1e308)]
Index = Annotated[int, Field(ge=0, lt=CLASSES_AT_MOST)]
Indices = Annotated[list[Index], Field(min_length=1, max_length=ROWS_AT_MOST)]


class _Part(BaseModel):
    """A JSON object; values of another type are rejected, not converted."""

    model_config = ConfigDict(strict=True, frozen=True, arbitrary_types_allowed=True)


class SavedCall(_Part):
    """Arguments of the call that made an explanation."""

    layers: Annotated[list[Text], Field(min_length=1, max_length=64)]
    fused: Text
    targets: Indices
    against: Indices | None
    place: Annotated[list[Index], Field(min_length=2, max_length=2)]
    """The cell's target and layer in the result: indices into its targets and layers."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.against is not None and len(self.against) != len(self.targets):
            raise ValueError("the number of contrast classes is not the number of targets")
        if self.place[0] >= len(self.targets) or self.place[1] >= (1 if self.fused else len(self.layers)):
            raise ValueError("place is outside the targets and layers")
        return self


class SavedMeasures(_Part):
    """Measures of one map; None where a value was not finite."""

    srg: Number | None
    road: Number | None
    deletion: Number | None
    insertion: Number | None


class SavedTrust(_Part):
    """Measures of the map and of the baseline maps."""

    map: SavedMeasures
    random: SavedMeasures
    centred: SavedMeasures


class FailedCell(_Part):
    """A cell without a map."""

    error: Text


class SavedCell(_Part):
    """A cell with a map."""

    model: Text
    weights_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    method: Text
    call: SavedCall
    note: Text
    map: Annotated[
        list[Annotated[list[Number | None], Field(min_length=1, max_length=SIDE_AT_MOST)]],
        Field(min_length=1, max_length=SIDE_AT_MOST),
    ]
    """`(h, w)`; None for values that are not finite."""
    logits: Annotated[list[Number | None], Field(min_length=1, max_length=CLASSES_AT_MOST)]
    completeness: Number | None = None
    trust: SavedTrust | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method not in METHODS:
            raise ValueError(f"unknown method {self.method[:40]!r}")
        if len({len(line) for line in self.map}) != 1:
            raise ValueError("the rows of the map differ in length")
        return self


def _cell_kind(content: Any) -> str:
    return "failed" if isinstance(content, dict) and "error" in content else "map"


class SavedEdit(_Part):
    """What was replaced in a row's image; `Edit` and `parse_strokes` check the values."""

    strokes: Text
    fill: Text
    keep: bool

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            self.edit  # noqa: B018
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def edit(self) -> Edit:
        """The edit to apply to the image."""
        return Edit(parse_strokes(self.strokes), self.fill, self.keep)


class SavedRow(_Part):
    """A row of the report."""

    title: Text
    truth: Text
    picture: Index | None
    """Index into the report's images."""
    edit: SavedEdit | None = None
    """What was replaced in the image before it was explained."""
    cells: list[
        Annotated[Annotated[FailedCell, Tag("failed")] | Annotated[SavedCell, Tag("map")], Discriminator(_cell_kind)]
    ]


class SavedLook(_Part):
    """A `Look`, which checks the ranges."""

    colormap: Text
    opacity: Number
    threshold: Number
    scale: Text
    contours: Annotated[list[Number], Field(max_length=CONTOURS_AT_MOST)] = []
    wipe: Text = Look.wipe
    split: Number = Look.split
    image: bool = Look.image
    raw: bool = Look.raw


def _images(content: Any) -> list[Image.Image]:
    """Decode the images, with a limit on the total number of pixels."""
    if not isinstance(content, list) or len(content) > ROWS_AT_MOST:
        raise ValueError(f"not a list of up to {ROWS_AT_MOST} images")
    left = PIXELS_AT_MOST
    images = []
    for number, text in enumerate(content, 1):
        try:
            images.append(read_image(base64.b64decode(text, validate=True), BYTES_AT_MOST, left))
        except (ImageError, TypeError, ValueError) as error:
            raise ValueError(f"image {number} cannot be read ({error})") from error
        left -= images[-1].width * images[-1].height
    return images


class Report(_Part):
    """A checked report."""

    settings: SavedLook
    columns: Annotated[list[Text], Field(min_length=1, max_length=COLUMNS_AT_MOST)]
    rows: Annotated[list[SavedRow], Field(min_length=1, max_length=ROWS_AT_MOST)]
    pictures: Annotated[list[Image.Image], BeforeValidator(_images)]
    machine: dict[str, Any]
    versions: dict[str, Any]

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            self.look  # noqa: B018  a Look checks its ranges
        except ConfigError as error:
            raise ValueError(f"settings: {error}") from error
        for number, row in enumerate(self.rows, 1):
            if len(row.cells) != len(self.columns):
                raise ValueError(f"row {number} has {len(row.cells)} cells for {len(self.columns)} columns")
            if row.picture is not None and row.picture >= len(self.pictures):
                raise ValueError(f"row {number} names an image that is not in the report")
        return self

    @property
    def look(self) -> Look:
        """The look with which the grid was drawn."""
        return Look(**self.settings.model_dump())

    @property
    def made_with(self) -> dict[str, str]:
        """Machine and versions that the report was made with, by name."""
        return {name: str(value)[:200] for name, value in (self.machine | self.versions).items()}


def read_report(path: str | os.PathLike[str]) -> Report:
    """Read and check a report that `figures.files.save` wrote as JSON.

    Raises:
        ReportError: the file is missing, is not a report, has another format, is damaged or edited, or is too large.
    """
    path = Path(path)
    content = _content(path)
    try:
        parsed = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path.name} is not a report or is truncated: it is not JSON; export it again.") from error
    if not isinstance(parsed, dict) or parsed.get("program") != "SwinLens":
        raise ReportError(f"{path.name} is not a report of SwinLens; export one as JSON first.")
    form = parsed.get("format")
    if form != FORMAT or isinstance(form, bool):
        raise ReportError(f"{path.name} has another format than {FORMAT}, the one this version reads; export it again.")
    if parsed.get("sha256") != checksum(parsed):
        raise ReportError(f"{path.name} was changed after it was written: its checksum differs; export it again.")
    try:
        return Report.model_validate(parsed)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        location = ".".join(map(str, first["loc"])) or "the report"
        message = " ".join(first["msg"].split())[:200]
        raise ReportError(f"{path.name} is damaged: {location}: {message}; export it again.") from error


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ReportError(f"there is no file {path.name!r}: name a report that was exported as JSON.")
        with path.open("rb") as file:
            content = file.read(BYTES_AT_MOST + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with NUL
        raise ReportError(f"{path.name!r} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if len(content) > BYTES_AT_MOST:
        raise ReportError(f"{path.name} has more than {BYTES_AT_MOST // 2**20} MiB, more than any report has.")
    return content


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
