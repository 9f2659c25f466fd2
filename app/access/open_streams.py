"""How many streams are open, and whose."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import Iterator

from app.access.errors import TooManyStreams


class OpenStreams:
    """Counts them, so that there are not too many."""

    def __init__(self, *, most: int, most_per_key: int) -> None:
        self._most, self._most_per_key = most, most_per_key
        self._by_owner: collections.Counter[str] = collections.Counter()
        self._none = asyncio.Event()
        self._none.set()

    @property
    def count(self) -> int:
        return self._by_owner.total()

    async def wait_until_none(self) -> None:
        """Returns once all that are open have ended."""
        await self._none.wait()

    @contextlib.contextmanager
    def one_of(self, owner: str) -> Iterator[None]:
        """A place among them. Raises: TooManyStreams."""
        if self.count >= self._most or self._by_owner[owner] >= self._most_per_key:
            raise TooManyStreams
        self._by_owner[owner] += 1
        self._none.clear()
        try:
            yield
        finally:
            self._by_owner[owner] -= 1
            self._by_owner += collections.Counter()  # drops those without any
            if not self.count:
                self._none.set()
