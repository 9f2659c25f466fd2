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
    """A field or parameter that is not as documented."""

    field: str
    """Its name; `images.1` is the second item of `images`"""
    detail: str
    """What is wrong with it"""


class RejectedImage(Documented):
    """An image that could not be added."""

    index: int
    """The place of the image in the request, from 0"""
    filename: str | None
    """The name of its file part; null if the request has none"""
    code: str
    """Why, as a short string such as `no_face`"""
    detail: str
    """Why, as a sentence"""


class Problem(Documented):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    """Always about:blank: `code` says what kind of problem it is"""
    title: str
    """What the code means"""
    status: int
    """The HTTP status"""
    detail: str
    """What is wrong with this request"""
    code: str
    errors: list[FieldError] | None = None
    """The fields of the request that are not as documented"""
    rejected: list[RejectedImage] | None = None
    """Why none of the images could be added"""


class NewSession(Documented):
    """The settings of a new session."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: SessionName | None = None
    """A name of your choice, which need not be unique"""
    ttl_s: float | None = Field(None, gt=0, le=MAX_TTL_S, allow_inf_nan=False)
    """Seconds until the session is deleted. Without it the session is kept until it is deleted by request"""
    metadata: Metadata = Field(default_factory=dict)
    """Values of your own, which the service only keeps"""


class SessionChange(Documented):
    """New settings of a session. A setting that is left out does not change."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: SessionName | None = None
    """Null removes the name"""
    ttl_s: float | None = Field(None, gt=0, le=MAX_TTL_S, allow_inf_nan=False)
    """Seconds from now until the session is deleted. Null keeps it until it is deleted by request"""
    metadata: Metadata = Field(default_factory=dict)
    """Replaces all metadata of the session"""


