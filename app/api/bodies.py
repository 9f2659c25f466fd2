"""Reads bodies with images: multipart forms, JSON with base64 text, and one image as the whole body."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import pydantic
from fastapi import Query, Request
from fastapi.exceptions import RequestValidationError

from app.api.body_models import ClassifyBody, ClassifyOptions, ImagesBody
from app.api.dependencies import Owner
from app.api.errors import BodyTooLarge, InvalidRequest, NoImages, NotReady, UnsupportedMediaType
from app.api.media_types import FORM, IMAGE_MEDIA_TYPES, JSON, media_type
from app.api.state import Service, ServiceState
from app.inference.engine import Upload

LIST_FIELDS = frozenset({"images", "support", "labels", "example_ids"})
"""The fields of which a form has a part for each item"""
MAX_FIELD_BYTES = 4096
"""The largest text field of a form: several times the size of the longest label"""
MAX_JSON_MARKS_PER_IMAGE = 100
"""The most commas and brackets of a JSON body for each image that it may have. A label may hold 64 commas.
Without this limit millions of empty lists, 3 bytes each, would fill the memory"""
MAX_ESCAPES, MAX_ESCAPES_PER_BYTE = 10_000, 1 / 32
"""The most backslashes of a JSON body. PHP writes one before each slash of base64, 1 of 64 characters,
and line ends take 2 of 78. Each takes time in which Python's lock is held"""
MAX_JSON_ON_LOOP_BYTES = 128 * 1024
"""The largest JSON body that is read on the event loop, which takes less than half a millisecond"""

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
    if media_type(request.headers) in IMAGE_MEDIA_TYPES:
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
        if media_type(request.headers) == FORM:
            return model.model_validate(await _read_form(request, service, model))
        if media_type(request.headers) == JSON:
            return await _read_json(request, service, model)
    except pydantic.ValidationError as error:
        # The input is left out, because it may be an image of megabytes.
        wrong = error.errors(include_input=False, include_url=False, include_context=False)
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in wrong]) from None
    others = f", or one image as {', '.join(IMAGE_MEDIA_TYPES)}" if and_images else ""
    raise UnsupportedMediaType(f"send {FORM} or {JSON}{others}")


async def _read_form(request: Request, service: ServiceState, model: type[ImagesBody]) -> dict[str, Any]:
    """The fields of a form as the model takes them.

    Raises: NoImages; InvalidRequest; NotReady; HTTPException.
    """
    settings = service.settings
    fields: dict[str, Any] = {}
    empty: set[str] = set()
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
                if name not in model.model_fields:
                    fields[name] = None  # The model refuses it.
                elif name in LIST_FIELDS:
                    fields.setdefault(name, []).append(value)
                elif name in fields.keys() | empty:
                    raise InvalidRequest(f"{name}: send it once")
                elif value == "":  # Web pages send the empty fields of a form too.
                    empty.add(name)
                else:
                    fields[name] = value
    except OSError as error:
        raise NotReady("a request body cannot be stored in a temporary file") from error
    return fields


async def _read_json(request: Request, service: ServiceState, model: type[B]) -> B:
    """Raises: BodyTooLarge; pydantic.ValidationError."""
    settings = service.settings
    data = await _read_bytes(request, max_marks=MAX_JSON_MARKS_PER_IMAGE * (settings.max_images + 1))
    read = functools.partial(model.model_validate_json, data, strict=True, context=settings.max_image_bytes)
    if len(data) <= MAX_JSON_ON_LOOP_BYTES:
        return read()
    outcome = await asyncio.to_thread(_returned, read)
    del data, read  # An error holds this frame, and so the body, until the garbage collector runs.
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _returned(read: Callable[[], B]) -> B | Exception:
    """What `read` returns or raises, without the frames in which it was raised: they hold the body too."""
    try:
        return read()
    except (pydantic.ValidationError, BodyTooLarge) as error:
        return error.with_traceback(None)


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
