"""uvicorn, made to drain before it stops, and to bound what happens below HTTP requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import time
from collections.abc import Awaitable, Callable
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.errors import BodyTooLarge, InvalidRequest, RequestTimeout
from app.api.problems import problem_response
from model.errors import CsrnError

logger = logging.getLogger("csrn")

MAX_CONNECTIONS = 1000
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
MAX_HEADER_BYTES = 8000
"""Of one header. What uvicorn hands on to the WebSocket library must fit there: it would hang otherwise."""
UNREAD_S = 60
"""An answer that its client does not take for so long is given up, with its connection; so is what is left
of a body that was answered before its end, which many clients send before they read"""


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises: OSError."""
    ((family, kind, _, _, address), *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    bound = socket.socket(family, kind)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections have this from the one that listens.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1000)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from None
    return bound


class DrainingServer(uvicorn.Server):
    """On SIGTERM or SIGINT it says so by `draining`, serves on for a while, then ends as uvicorn does."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        draining: asyncio.Event,
        drain_s: float,
        grace_s: float,
        streams_ended: Callable[[], Awaitable[None]],
    ) -> None:
        """streams_ended: streams end by themselves once draining is set, and are waited for."""
        super().__init__(config)
        self._draining, self._drain_s, self._grace_s = draining, drain_s, grace_s
        self._streams_ended = streams_ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        for bound in sockets or []:
            host, port = bound.getsockname()[:2]
            logger.info("serving on http://%s:%d", f"[{host}]" if ":" in host else host, port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains; a second ends at once."""
        if self._loop is None or self._draining.is_set():
            super().handle_exit(sig, frame)
            return
        self._captured_signals.append(sig)
        self._draining.set()
        self._loop.call_soon_threadsafe(self._begin_to_end)

    def _begin_to_end(self) -> None:
        self._ending = asyncio.ensure_future(self._end())

    async def _end(self) -> None:
        await asyncio.sleep(self._drain_s)
        until = time.monotonic() + self._grace_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._grace_s):
                await self._streams_ended()
        # uvicorn waits as long for requests: together it is one grace.
        self.config.timeout_graceful_shutdown = max(math.ceil(until - time.monotonic()), 1)
        self.should_exit = True


class GuardedProtocol(HttpToolsProtocol):
    """HTTP/1.1 for clients that may be slow or hostile: few connections, small heads, in good time."""

    head_s = 15.0
    """From a connection's beginning, or its last answer, until a request's headers are complete"""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_begun, self._refused = False, False
        self._advanced, self._bytes_between = False, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._advanced = False
        super().data_received(data)
        # Whatever is neither a whole head nor body: heads that do not end, trailers, extensions of chunks
        self._bytes_between = 0 if self._advanced else self._bytes_between + len(data)
        if self._bytes_between > MAX_HEAD_BYTES:
            self._refuse(_headers_too_large())

    def on_message_begin(self) -> None:
        self._head_begun = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come here too: uvicorn would keep each, and give them to the application as headers.
        if self._head_begun:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_begun, self._advanced = False, True
        self._head_arrived()
        sizes = [len(name) + len(value) for name, value in self.headers]
        if (
            len(sizes) > MAX_HEADERS
            or max([len(self.url), *sizes]) > MAX_HEADER_BYTES
            or sum(sizes) > MAX_HEAD_BYTES
        ):
            self._refuse(_headers_too_large())
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._advanced = True
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._advanced = True
        if not self._refused:
            super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        if not self._refused:
            super().handle_websocket_upgrade()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_head()

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidRequest("this is not HTTP/1.1"))

    def _await_head(self) -> None:
        self._head_arrived()
        answered_early = self.cycle is not None and self.cycle.more_body
        within_s = UNREAD_S if answered_early else self.head_s
        self._head_timer = self.loop.call_later(within_s, self._give_up)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.transport.is_closing():
            return
        if self._head_begun:
            self._refuse(RequestTimeout(f"headers must arrive within {self.head_s:g} s"))
        else:
            # It has sent nothing, or the rest of a body that was answered before it was there.
            self.transport.close()

    def _refuse(self, error: CsrnError) -> None:
        """Answer in place of the application, and close."""
        self._refused = True
        self._head_arrived()
        if self.cycle is not None and not self.cycle.response_complete:
            # The answer would be taken for that of the request before, which still has its own.
            self.cycle.keep_alive = False
            return
        response = problem_response(error)
        lines = [f"HTTP/1.1 {error.status} {error.title}".encode()]
        lines += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"connection: close", b"", bytes(response.body)]))
        self.transport.close()


def _headers_too_large() -> CsrnError:
    return BodyTooLarge(
        f"a request has at most {MAX_HEADERS} headers, of at most {MAX_HEADER_BYTES} bytes each "
        f"and {MAX_HEAD_BYTES} in all",
    )
