"""What several routes need: the owner, the images of a form, and checks of a request and a session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, File, Form, Path, Request, UploadFile
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from app.api.errors import BodyTooLarge, UnsupportedMediaType
from app.api.state import ServiceState
from app.inference.engine import Upload
from app.sessions.errors import ModelChanged
from app.sessions.store import SessionVersion
from csrn_client.field_rules import Label
from csrn_client.schemas import Session

# All dependencies are async: FastAPI runs others on another thread, and each change of threads takes time.


class _KeyOwner(SecurityBase):
    """Describes the key in /openapi.json, and returns its owner, which app.api.permissions has found."""

    model = HTTPBearer(description="Needed if the service has keys (CSRN_API_KEYS)")
    scheme_name = "HTTPBearer"

    async def __call__(self, request: Request) -> str:
        owner: str = request.state.owner
        return owner


Owner = Annotated[str, Depends(_KeyOwner())]
"""The name of the request's key"""
Images = Annotated[list[UploadFile], File(description="JPEG, PNG or WebP images, one file part each")]
Labels = Annotated[list[Label], Form(description="One label for each image, in the same order")]
LabelPath = Annotated[Label, Path(description="The label of the class, percent-encoded")]


async def require_multipart(request: Request) -> None:
    """Raises: UnsupportedMediaType unless the body is a multipart form."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise UnsupportedMediaType("send multipart/form-data")


async def require_json(request: Request) -> None:
    """Raises: UnsupportedMediaType unless the body is JSON or empty."""
    content_type = request.headers.get("content-type", "application/json")
    if content_type.split(";")[0].strip() != "application/json":
        raise UnsupportedMediaType("send application/json, or no body")


async def read_images(service: ServiceState, owner: str, files: Sequence[UploadFile]) -> list[Upload]:
    """Read the images of a request and charge them to the owner's rate.

    Raises: BodyTooLarge; CostTooHigh; RateLimited.
    """
    settings = service.settings
    if len(files) > settings.max_images:
        raise BodyTooLarge(f"a request has at most {settings.max_images} images")
    service.rate_limit.charge_images(owner, len(files))
    uploads = []
    for file in files:
        data = await file.read(settings.max_image_bytes + 1)
        if len(data) > settings.max_image_bytes:
            raise BodyTooLarge(f"an image has at most {settings.max_image_bytes} bytes")
        uploads.append(Upload(filename=file.filename, data=data))
    return uploads


def require_same_weights(service: ServiceState, session: Session | SessionVersion) -> None:
    """Raises: ModelChanged if the examples were encoded with other weights than the service uses."""
    if session.weights_sha256 != service.engine.checkpoint.sha256:
        raise ModelChanged(
            "the examples were encoded with other weights: create a new session, or serve those weights"
        )
