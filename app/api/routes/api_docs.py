"""/docs: the interactive description of the API. Its files come from the service, not from a CDN."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import re

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

FILES = "/docs/files"
_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def get_docs(request: Request) -> HTMLResponse:
    # The addresses are relative to /docs, so they also work below CSRN_ROOT_PATH.
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=f"{request.app.title}: the API",
        swagger_js_url=f"{FILES[1:]}/swagger-ui-bundle.js",
        swagger_css_url=f"{FILES[1:]}/swagger-ui.css",
        swagger_favicon_url="page/icon.svg",
        # The browser forgets a key that was entered when the page closes. The list of schemas starts closed.
        swagger_ui_parameters={"persistAuthorization": False, "defaultModelsExpandDepth": 0},
    )
    page.headers["Content-Security-Policy"] = _policy(bytes(page.body))
    page.headers["X-Content-Type-Options"] = "nosniff"
    return page


def mount_docs_files(app: FastAPI) -> None:
    """Serve the files of Swagger UI."""
    files = importlib.resources.files("fastapi_offline") / "static"
    app.mount(FILES, StaticFiles(directory=str(files)))


def _policy(page: bytes) -> str:
    """The Content-Security-Policy of the page: only this service, and the page's own script by its hash."""
    scripts = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _SCRIPT.findall(page)]
    allowed = " ".join(f"'sha256-{script}'" for script in scripts)
    return (
        f"default-src 'none'; script-src 'self' {allowed}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
