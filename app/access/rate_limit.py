"""How many requests, images and frames a key may send in a span of time."""

from __future__ import annotations

import math
import time

import limits
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from app.access.errors import CostTooHigh, RateLimited


class RateLimit:
    """Counts by owner in this process only: N replicas together allow N times the rate.

    A span begins with an owner's first request, and the next span with the first request after its end. Then
    the whole rate is allowed again, so a client that waits until then is served whatever its request costs.
    Around the end of a span an owner may use twice the rate.
    """

    def __init__(self, rate: str) -> None:
        """rate: for example 600/minute; empty for no limit. Raises: ValueError."""
        self._item = limits.parse(rate) if rate else None
        self._counter = FixedWindowRateLimiter(MemoryStorage())

    def charge(self, owner: str, cost: int) -> None:
        """Count `cost` for the owner. If the rate does not allow it, count nothing. Raises: RateLimited."""
        if self._item is None:
            return
        if self._counter.test(self._item, owner, cost=cost):  # hit alone would count what it refuses
            self._counter.hit(self._item, owner, cost=cost)
            return
        reset = self._counter.get_window_stats(self._item, owner).reset_time
        retry_after_s = max(math.ceil(reset - time.time()), 1)
        raise RateLimited(f"try again in {retry_after_s} s", retry_after_s=retry_after_s)

    def charge_images(self, owner: str, count: int) -> None:
        """Count the images of a request, which has counted one itself.

        A refused request still counts one, because the service has read its body.

        Raises: CostTooHigh; RateLimited.
        """
        if self._item is not None and 1 + count > self._item.amount:
            raise CostTooHigh(f"the rate allows at most {self._item.amount - 1} images in one request")
        self.charge(owner, count)
