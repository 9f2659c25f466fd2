"""The sessions that the client returns: their methods use the client that returned them.

sync_session.py is generated from async_session.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pydantic

from csrn_client import schemas
from csrn_client.images import Image
from csrn_client.messages import Examples
from csrn_client.schemas import Results, StreamResult
from csrn_client.streaming import AsyncFrames

if TYPE_CHECKING:
    from csrn_client.async_client import AsyncClient


class AsyncSession(schemas.Session):
    """A session as it was when the service answered, with methods that send requests to it.

    `added.session` and `client.get_session(session)` are newer.
    """

    _client: AsyncClient = pydantic.PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        if context is not None:
            self._client = context["client"]

    async def add_support(self, examples: Examples) -> AsyncAdded:
        """As `add_support` of the client."""
        return await self._client.add_support(self, examples)

    async def add_examples(
        self, label: str, images: Image | Iterable[Image], *, example_ids: Sequence[str] | None = None
    ) -> AsyncAdded:
        """As `add_examples` of the client."""
        return await self._client.add_examples(self, label, images, example_ids=example_ids)

    async def classify(
        self,
        images: Image | Iterable[Image],
        *,
        unknown_below: float | None = None,
        all_faces: bool = False,
        top_k: int | None = None,
        regions: bool = False,
    ) -> Results:
        """As `classify` of the client."""
        return await self._client.classify(
            self, images, unknown_below=unknown_below, all_faces=all_faces, top_k=top_k, regions=regions
        )

    def stream(
        self,
        frames: AsyncFrames,
        *,
        unknown_below: float | None = None,
        top_k: int | None = None,
        regions: bool = False,
    ) -> AsyncIterator[StreamResult]:
        """As `stream` of the client."""
        return self._client.stream(self, frames, unknown_below=unknown_below, top_k=top_k, regions=regions)


class AsyncSessionPage(schemas.SessionPage):
    sessions: list[AsyncSession]  # type: ignore[assignment]


class AsyncAdded(schemas.Added):
    session: AsyncSession
