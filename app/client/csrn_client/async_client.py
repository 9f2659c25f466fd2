"""The calls of the HTTP API as methods. sync_client.py is generated from async_client.py."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx
import pydantic

from csrn_client.messages import (
    Image,
    checked,
    classify_options,
    file_bytes,
    file_parts,
    parsed,
    pause_before_retry,
    service_url,
    session_path,
)
from csrn_client.schemas import Added, Class, Model, Quality, Results, Session, SessionPage

M = TypeVar("M", bound=pydantic.BaseModel)


class AsyncClient:
    """A connection to a running service. Every method can raise the errors of csrn_client.errors."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        retries: int = 5,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Raises: InvalidURL.

        Args: retries, how often a request is sent again while the service is busy or cannot be reached;
            transport, what carries the requests instead of the network.
        """
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._retries = retries
        self._http = httpx.AsyncClient(
            base_url=service_url(url), headers=headers, timeout=timeout_s, transport=transport
        )

    async def create_session(
        self,
        *,
        name: str | None = None,
        ttl_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Session:
        """Create an empty session. The service deletes it after ttl_s seconds, or never without ttl_s."""
        body = {"name": name, "ttl_s": ttl_s, "metadata": dict(metadata or {})}
        return await self._ask(Session, "POST", "/v1/sessions", json=body)

    async def list_sessions(self, *, limit: int = 100, cursor: str | None = None) -> SessionPage:
        """One page of the sessions, oldest first. Pass the page's next_cursor to get the next page."""
        query = {"limit": limit, **({} if cursor is None else {"cursor": cursor})}
        return await self._ask(SessionPage, "GET", "/v1/sessions", params=query)

    async def get_session(self, session_id: str) -> Session:
        return await self._ask(Session, "GET", session_path(session_id))

    async def delete_session(self, session_id: str) -> None:
        await self._send("DELETE", session_path(session_id))

    async def add_support(self, session_id: str, examples: Sequence[tuple[str, Image]]) -> Added:
        """Add labelled images, `(label, image)`, to any number of classes."""
        labels, images = [label for label, _ in examples], [image for _, image in examples]
        return await self._add("POST", session_path(session_id, "support"), images, labels=labels)

    async def add_examples(
        self,
        session_id: str,
        label: str,
        images: Sequence[Image],
        *,
        example_ids: Sequence[str] | None = None,
    ) -> Added:
        """Add images to one class. Without example_ids, one for each image, the service chooses them."""
        path = session_path(session_id, "classes", label, "examples")
        return await self._add("POST", path, images, example_ids=example_ids)

    async def replace_class(self, session_id: str, label: str, images: Sequence[Image]) -> Added:
        """Replace all examples of a class in one step."""
        return await self._add("PUT", session_path(session_id, "classes", label), images)

    async def get_class(self, session_id: str, label: str) -> Class:
        return await self._ask(Class, "GET", session_path(session_id, "classes", label))

    async def delete_class(self, session_id: str, label: str) -> None:
        await self._send("DELETE", session_path(session_id, "classes", label))

    async def delete_example(self, session_id: str, label: str, example_id: str) -> None:
        await self._send("DELETE", session_path(session_id, "classes", label, "examples", example_id))

    async def classify(
        self,
        session_id: str,
        images: Sequence[Image],
        *,
        unknown_below: float | None = None,
        all_faces: bool = False,
    ) -> Results:
        """Score the face in each image against every class of the session.

        Args: unknown_below, the threshold below which no class is predicted, by default the session's own;
            all_faces, whether to answer for every face in an image, not only for the largest.
        """
        path, options = session_path(session_id, "classify"), classify_options(unknown_below, all_faces)
        return await self._ask(Results, "POST", path, files=file_parts("images", images), data=options)

    async def classify_by(
        self,
        support: Sequence[tuple[str, Image]],
        images: Sequence[Image],
        *,
        unknown_below: float | None = None,
        all_faces: bool = False,
    ) -> Results:
        """Score images as `classify` does, but against labelled images instead of a session."""
        files = file_parts("support", [image for _, image in support]) + file_parts("images", images)
        fields = {"labels": [label for label, _ in support], **classify_options(unknown_below, all_faces)}
        return await self._ask(Results, "POST", "/v1/classify", files=files, data=fields)

    async def get_quality(self, session_id: str) -> Quality:
        """How well each example of the session is recognised from all the other examples."""
        return await self._ask(Quality, "GET", session_path(session_id, "quality"))

    async def export_session(self, session_id: str) -> bytes:
        """The session as the content of a safetensors file."""
        return (await self._send("GET", session_path(session_id, "export"))).content

    async def import_session(self, archive: Image) -> Session:
        """Create a session from an exported file, given as its content or its path."""
        kind = {"Content-Type": "application/octet-stream"}
        content = file_bytes(archive)
        return await self._ask(Session, "POST", "/v1/sessions/import", content=content, headers=kind)

    async def get_model(self) -> Model:
        """The weights that the service uses."""
        return await self._ask(Model, "GET", "/v1/model")

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _add(
        self, method: str, path: str, images: Sequence[Image], **fields: Sequence[str] | None
    ) -> Added:
        data = {name: [*values] for name, values in fields.items() if values is not None}
        return await self._ask(Added, method, path, files=file_parts("images", images), data=data)

    async def _ask(self, answer: type[M], method: str, path: str, **content: Any) -> M:
        return parsed(answer, await self._send(method, path, **content))

    async def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Send a request, and send it again after a pause if that can help. content: arguments of httpx."""
        retries = 0
        while True:
            outcome: httpx.Response | httpx.HTTPError
            try:
                outcome = await self._http.request(method, path, **content)
            except httpx.HTTPError as error:
                outcome = error
            pause_s = pause_before_retry(outcome, retries)
            if pause_s is None or retries == self._retries:
                return checked(outcome, repeated=retries > 0)
            await asyncio.sleep(pause_s)
            retries += 1
