"""Requests and answers of the HTTP API, as pydantic models: for the service and for its clients."""

from __future__ import annotations

import datetime
import json
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from app.problems import Documented, RejectedImage

Verdict = Literal["clear", "mixed", "confused", "not_measurable"]
MAX_LABEL_CHARACTERS = 64
MAX_TTL_S = 10 * 365 * 86400
MAX_METADATA_ENTRIES = 64
MAX_METADATA_BYTES = 16 * 1024


def normalized_label(label: str) -> str:
    """The label in Unicode NFC without surrounding white space.

    Raises: ValueError unless it has 1 to 64 characters, none of them a control character, and is not
        . or .. either, which clients take out of an address before they send it.
    """
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in label):
        raise ValueError("a label has no control characters")
    label = unicodedata.normalize("NFC", label).strip()
    if not 1 <= len(label) <= MAX_LABEL_CHARACTERS:
        raise ValueError(f"a label has 1 to {MAX_LABEL_CHARACTERS} characters")
    if label in (".", ".."):
        raise ValueError("a label is neither . nor ..")
    return label


Label = Annotated[
    str,
    AfterValidator(normalized_label),
    Field(json_schema_extra={"minLength": 1, "maxLength": MAX_LABEL_CHARACTERS}),
]
ExampleId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")]


def _few_entries(metadata: Any) -> Any:
    """Counted before each entry is looked at: millions of errors would take the memory of all."""
    if isinstance(metadata, dict) and len(metadata) > MAX_METADATA_ENTRIES:
        raise ValueError(f"metadata has at most {MAX_METADATA_ENTRIES} entries")
    return metadata


def _small_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    # Raises ValueError for numbers and characters that JSON cannot hold.
    if len(json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode()) > MAX_METADATA_BYTES:
        raise ValueError(f"metadata takes at most {MAX_METADATA_BYTES} bytes as JSON")
    return metadata


Metadata = Annotated[
    dict[str, str | int | float | bool | None],
    BeforeValidator(_few_entries),
    AfterValidator(_small_metadata),
]


class NewSession(Documented):
    """What a session may be created with."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, max_length=200)
    ttl_s: float | None = Field(None, gt=0, le=MAX_TTL_S, allow_inf_nan=False)
    """Seconds until the session is deleted; without it, never"""
    metadata: Metadata = Field(default_factory=dict)


class ClassCount(Documented):
    label: str
    examples: int


class Session(Documented):
    id: str
    name: str | None
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    revision: int
    """Raised by every change of the examples"""
    weights_sha256: str
    metadata: dict[str, Any]
    classes: list[ClassCount]


class SessionPage(Documented):
    sessions: list[Session]
    next_cursor: str | None


class Class(Documented):
    label: str
    examples: int
    example_ids: list[str]


class Box(Documented):
    """Pixels of the image as it is seen upright."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


class AddedExample(Documented):
    index: int
    example_id: str
    label: str
    box: Box


class Added(Documented):
    session: Session
    added: list[AddedExample]
    rejected: list[RejectedImage]


class Parts(Documented):
    """Scores of the parts. A checkpoint may add parts, such as `cosine`, `votes` and `geometry`."""

    model_config = ConfigDict(extra="allow")

    face: float
    eyes: float
    lips: float
    prototype: float


class ClassScore(Documented):
    label: str
    score: float = Field(ge=0, le=1)
    """A relation score, not a probability"""
    parts: Parts
    nearest_example_id: str


class Regions(Documented):
    """Corners of the rectangles that the patches show, turned with the head; pixels of the upright image."""

    face: list[tuple[float, float]]
    eyes: list[tuple[float, float]]
    lips: list[tuple[float, float]]


class Face(Documented):
    box: Box
    regions: Regions | None = None
    """Only where it was asked for"""
    predicted: str | None
    """The best class, or null where none reaches unknown_below"""
    scores: list[ClassScore]
    """Best first"""
    margin: float | None
    """Best score less the next; null with one class"""


class ItemError(Documented):
    code: str
    detail: str


class Result(Documented):
    index: int
    filename: str | None
    faces: list[Face]
    error: ItemError | None = None
    """Only where the image could not be read"""


class StreamResult(Result):
    """The answer to one frame of a stream; `index` counts the frames that came."""

    unknown_below: float | None
    """The threshold that was applied; null if the request sets none and no class was there to compare with"""
    dropped: int
    """Frames since the last answered one that were passed over, because newer ones had come"""
    latency_ms: float
    """From the frame's arrival to its answer"""


class ModelId(Documented):
    weights_sha256: str


class Results(Documented):
    results: list[Result]
    model: ModelId
    unknown_below: float
    """The threshold that was applied: the request's own, or the one computed for the support set"""
    timings_ms: dict[str, float]


class ConfusedClass(Documented):
    label: str
    examples: int
    """How many of the class's examples are taken for this one"""


class ConfusingExample(Documented):
    example_id: str
    predicted: str
    margin: float
    """Score of its own class less that of the one it is taken for: below 0"""


class ClassQuality(Documented):
    label: str
    examples: int
    told_right: int | None
    """How many examples the others tell right; null where that cannot be measured"""
    verdict: Verdict
    """clear from 80 % told right, mixed from 50 %, else confused"""
    detail: str
    """The verdict as a sentence"""
    confused_with: list[ConfusedClass]
    """Most often first"""
    confusing_examples: list[ConfusingExample]
    """Those told wrong, the worst first"""


class Quality(Documented):
    """Leave-one-out confusion of a support set: each example is classified by all the others."""

    revision: int
    """Of the session that was looked at"""
    accuracy: float | None
    """Share of the measured examples that are told right; null where none could be measured"""
    unknown_below: float | None
    """The threshold computed for the session; null if it has no classes"""
    labels: list[str]
    confusion: list[list[int]]
    """Rows: the example's class. Columns: what it is taken for"""
    classes: list[ClassQuality]


class Model(Documented):
    encoder: str
    patch_layout: str
    """Which regions of a face the patches show"""
    patch_size: int
    """Side of a patch in pixels"""
    part_weights: dict[str, float]
    weights_sha256: str
    device: str
    trained_on: str
    evaluation: dict[str, Any]


class SamplesOfClass(Documented):
    label: str
    urls: list[str]


class Samples(Documented):
    classes: list[SamplesOfClass]


class Status(Documented):
    status: str
