"""Bodies with images: multipart forms, JSON with base64 text, and one image as the whole body."""

from __future__ import annotations

import asyncio
import binascii
import functools
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, ClassVar, Self, TypeVar

import pydantic
from fastapi import Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ConfigDict, Field, PlainValidator, ValidationInfo, WithJsonSchema, model_validator

from app.api.dependencies import Owner
from app.api.errors import (
    BodyTooLarge,
    InvalidLabel,
    InvalidRequest,
    NoImages,
    NotReady,
    UnsupportedMediaType,
)
from app.api.state import Service, ServiceState
from app.inference.engine import Upload
from csrn_client.field_rules import ExampleId, Label
from csrn_client.schemas import Documented

FORM, JSON = "multipart/form-data", "application/json"
IMAGE_MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp")
LIST_FIELDS = frozenset({"images", "support", "labels", "example_ids"})
"""The fields of which a form has a part for each item"""
MAX_FIELD_BYTES = 4096
"""The largest text field of a form: several times the size of the longest label"""
MAX_JSON_MARKS_PER_IMAGE = 100
"""The most commas and brackets of a JSON body for each image that it may have. A label may hold 64 commas.
Without this limit millions of empty lists, 3 bytes each, would fill the memory"""
MAX_ESCAPES, MAX_ESCAPES_PER_BYTE = 10_000, 1 / 16
"""The most backslashes of a JSON body. PHP writes one before each slash of base64, 1 of 64 characters,
and line ends take 2 of 78. Reading millions of them would stop the event loop for half a second"""
MAX_JSON_ON_LOOP_BYTES = 128 * 1024
"""The largest JSON body that is read on the event loop, which takes less than half a millisecond"""


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
    head, comma, text = value.partition(",") if value.startswith("data:") else ("", "", value)
    if comma and not head.endswith(";base64"):
        raise ValueError("a data URL of an image begins with data:image/jpeg;base64, or the like")
    try:
        return Upload(filename=None, data=_decoded(text))
    except ValueError:
        raise ValueError("this is no base64 text") from None


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
        if self.example_ids and len(self.example_ids) != len(self.images):
            raise InvalidRequest(
                f"{len(self.images)} images need as many example_ids, not {len(self.example_ids)}"
            )
        return self


class SupportBody(ImagesBody):
    """Images of several classes."""

    labels: list[Label]
    """The class of each image, in the same order"""

    @model_validator(mode="after")
    def _one_label_for_each_image(self) -> Self:
        if len(self.labels) != len(self.images):
            raise InvalidLabel(f"{len(self.images)} images need as many labels, not {len(self.labels)}")
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
            raise InvalidLabel(
                f"{len(self.support)} support images need as many labels, not {len(self.labels)}"
            )
        return self


B = TypeVar("B", bound=ImagesBody)


def body_reader(model: type[B]) -> Callable[..., Coroutine[Any, Any, B]]:
    """A dependency: reads the form or JSON of a request as a model, and charges its images to its owner."""

    async def read(request: Request, service: Service, owner: Owner) -> B:
        return _charged(service, owner, await _read(request, service, model))

    return read


async def read_classify_body(
    request: Request, service: Service, owner: Owner, options: Annotated[ClassifyOptions, Query()]
) -> ClassifyBody:
    """A dependency: like body_reader, but also reads one image as the body, and options from the query.

    Raises: InvalidRequest if an option is both in the query and in the body.
    """
    if media_type(request) in IMAGE_MEDIA_TYPES:
        body = ClassifyBody(images=[Upload(filename=None, data=bytes(await _read_bytes(request)))])
    else:
        body = await _read(request, service, ClassifyBody, and_images=True)
    if options.model_fields_set:
        if twice := options.model_fields_set & body.model_fields_set:
            names = ", ".join(sorted(twice))
            raise InvalidRequest(f"{names}: set it in the query or in the body, not in both")
        body = body.model_copy(update=options.model_dump(exclude_unset=True))
    return _charged(service, owner, body)


