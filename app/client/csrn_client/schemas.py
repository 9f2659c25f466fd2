"""The JSON objects of the HTTP API. The service and the client use the same models."""

from __future__ import annotations

import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from csrn_client.field_rules import MAX_TTL_S, Label, Metadata, SessionName

Verdict = Literal["clear", "mixed", "confused", "not_measurable"]


class Documented(BaseModel):
    """A model whose fields are described by the strings below them. /openapi.json shows the strings."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class FieldError(Documented):
    field: str
    detail: str


class RejectedImage(Documented):
    index: int
    filename: str | None
    code: str
    detail: str


class Problem(Documented):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError] | None = None
    """The fields of the request that are not as documented"""
    rejected: list[RejectedImage] | None = None
    """Why none of the images could be added"""


class NewSession(Documented):
    """The settings of a new session."""

    model_config = ConfigDict(extra="forbid")

    name: SessionName | None = None
    ttl_s: float | None = Field(None, gt=0, le=MAX_TTL_S, allow_inf_nan=False)
    """Seconds until the session is deleted. Without it the session is kept until it is deleted by request"""
    metadata: Metadata = Field(default_factory=dict)


class SessionChange(Documented):
    """New settings of a session. A setting that is left out does not change."""

    model_config = ConfigDict(extra="forbid")

    name: SessionName | None = None
    """Null removes the name"""
    ttl_s: float | None = Field(None, gt=0, le=MAX_TTL_S, allow_inf_nan=False)
    """Seconds from now until the session is deleted. Null keeps it until it is deleted by request"""
    metadata: Metadata = Field(default_factory=dict)
    """Replaces all metadata of the session"""


class ClassChange(Documented):
    """Changes of a class. A member that is null or left out changes nothing."""

    model_config = ConfigDict(extra="forbid")

    label: Label | None = None
    """The new label. No other class of the session may have it"""
    enabled: bool | None = None
    """Whether the class is scored. A disabled class keeps its examples"""


class ClassCount(Documented):
    label: str
    examples: int
    enabled: bool
    """Whether the class is scored"""


class Session(Documented):
    id: str
    name: str | None
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    revision: int
    """Increases with every change of the examples and classes"""
    weights_sha256: str
    metadata: dict[str, Any]
    classes: list[ClassCount]


class SessionPage(Documented):
    sessions: list[Session]
    next_cursor: str | None


class Class(Documented):
    label: str
    examples: int
    enabled: bool
    """Whether the class is scored"""
    example_ids: list[str]
    """Oldest first"""


class Box(Documented):
    """Pixels of the upright image."""

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
    """Scores of the parts. A checkpoint can add parts, such as `cosine`, `votes` and `geometry`."""

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
    """The corners of the image regions that the patches show: rectangles, turned with the head, in pixels of
    the upright image."""

    face: list[tuple[float, float]]
    eyes: list[tuple[float, float]]
    lips: list[tuple[float, float]]


class Face(Documented):
    box: Box
    regions: Regions | None = None
    """Present only if the request asked for it"""
    predicted: str | None
    """The class with the best score, or null if no score reaches unknown_below"""
    scores: list[ClassScore]
    """Best first"""
    margin: float | None
    """The best score minus the second best. Null if there is only one class"""


class ItemError(Documented):
    code: str
    detail: str


class Result(Documented):
    index: int
    filename: str | None
    faces: list[Face]
    error: ItemError | None = None
    """Present only if the image could not be read"""


class StreamResult(Result):
    """The answer to one frame of a stream. `index` is the number of the frame, from 0."""

    unknown_below: float | None
    """The threshold that was applied. Null if the request sets none and the session has no class"""
    dropped: int
    """How many frames since the last answer were skipped because newer ones had arrived"""
    latency_ms: float
    """Time from the arrival of the frame to its answer"""


class ModelId(Documented):
    weights_sha256: str


class Results(Documented):
    results: list[Result]
    model: ModelId
    unknown_below: float
    """The threshold that was applied: from the request, or computed for the support set"""
    timings_ms: dict[str, float]


class ConfusedClass(Documented):
    label: str
    examples: int
    """How many examples of the class are classified as this one"""


class ConfusingExample(Documented):
    example_id: str
    predicted: str
    margin: float
    """The score of its own class minus the score of the predicted class. It is negative"""


class ClassQuality(Documented):
    label: str
    examples: int
    correct: int | None
    """How many examples are classified correctly. Null if this cannot be measured"""
    verdict: Verdict
    """clear: at least 80 % of the examples are classified correctly; mixed: at least 50 %; confused: fewer"""
    detail: str
    """The verdict as a sentence"""
    confused_with: list[ConfusedClass]
    """The most frequent first"""
    confusing_examples: list[ConfusingExample]
    """The examples that are classified wrongly, the worst first"""


class Quality(Documented):
    """Leave-one-out confusion of a support set: each example is classified by all the others."""

    revision: int
    """The revision of the session that was examined"""
    accuracy: float | None
    """The share of the measured examples that are classified correctly. Null if none could be measured"""
    unknown_below: float | None
    """The threshold computed for the session. Null if it has no classes"""
    labels: list[str]
    confusion: list[list[int]]
    """Number of examples by their class (rows) and the class they are classified as (columns)"""
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
