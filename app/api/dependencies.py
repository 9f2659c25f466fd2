"""What every route takes: the engine, the store, and the images of a multipart body."""

from __future__ import annotations

import dataclasses
import functools
import urllib.parse
from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, File, Form, Path, Request, UploadFile
from pydantic import BeforeValidator

from app.access.api_keys import Owner
from app.access.rate_limit import RateLimit
from app.api.errors import BodyTooLarge, UnsupportedMediaType
from app.inference.engine import Engine, Upload
from app.inference.support_cache import SupportCache
from app.sessions.errors import ModelChanged
from app.sessions.store import SessionStore
from app.settings import Settings
from csrn_client.fields import Label
from csrn_client.schemas import Session


def engine(request: Request) -> Engine:
    found: Engine = request.app.state.engine
    return found


def store(request: Request) -> SessionStore:
    found: SessionStore = request.app.state.store
    return found


def supports(request: Request) -> SupportCache:
    found: SupportCache = request.app.state.supports
    return found


EngineDep = Annotated[Engine, Depends(engine)]
StoreDep = Annotated[SessionStore, Depends(store)]
SupportsDep = Annotated[SupportCache, Depends(supports)]
Images = Annotated[list[UploadFile], File(description="JPEG, PNG or WebP, one part an image")]
Labels = Annotated[list[Label], Form(description="One for each image, in the same order")]
_decoded = BeforeValidator(functools.partial(urllib.parse.unquote, errors="strict"))
ExampleIdPath = Annotated[str, _decoded]
LabelPath = Annotated[
    Label,
    _decoded,
    Path(description="1 to 64 characters, no control characters; percent-encoded, slashes too"),
]


def require_multipart(request: Request) -> None:
    """Images come as multipart parts and as nothing else."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise UnsupportedMediaType("send multipart/form-data")


def require_json(request: Request) -> None:
    """A body, if there is one, is JSON."""
    content_type = request.headers.get("content-type", "application/json")
    if content_type.split(";")[0].strip() != "application/json":
        raise UnsupportedMediaType("send application/json, or no body")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageReader:
    """Reads the images of a request, within the limits and the key's rate."""

    settings: Settings
    rate_limit: RateLimit
    owner: str

    async def read(self, files: Sequence[UploadFile]) -> list[Upload]:
        """Raises: BodyTooLarge; RateLimited."""
        if len(files) > self.settings.max_images:
            raise BodyTooLarge(f"a request has at most {self.settings.max_images} images")
        self.rate_limit.charge(self.owner, len(files))
        return [await self._read(file) for file in files]

    async def _read(self, file: UploadFile) -> Upload:
        most = self.settings.max_image_bytes
        data = await file.read(most + 1)
        if len(data) > most:
            raise BodyTooLarge(f"an image has at most {most} bytes")
        return Upload(filename=file.filename, data=data)


def _image_reader(request: Request, owner: Owner) -> ImageReader:
    state = request.app.state
    return ImageReader(settings=state.settings, rate_limit=state.rate_limit, owner=owner)


ImageReaderDep = Annotated[ImageReader, Depends(_image_reader)]


def require_same_weights(session: Session, current: Engine) -> None:
    """Features of other weights cannot be compared with these."""
    if session.weights_sha256 != current.checkpoint.sha256:
        raise ModelChanged(
            "the session was taught with other weights: teach a new one, or serve those weights"
        )