def _charged(service: ServiceState, owner: str, body: B) -> B:
    """Raises: BodyTooLarge; CostTooHigh; RateLimited."""
    settings, uploads = service.settings, body.uploads
    if len(uploads) > settings.max_images:
        raise BodyTooLarge(f"a request has at most {settings.max_images} images")
    if any(len(upload.data) > settings.max_image_bytes for upload in uploads):
        raise BodyTooLarge(f"an image has at most {settings.max_image_bytes} bytes")
    service.rate_limit.charge_images(owner, len(uploads))
    return body


async def _read(request: Request, service: ServiceState, model: type[B], *, and_images: bool = False) -> B:
    """Raises: UnsupportedMediaType; BodyTooLarge; NoImages; InvalidRequest; RequestValidationError."""
    try:
        match media_type(request):
            case "multipart/form-data":
                return model.model_validate(await _read_form(request, service, model))
            case "application/json":
                return await _read_json(request, service, model)
    except pydantic.ValidationError as error:
        # The input is left out, because it may be an image of megabytes.
        wrong = error.errors(include_input=False, include_url=False, include_context=False)
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in wrong]) from None
    others = f", or one image as {', '.join(IMAGE_MEDIA_TYPES)}" if and_images else ""
    raise UnsupportedMediaType(f"send {FORM} or {JSON}{others}")


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read_form(request: Request, service: ServiceState, model: type[ImagesBody]) -> dict[str, Any]:
    """The fields of a form as the model takes them.

    Raises: NoImages; InvalidRequest; NotReady; HTTPException.
    """
    settings = service.settings
    fields: dict[str, Any] = {}
    try:
        # The block closes the temporary files of the form.
        async with request.form(
            max_files=settings.max_images,
            # A label and an example id for each image, and the options.
            max_fields=2 * settings.max_images + 8,
            max_part_size=MAX_FIELD_BYTES,
        ) as form:
            for name, part in form.multi_items():
                value: object = part
                if not isinstance(part, str):
                    value = Upload(filename=part.filename, data=await part.read(settings.max_image_bytes + 1))
                elif name in model.image_fields:
                    raise NoImages(f"{name}: send a file part (with curl: -F {name}=@file)")
                if name in LIST_FIELDS:
                    fields.setdefault(name, []).append(value)
                elif name in fields:
                    raise InvalidRequest(f"{name}: send it once")
                elif value != "":  # Web pages send the empty fields of a form too.
                    fields[name] = value
    except OSError as error:
        raise NotReady("a request body cannot be stored in a temporary file") from error
    return fields


async def _read_json(request: Request, service: ServiceState, model: type[B]) -> B:
    """Raises: BodyTooLarge; pydantic.ValidationError."""
    settings = service.settings
    data = await _read_bytes(request, max_marks=MAX_JSON_MARKS_PER_IMAGE * (settings.max_images + 1))
    read = functools.partial(model.model_validate_json, data, strict=True, context=settings.max_image_bytes)
    return read() if len(data) <= MAX_JSON_ON_LOOP_BYTES else await asyncio.to_thread(read)


async def _read_bytes(request: Request, *, max_marks: int | None = None) -> bytearray:
    """The body, which grows while it arrives: joining its parts at its end would stop the event loop.

    Raises: BodyTooLarge if it is JSON of too many commas and opening brackets, or of too many escapes.
    """
    data, marks, escapes = bytearray(), 0, 0
    async for part in request.stream():
        data += part
        if max_marks is not None:
            marks += sum(map(part.count, b",[{"))
            escapes += part.count(b"\\")
            if marks > max_marks or escapes > MAX_ESCAPES + len(data) * MAX_ESCAPES_PER_BYTE:
                raise BodyTooLarge("the JSON has too many members or escapes")
    return data
