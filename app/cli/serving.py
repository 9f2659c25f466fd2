"""csrn serve runs the service; csrn key makes an API key for it."""

from __future__ import annotations

import contextlib
import logging
import resource
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import Device, Weights, read_settings
from model.errors import CsrnError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

MAX_CONNECTIONS = 1000
"""Connections that may be open at once. The service answers 503 to more. The proxy opens far fewer."""
MAX_HEAD_BYTES = 32 * 1024
"""The largest first line and headers of a request. The service answers 400 to larger ones"""
KEEP_ALIVE_S = 15
"""Longer than clients keep an idle connection, so that no client uses one that has just been closed"""


class KeysNeeded(CsrnError):
    """The service would answer other machines or all web pages, but no keys are configured."""


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on", min=0, max=65535)] = 8000,
    weights: Weights = None,
    device: Device = None,
) -> None:
    """Serve the HTTP API and the live page. All other settings come from CSRN_* variables."""
    from app.access.api_keys import ApiKeys
    from app.access.origins import is_loopback

    settings = read_settings(weights=weights, device=device)
    keys = ApiKeys(settings.api_keys.get_secret_value())
    if not (keys.required or settings.allow_anonymous or is_loopback(host)):
        raise KeysNeeded(
            f"without keys only this machine may be served, and {host} can be reached from others: set "
            "CSRN_API_KEYS (csrn key NAME makes one), or CSRN_ALLOW_ANONYMOUS=true to serve everyone"
        )
    if "*" in settings.allowed_origins and not (keys.required or settings.allow_anonymous):
        raise KeysNeeded(
            "CSRN_ALLOWED_ORIGINS=* would let every web page that is open on this machine use the service "
            "without a key: list the origins, or set CSRN_API_KEYS"
        )
    import uvicorn

    from app.inference.freed_memory import keep_freed_memory

    keep_freed_memory()
    from app.api.draining import Draining
    from app.api.root_path import RootPath
    from app.main import create_app
    from app.telemetry.logs import set_up_logging
    from app.telemetry.tracing import set_up_tracing

    set_up_logging(log_format=settings.log_format, level=settings.log_level)
    set_up_tracing()
    # uvicorn raises SIGTERM once more after it has shut down: that is a success.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2 * MAX_CONNECTIONS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(2 * MAX_CONNECTIONS, hard), hard))
    app: ASGIApp = Draining(create_app(settings), drain_s=settings.drain_s)
    if settings.root_path:
        app = RootPath(app, root_path=settings.root_path)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            # Of uvicorn's HTTP parsers only h11 limits the size of headers.
            http="h11",
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=settings.grace_s,
            # This WebSocket implementation stops reading while frames wait.
            ws="websockets-sansio",
            ws_max_size=settings.max_image_bytes,
            # Images do not compress further, and a small compressed frame could expand to a huge one.
            ws_per_message_deflate=False,
            # The service writes its own log. An access log would contain paths, and paths contain labels.
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
        )
    )
    logging.getLogger("csrn").info("starting on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.run()
    except SystemExit as ended:
        # uvicorn has logged why it could not start, and ends with a code of its own.
        sys.exit(1 if ended.code else 0)


def key(
    name: Annotated[str, typer.Argument(help="Name of the key. Keys with the same name share sessions")],
) -> None:
    """Make an API key, and the entry for CSRN_API_KEYS, which holds only a hash of the key."""
    from app.access.api_keys import new_key

    made, entry = new_key(name)
    print(f"key, for {name} to keep:      {made}")
    print(f"entry, for CSRN_API_KEYS:  {entry}")
