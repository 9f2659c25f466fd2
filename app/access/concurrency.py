"""Limits on what is in progress at once, in total and for each key."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator

from app.access.errors import Overloaded


class ConcurrencyLimit:
    """Limits how many requests, bytes of bodies, streams or exports are in progress at once."""

    def __init__(self, kind: str, *, most: int, most_per_key: int) -> None:
        """kind: the plural noun for error texts, such as requests."""
        self.most_per_key = most_per_key
        self._kind, self._most = kind, most
        self._by_owner: collections.Counter[str] = collections.Counter()

    @property
    def count(self) -> int:
        return self._by_owner.total()

    @contextlib.contextmanager
    def hold(self, owner: str, amount: int = 1) -> Iterator[None]:
        """Count an amount for this owner until the block ends. Raises: Overloaded."""
        if self._by_owner[owner] + amount > self.most_per_key:
            raise Overloaded(f"a key may have {self.most_per_key} {self._kind} at once: try again shortly")
        if self.count + amount > self._most:
            raise Overloaded(f"the service handles {self._most} {self._kind} at once: try again shortly")
        self._by_owner[owner] += amount
        try:
            yield
        finally:
            self._by_owner[owner] -= amount
            self._by_owner += collections.Counter()  # drops owners with a count of 0
