"""How many streams are open, and whose."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator


class TooManyStreams(Exception):
    """There are as many as may be, or the key has as many as it may."""


class OpenStreams:
    """Counts them, so that there are not too many."""

    def __init__(self, *, most: int, most_per_key: int) -> None:
        self._most, self._most_per_key = most, most_per_key
        self._by_owner: collections.Counter[str] = collections.Counter()

    @property
    def count(self) -> int:
        return self._by_owner.total()

    @contextlib.contextmanager
    def one_of(self, owner: str) -> Iterator[None]:
        """A place among them. Raises: TooManyStreams."""
        if self.count >= self._most or self._by_owner[owner] >= self._most_per_key:
            raise TooManyStreams
        self._by_owner[owner] += 1
        try:
            yield
        finally:
            self._by_owner[owner] -= 1
            self._by_owner += collections.Counter()  # drops those without any
