"""The live page and the sample faces: static files, no key needed."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
"""Of the page and all that belongs to it: nothing comes from or goes to anywhere else."""

router = APIRouter(tags=["page"])


class SamplesOfClass(BaseModel):
    label: str
    urls: list[str]


class Samples(BaseModel):
    classes: list[SamplesOfClass]


@router.get("/", include_in_schema=False)
async def get_page() -> FileResponse:
    return FileResponse(PAGE / "index.html", headers=HEADERS)


@router.get("/samples")
async def get_samples() -> Samples:
    """Sample faces to try the service with, by their expression."""
    return Samples(
        classes=[
            SamplesOfClass(
                label=folder.name,
                urls=[f"/samples/{folder.name}/{image.name}" for image in sorted(folder.glob("*.jpg"))],
            )
            for folder in sorted(SAMPLES.iterdir())
            if folder.is_dir()
        ]
    )


def mount_page_files(app: FastAPI) -> None:
    """Serve the page's own files and the samples."""
    app.mount("/page", _WithHeaders(StaticFiles(directory=PAGE)))
    app.mount("/samples", _WithHeaders(StaticFiles(directory=SAMPLES)))


class _WithHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, send_with_headers)
