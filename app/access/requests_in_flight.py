"""How many requests are in progress, and whose they are."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator

from app.access.errors import TooManyRequests


class RequestsInFlight:
    """Limits the requests that are in progress at once, in all and for each owner."""

    def __init__(self, *, most: int, most_per_key: int) -> None:
        self._most, self._most_per_key = most, most_per_key
        self._by_owner: collections.Counter[str] = collections.Counter()

    @contextlib.contextmanager
    def one_of(self, owner: str) -> Iterator[None]:
        """Count one request while it is in progress. Raises: TooManyRequests."""
        if self._by_owner[owner] >= self._most_per_key:
            raise TooManyRequests(
                f"a key may have {self._most_per_key} requests in progress: try again shortly"
            )
        if self._by_owner.total() >= self._most:
            raise TooManyRequests
        self._by_owner[owner] += 1
        try:
            yield
        finally:
            self._by_owner[owner] -= 1
            self._by_owner += collections.Counter()  # drops owners without requests
