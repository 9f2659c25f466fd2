"""The client for asyncio: the methods of Client, to be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx

from app.client import calls
from app.client.answering import Retries, auth_headers, checked_url, read_answer
from app.client.calls import Call, Image
from app.client.sync import DEFAULT_RETRIES, DEFAULT_TIMEOUT_S, DEFAULT_URL
from app.schemas import Added, Class, Model, Quality, Results, Session, SessionPage

T = TypeVar("T")


class AsyncClient:
    """The HTTP API as methods. Each raises ServiceProblem or ServiceUnreachable."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
    ) -> None:
        """retries: how often a request is sent again while the service is busy or away."""
        self._http = httpx.AsyncClient(
            base_url=checked_url(url), headers=auth_headers(api_key), timeout=timeout_s
        )
        self._retries = retries

    async def create_session(
        self,
        *,
        name: str | None = None,
        ttl_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Session:
        """A new, empty session; ttl_s: seconds until it is deleted."""
        return await self._send(calls.create_session(name, ttl_s, metadata))

    async def list_sessions(self, *, limit: int = 100, cursor: str | None = None) -> SessionPage:
        """Sessions, oldest first; pass next_cursor on for the next page."""
        return await self._send(calls.list_sessions(limit, cursor))

    async def get_session(self, session_id: str) -> Session:
        return await self._send(calls.get_session(session_id))

    async def delete_session(self, session_id: str) -> None:
        await self._send(calls.delete_session(session_id))

    async def add_support(self, session_id: str, examples: Sequence[tuple[str, Image]]) -> Added:
        """Add labelled images of any number of classes."""
        return await self._send(calls.add_support(session_id, examples))

    async def add_examples(
        self,
        session_id: str,
        label: str,
        images: Sequence[Image],
        *,
        example_ids: Sequence[str] | None = None,
    ) -> Added:
        """Add images to one class; example_ids, one an image, are the service's own if not given."""
        return await self._send(calls.add_examples(session_id, label, images, example_ids))

    async def replace_class(self, session_id: str, label: str, images: Sequence[Image]) -> Added:
        """Put images in place of all that the class had, in one step."""
        return await self._send(calls.replace_class(session_id, label, images))

    async def get_class(self, session_id: str, label: str) -> Class:
        return await self._send(calls.get_class(session_id, label))

    async def delete_class(self, session_id: str, label: str) -> None:
        await self._send(calls.delete_class(session_id, label))

    async def delete_example(self, session_id: str, label: str, example_id: str) -> None:
        await self._send(calls.delete_example(session_id, label, example_id))

    async def classify(
        self,
        session_id: str,
        images: Sequence[Image],
        *,
        unknown_below: float | None = None,
        all_faces: bool = False,
    ) -> Results:
        """Relation scores of each image's face with each class of the session."""
        return await self._send(calls.classify(session_id, images, unknown_below, all_faces))

    async def classify_by(
        self,
        support: Sequence[tuple[str, Image]],
        images: Sequence[Image],
        *,
        unknown_below: float | None = None,
        all_faces: bool = False,
    ) -> Results:
        """The same without a session, by labelled images that come with the request."""
        return await self._send(calls.classify_by(support, images, unknown_below, all_faces))

    async def get_quality(self, session_id: str) -> Quality:
        """How well the session's examples are told by one another."""
        return await self._send(calls.get_quality(session_id))

    async def export_session(self, session_id: str) -> bytes:
        """The session as a safetensors file."""
        return await self._send(calls.export_session(session_id))

    async def import_session(self, archive: Image) -> Session:
        """A new session from an exported file."""
        return await self._send(calls.import_session(archive))

    async def get_model(self) -> Model:
        """The weights that are served."""
        return await self._send(calls.get_model())

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, call: Call[T]) -> T:
        retries = Retries(call, self._retries)
        while True:
            try:
                response = await self._http.request(call.method, call.path, **call.content)
            except httpx.HTTPError as error:
                pause_s = retries.after_error(error)
            else:
                asked_for_s = retries.after_answer(response)
                if asked_for_s is None:
                    return read_answer(call, response, repeated=retries.repeated)
                pause_s = asked_for_s
            await asyncio.sleep(pause_s)
