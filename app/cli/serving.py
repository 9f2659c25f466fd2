"""csrn serve."""

from __future__ import annotations

import logging
import signal
import sys
from typing import Annotated

import typer

from app.settings import Settings


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on", min=0, max=65535)] = 8000,
) -> None:
    """Serve the HTTP API. Settings come from CSRN_* variables."""
    import uvicorn

    from app.main import create_app

    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    # Once drained, uvicorn raises the signal again for whoever handled it before: that is a good end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = Settings()
    uvicorn.run(
        create_app(settings),
        host=host,
        port=port,
        log_level="warning",
        ws_max_size=settings.max_image_bytes,
        # Pictures do not deflate, and a small frame could inflate to a large one.
        ws_per_message_deflate=False,
    )
