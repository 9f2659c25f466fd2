"""csrn serve, and csrn key for whoever runs it."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
from typing import Annotated

import typer

from app.settings import Settings
from model.errors import CsrnError


class KeysNeeded(CsrnError):
    """Others than this machine could use the service, and no keys are configured."""

    code = "keys_needed"


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on", min=0, max=65535)] = 8000,
) -> None:
    """Serve the HTTP API. Settings come from CSRN_* variables."""
    import uvicorn

    from app.access.api_keys import ApiKeys
    from app.access.origins import is_loopback
    from app.main import create_app
    from app.server import MAX_CONNECTIONS, DrainingServer, GuardedProtocol, listen
    from app.telemetry.logs import set_up_logging
    from app.telemetry.tracing import set_up_tracing

    settings = Settings()
    keys = ApiKeys(settings.api_keys.get_secret_value())
    if not (keys.required or settings.allow_anonymous or is_loopback(host)):
        raise KeysNeeded(
            f"without keys only this machine may be served, and {host} is not it: set CSRN_API_KEYS "
            "(csrn key NAME makes one), or CSRN_ALLOW_ANONYMOUS=true to serve whoever can reach it"
        )
    set_up_logging(log_format=settings.log_format, level=settings.log_level)
    set_up_tracing()
    # Once drained, uvicorn raises the signal again for whoever handled it before: that is a good end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _allow_open_files(2 * MAX_CONNECTIONS)
    bound = listen(host, port)
    app = create_app(settings)
    server = DrainingServer(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=GuardedProtocol,
            # Its lines go the way of all others; its access log would tell paths, which hold labels.
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(settings.grace_s) or 1,
            # It stops reading while its messages wait.
            ws="websockets-sansio",
            ws_max_size=settings.max_image_bytes,
            # Pictures do not deflate, and a small frame could inflate to a large one.
            ws_per_message_deflate=False,
        ),
        draining=app.state.draining,
        drain_s=settings.drain_s,
        grace_s=settings.grace_s,
        streams_ended=app.state.streams.wait_until_none,
    )
    # Ctrl-C is a good end, too.
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[bound])


def key(
    name: Annotated[str, typer.Argument(help="Whose key it is; several keys of one name share sessions")],
) -> None:
    """Make an API key, and its entry for CSRN_API_KEYS, from which the key cannot be found."""
    from app.access.api_keys import new_key

    made, entry = new_key(name)
    print(f"key, for {name} to keep:      {made}")
    print(f"entry, for CSRN_API_KEYS:  {entry}")


def _allow_open_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
