"""How much a key may ask for."""

from __future__ import annotations

import math
import time

import limits
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from app.access.errors import RateLimited


class RateLimit:
    """Counts by owner, in this process alone: N replicas allow N times as much."""

    def __init__(self, rate: str) -> None:
        """rate: as in 600/minute; empty for none. Raises: ValueError."""
        self._item = limits.parse(rate) if rate else None
        self._counter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def charge(self, owner: str, cost: int) -> None:
        """Raises: RateLimited, and then nothing is counted."""
        if self._item is None or self._counter.hit(self._item, owner, cost=cost):
            return
        if cost > self._item.amount:
            raise RateLimited(
                f"one request may count {self._item.amount} at most", retry_after_s=self._item.get_expiry()
            )
        reset = self._counter.get_window_stats(self._item, owner).reset_time
        retry_after_s = max(math.ceil(reset - time.time()), 1)
        raise RateLimited(f"try again in {retry_after_s} s", retry_after_s=retry_after_s)
