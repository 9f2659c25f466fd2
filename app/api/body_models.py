"""What bodies with images contain."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

from pydantic import ConfigDict, Field, PlainValidator, ValidationInfo, WithJsonSchema, model_validator

from app.api.errors import BodyTooLarge, InvalidLabel, InvalidRequest
from app.inference.engine import Upload
from csrn_client.field_rules import ExampleId, Label
from csrn_client.schemas import Documented


def _image(value: object, info: ValidationInfo) -> Upload:
    """Decode an image of a JSON body. Raises: ValueError; BodyTooLarge.

    Args: info, its context is the largest number of bytes of an image.
    """
    if isinstance(value, Upload):  # a file part of a form
        return value
    if not isinstance(value, str):
        raise ValueError("send each image as base64 text")
    max_bytes = int(info.context or 0)
    if len(value) > 1.5 * max_bytes + 100:  # The exact size is checked after base64 is decoded.
        raise BodyTooLarge(f"an image has at most {max_bytes} bytes")
    text = value
    if value[:5].lower() == "data:":
        head, comma, text = value.partition(",")
        if not (comma and head.lower().endswith(";base64")):
            raise ValueError("a data URL of an image begins with data:image/jpeg;base64, or the like")
    try:
        return Upload(filename=None, data=_decoded(text))
    except ValueError:
        raise ValueError("this is not valid base64") from None


def _decoded(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # Some encoders break lines.
        return binascii.a2b_base64(text.replace("\r", "").replace("\n", ""), strict_mode=True)


Image = Annotated[
    Upload,
    PlainValidator(_image),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
Images = Annotated[list[Image], Field(min_length=1)]


def _counts(images: Sequence[Upload], names: Sequence[str], name: str) -> str:
    """Such as `1 image, 2 labels`."""
    counts = {"image": len(images), name: len(names)}
    return ", ".join(f"{count} {thing}{'' if count == 1 else 's'}" for thing, count in counts.items())


class ScoreOptions(Documented):
    """Which scores of a face to return, and how to judge them."""

    model_config = ConfigDict(extra="forbid")

    unknown_below: float | None = Field(None, ge=0, le=1)
    """Predict no class (`"predicted": null`) if the best score is below this. By default the service computes
    this threshold for the support set"""
    top_k: int | None = Field(None, ge=1)
    """Return at most this number of scores for each face, the best first. The rest of the result stays the
    same"""
    regions: bool = False
    """Add the corners of the image regions that the face, eye and lip patches show. Left out by default"""


class ClassifyOptions(ScoreOptions):
    """How to classify."""

    all_faces: bool = False
    """Score every face of an image, the largest first. By default only the largest face is scored"""


class ImagesBody(Documented):
    """What all bodies with images have in common."""

    model_config = ConfigDict(extra="forbid")
    image_fields: ClassVar[tuple[str, ...]] = ("images",)

    images: Images
    """JPEG, PNG or WebP images"""

    @property
    def uploads(self) -> list[Upload]:
        """All images of the body, in the order of `image_fields`."""
        return [upload for field in self.image_fields for upload in getattr(self, field)]


class ReplaceBody(ImagesBody):
    """The images that replace the examples of a class."""


class ExamplesBody(ImagesBody):
    """Images of one class."""

    example_ids: list[ExampleId] | None = None
    """One id of your choice for each image, in the same order. By default the service makes them"""

    @model_validator(mode="after")
    def _one_id_for_each_image(self) -> Self:
        if self.example_ids is not None and len(self.example_ids) != len(self.images):
            counts = _counts(self.images, self.example_ids, "id")
            raise InvalidRequest(f"send one example id for each image: {counts}")
        return self


class SupportBody(ImagesBody):
    """Images of several classes."""

    labels: list[Label]
    """The class of each image, in the same order"""

    @model_validator(mode="after")
    def _one_label_for_each_image(self) -> Self:
        if len(self.labels) != len(self.images):
            counts = _counts(self.images, self.labels, "label")
            raise InvalidLabel(f"send one label for each image: {counts}")
        return self


class ClassifyBody(ClassifyOptions, ImagesBody):
    """Images to classify."""


class ClassifyStatelessBody(ClassifyOptions, ImagesBody):
    """A support set, and images to classify."""

    image_fields: ClassVar[tuple[str, ...]] = ("support", "images")

    support: Images
    """JPEG, PNG or WebP images, the examples of the classes"""
    labels: list[Label]
    """The class of each support image, in the same order"""

    @model_validator(mode="after")
    def _one_label_for_each_example(self) -> Self:
        if len(self.labels) != len(self.support):
            counts = _counts(self.support, self.labels, "label")
            raise InvalidLabel(f"send one label for each support image: {counts}")
        return self