class ClassChange(Documented):
    """Changes of a class. A member that is null or left out changes nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)

    label: Label | None = None
    """The new label. No other class of the session may have it"""
    enabled: bool | None = None
    """Whether the class is scored. A disabled class keeps its examples"""


class ClassCount(Documented):
    """A class of a session, without its examples."""

    label: str
    """Its name"""
    examples: int
    """Number of its examples"""
    enabled: bool
    """Whether the class is scored"""


class Session(Documented):
    """A session, with the number of examples of each class."""

    id: str
    """The id for all further calls"""
    name: str | None
    """The name that you gave it, or null"""
    created_at: datetime.datetime
    """When it was created"""
    expires_at: datetime.datetime | None
    """When it will be deleted; null if only by request"""
    revision: int
    """Increases with every change of the examples and classes"""
    weights_sha256: str
    """The weights that encoded its examples. The service needs the same ones to use it"""
    metadata: dict[str, Any]
    """The values that you gave it"""
    classes: list[ClassCount]
    """Its classes, the oldest first"""


class SessionPage(Documented):
    """A page of the list of sessions."""

    sessions: list[Session]
    """The oldest first"""
    next_cursor: str | None
    """Send it as `cursor` to get the next page; null on the last page"""


class Class(Documented):
    """A class with the ids of its examples."""

    label: str
    """Its name"""
    examples: int
    """Number of its examples"""
    enabled: bool
    """Whether the class is scored"""
    example_ids: list[str]
    """The oldest first"""


class Box(Documented):
    """A rectangle around a face, in pixels of the upright image."""

    x_min: float
    """Left side"""
    y_min: float
    """Upper side"""
    x_max: float
    """Right side"""
    y_max: float
    """Lower side"""


class AddedExample(Documented):
    """An image that is now an example."""

    index: int
    """The place of the image in the request, from 0"""
    example_id: str
    """The id that deletes this example"""
    label: str
    """Its class"""
    box: Box
    """The face that was found"""


class Added(Documented):
    """The images that were added, and those that were not."""

    session: Session
    """The session with the new examples"""
    added: list[AddedExample]
    """The images that are now examples"""
    rejected: list[RejectedImage]
    """The other images, with the reasons"""


class Parts(Documented):
    """Scores of the parts. A checkpoint can add parts, such as `cosine`, `votes` and `geometry`."""

    model_config = ConfigDict(extra="allow")

    face: float
    """Similarity of the whole face"""
    eyes: float
    """Similarity of the eyes"""
    lips: float
    """Similarity of the lips"""
    prototype: float
    """Similarity to the prototype of the class, made of all its examples"""


class ClassScore(Documented):
    """The score of a face for one class."""

    label: str
    """The class"""
    score: float = Field(ge=0, le=1)
    """How similar the face is to the class, from 0 to 1. A relation score, not a probability"""
    parts: Parts
    """The scores of the parts, of which `score` is the weighted mean"""
    nearest_example_id: str
    """The example of the class that is most similar to the face"""


class Regions(Documented):
    """The corners of the image regions that the patches show: rectangles, turned with the head, in pixels of
    the upright image."""

    face: list[tuple[float, float]]
    """The four corners of the face patch, each as x and y"""
    eyes: list[tuple[float, float]]
    """The corners of the eye patch"""
    lips: list[tuple[float, float]]
    """The corners of the lip patch"""


class Face(Documented):
    """A face of an image with its scores."""

    box: Box
    """Where the face is"""
    regions: Regions | None = None
    """Present only if the request asked for it"""
    predicted: str | None
    """The class with the best score, or null if no score reaches unknown_below"""
    scores: list[ClassScore]
    """Best first"""
    margin: float | None
    """The best score minus the second best. Null if there is only one class"""


class ItemError(Documented):
    """Why an image has no result."""

    code: str
    """Why, as a short string such as `image_unreadable`"""
    detail: str
    """Why, as a sentence"""


class Result(Documented):
    """The result of one image."""

    index: int
    """The place of the image in the request, from 0"""
    filename: str | None
    """The name of its file part; null if the request has none"""
    faces: list[Face]
    """The largest face, or all faces if the request asks for them. Empty if no face was found"""
    error: ItemError | None = None
    """Why the image has no result. Null or left out if it has one"""


class StreamResult(Result):
    """The answer to one frame of a stream. `index` is the number of the frame, from 0."""

    unknown_below: float | None
    """The threshold that was applied. Null if the request sets none and no class is enabled, or the frame
    failed"""
    dropped: int
    """How many frames since the last answer were skipped because newer ones had arrived"""
    latency_ms: float
    """Time from the arrival of the frame to its answer"""


class ModelId(Documented):
    """The weights that made the scores."""

    weights_sha256: str
    """The SHA-256 of the weights"""


class Results(Documented):
    """The result of each image, in the order of the request."""

    results: list[Result]
    """One for each image"""
    model: ModelId
    """The weights that made the scores"""
    unknown_below: float
    """The threshold that was applied: from the request, or computed for the support set"""
    timings_ms: dict[str, float]
    """Milliseconds spent in each stage, and in total"""


class ConfusedClass(Documented):
    """A class that examples of another class look like."""

    label: str
    """The class"""
    examples: int
    """How many examples of the class are classified as this one"""


class ConfusingExample(Documented):
    """An example that is classified wrongly by the others."""

    example_id: str
    """The id of the example"""
    predicted: str
    """The class that it is classified as"""
    margin: float
    """The score of its own class minus the score of the predicted class. It is negative"""


class ClassQuality(Documented):
    """How many examples of a class are classified correctly by all the other examples."""

    label: str
    """The class"""
    examples: int
    """Number of its examples"""
    correct: int | None
    """How many examples are classified correctly. Null if this cannot be measured"""
    verdict: Verdict
    """clear: at least 80 % of the examples are classified correctly; mixed: at least 50 %; confused: fewer;
    not_measurable: the class has one example, or is the only one"""
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
    """The threshold computed for the session. Null if no class is enabled"""
    labels: list[str]
    """The classes, in the order of the rows and columns of `confusion`"""
    confusion: list[list[int]]
    """Number of examples by their class (rows) and the class they are classified as (columns)"""
    classes: list[ClassQuality]
    """A verdict on each class"""


class Model(Documented):
    """The weights that the service uses, and the device that they run on."""

    encoder: str
    """The kind of the encoder, which turns a patch into features"""
    patch_layout: str
    """Which regions of a face the patches show"""
    patch_size: int
    """Side of a patch in pixels"""
    part_weights: dict[str, float]
    """The weight of each part in a score"""
    weights_sha256: str
    """The SHA-256 of the weights"""
    device: str
    """The device that the network runs on, such as cpu or cuda:0"""
    trained_on: str
    """The images that the weights were trained on"""
