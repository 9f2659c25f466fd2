"""The live page and the sample faces: static files that need no key."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from csrn_client.schemas import Documented

APP = Path(__file__).parents[2]
PAGE, SAMPLES = APP / "page", APP / "samples"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
"""Headers of the page and its files: the page may use nothing but this service"""

router = APIRouter(tags=["samples"])


class SamplesOfClass(Documented):
    """The sample faces of one expression."""

    label: str
    """The expression"""
    urls: list[str]
    """The URLs of the images, relative to the URL of this list"""


class Samples(Documented):
    """Sample faces, grouped by expression."""

    classes: list[SamplesOfClass]
    """One for each expression"""


@router.get("/", include_in_schema=False)
async def get_page() -> FileResponse:
    return FileResponse(PAGE / "index.html", headers=HEADERS)


@router.get("/samples")
async def get_samples() -> Samples:
    """Sample faces for trying the service, grouped by expression. Their URLs are relative to this list's."""
    return Samples(
        classes=[
            SamplesOfClass(
                label=folder.name,
                urls=[f"samples/{folder.name}/{image.name}" for image in sorted(folder.glob("*.jpg"))],
            )
            for folder in sorted(SAMPLES.iterdir())
            if folder.is_dir()
        ]
    )


def mount_page_files(app: FastAPI) -> None:
    """Serve the files of the page and the sample faces."""
    app.mount("/page", _PageFiles(directory=PAGE))
    app.mount("/samples", _PageFiles(directory=SAMPLES))


class _PageFiles(StaticFiles):
    """Static files with the headers of the page."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response
