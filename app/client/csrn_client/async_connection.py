"""The connection to a service: requests, retries and streams. sync_connection.py is generated from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Self, TypeVar

import httpx
import pydantic

from csrn_client.errors import ClientError
from csrn_client.images import upload
from csrn_client.messages import checked, encoding, file_parts, parsed, service_url, timeouts
from csrn_client.retries import pause_before_retry
from csrn_client.schemas import StreamResult
from csrn_client.splitting import Batch, SplitCall
from csrn_client.streaming import (
    AsyncFrames,
    connect_async,
    connecting,
    each_async,
    exchanging,
    stream_result,
    stream_url,
)

M = TypeVar("M", bound=pydantic.BaseModel)


class AsyncConnection:
    """Sends requests to a service."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        retries: int | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Raises: InvalidURL.

        Args: timeout_s, how long to wait for a response; a connection must be made within 10 s.
            retries, how often a request is sent again while the service is busy or cannot be reached. By
            default, 5 times, but only twice, within 0.6 s, if no connection can be made. Each retry is
            logged as a warning of the logger `csrn_client`.
            transport, what carries the requests, but not the streams, instead of the network.
        """
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._url, self._retries = service_url(url), retries
        self._http = httpx.AsyncClient(
            base_url=self._url, headers=headers, timeout=timeouts(timeout_s), transport=transport
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __deepcopy__(self, memo: object) -> Self:
        """A copy of a session uses the same connections."""
        return self

    async def _ask(self, answer: type[M], method: str, path: str, **content: Any) -> M:
        """Send a request and parse its answer. content: arguments of httpx."""
        return parsed(answer, await self._send(method, path, **content), self)

    async def _ask_split(
        self,
        answer: type[M],
        path: str,
        call: SplitCall[M],
        fields: Callable[[Batch], dict[str, Any]],
        files: list[Any] | None = None,
    ) -> M:
        """Send one request for each batch of images and merge the answers.

        Args: fields, returns the form fields for a batch; files, are sent with every batch.
        """
        for batch in call:
            content = {"files": [*(files or []), *file_parts("images", batch.uploads)], "data": fields(batch)}
            try:
                call.answered(batch, await self._ask(answer, "POST", path, **content))
            except ClientError as error:
                if not call.handled(batch, error):
                    raise
        return call.merged()

    async def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Send a request, and send it again after a pause if that can help. content: arguments of httpx."""
        with encoding():
            request = self._http.build_request(method, path, **content)
        retried = 0
        while True:
            outcome: httpx.Response | httpx.HTTPError
            try:
                outcome = await self._http.send(request)
            except httpx.HTTPError as error:
                outcome = error
            pause_s = pause_before_retry(outcome, retried, self._retries)
            if pause_s is None:
                return checked(outcome, repeated=retried > 0)
            await asyncio.sleep(pause_s)
            retried += 1

    async def _stream(
        self, path: str, frames: AsyncFrames, options: dict[str, Any]
    ) -> AsyncIterator[StreamResult]:
        """Send each frame when the one before is answered."""
        url = stream_url(self._url, path, options)
        with connecting(url):
            socket = await connect_async(url, self._http.headers)
        async with socket:
            async for frame in each_async(frames):
                content = upload(frame).content
                with exchanging(url):
                    await socket.send(content)
                    message = await socket.recv()
                yield stream_result(message, url)
