"""Requests and answers of the HTTP API, as pydantic models."""

from __future__ import annotations

import datetime
import json
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from app.engine import QueryOutcome, ScoredFace, Upload
from app.errors import Documented, RejectedImage
from app.sessions.store import Session as StoredSession
from model.checkpoint import Checkpoint
from model.faces import Box as FaceBox

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

    @classmethod
    def of(cls, session: StoredSession) -> Session:
        return cls(
            id=session.id,
            name=session.name,
            created_at=session.created_at,
            expires_at=session.expires_at,
            revision=session.revision,
            weights_sha256=session.weights_sha256,
            metadata=session.metadata,
            classes=[ClassCount(label=label, examples=count) for label, count in session.classes.items()],
        )


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

    @classmethod
    def of(cls, box: FaceBox) -> Box:
        return cls(
            x_min=round(box.x_min, 1),
            y_min=round(box.y_min, 1),
            x_max=round(box.x_max, 1),
            y_max=round(box.y_max, 1),
        )


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
    """Mean relation scores of the parts; a checkpoint may add parts of its own."""

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


class Face(Documented):
    box: Box
    predicted: str | None
    """The best class, or null where none reaches unknown_below"""
    scores: list[ClassScore]
    """Best first"""
    margin: float | None
    """Best score less the next; null with one class"""

    @classmethod
    def of(cls, face: ScoredFace, *, unknown_below: float) -> Face:
        scores = face.scores
        return cls(
            box=Box.of(face.box_px),
            predicted=scores[0].label if scores[0].score >= unknown_below else None,
            scores=[
                ClassScore(
                    label=score.label,
                    score=score.score,
                    parts=Parts(**score.parts),
                    nearest_example_id=score.nearest_example_id,
                )
                for score in scores
            ],
            margin=scores[0].score - scores[1].score if len(scores) > 1 else None,
        )


class ItemError(Documented):
    code: str
    detail: str


class Result(Documented):
    index: int
    filename: str | None
    faces: list[Face]
    error: ItemError | None = None
    """Only where the image could not be read"""


class ModelId(Documented):
    weights_sha256: str


class Results(Documented):
    results: list[Result]
    model: ModelId
    timings_ms: dict[str, float]

    @classmethod
    def of(
        cls,
        uploads: Sequence[Upload],
        outcomes: Sequence[QueryOutcome],
        *,
        checkpoint: Checkpoint,
        unknown_below: float | None,
        timings_ms: dict[str, float],
    ) -> Results:
        """unknown_below: None takes the checkpoint's."""
        threshold = checkpoint.config.unknown_below if unknown_below is None else unknown_below
        return cls(
            results=[
                _result(index, upload.filename, outcome, threshold)
                for index, (upload, outcome) in enumerate(zip(uploads, outcomes, strict=True))
            ],
            model=ModelId(weights_sha256=checkpoint.sha256),
            timings_ms=timings_ms,
        )


def _result(index: int, filename: str | None, outcome: QueryOutcome, unknown_below: float) -> Result:
    if isinstance(outcome, list):
        faces = [Face.of(face, unknown_below=unknown_below) for face in outcome]
        return Result(index=index, filename=filename, faces=faces)
    error = ItemError(code=outcome.code, detail=str(outcome))
    return Result(index=index, filename=filename, faces=[], error=error)


class Model(Documented):
    encoder: str
    patch_size: int
    """Pixels a side"""
    part_weights: dict[str, float]
    unknown_below: float
    weights_sha256: str
    device: str
    trained_on: str
    evaluation: dict[str, Any]


class Status(Documented):
    status: str
