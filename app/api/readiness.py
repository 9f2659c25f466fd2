"""Whether the service can answer requests."""

from __future__ import annotations

import asyncio
import logging
import math
from time import monotonic
from typing import Literal, Protocol

from app.api.errors import NotReady
from app.sessions.errors import StoreFull, StoreUnavailable

logger = logging.getLogger("csrn")

STORE_LIMIT_S = 1.0
"""How long a check waits for the store. Proxies and Kubernetes wait longer than this for the check"""
StoreStatus = Literal["ready", "store_unavailable"]


class CheckedStore(Protocol):
    async def check(self) -> None:
        """Raises: StoreUnavailable; StoreFull."""


class Readiness:
    """Distinguishes a short outage of the store from a long one.

    All replicas share the store. If a short outage made them unready, a proxy would have no replica left, not
    even for requests that need no store. Therefore the service stays ready during a short outage.
    """

    def __init__(self, store: CheckedStore, *, outage_s: float) -> None:
        """outage_s: the service becomes unready when an outage has lasted this long.

        A service that has never reached its store is not ready either.
        """
        self._store, self._outage_s = store, outage_s
        self._unavailable_since_s: float | None = -math.inf

    async def check(self) -> StoreStatus:
        """The status of a service that is ready: `store_unavailable` during a short outage of the store.

        Raises: NotReady; StoreFull, which is no outage, because a full store can still be read.
        """
        try:
            async with asyncio.timeout(STORE_LIMIT_S):
                await self._store.check()
        except StoreFull:
            self._unavailable_since_s = None
            raise
        except (StoreUnavailable, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            if self._unavailable_since_s is None:
                self._unavailable_since_s = monotonic()
                logger.warning("session store: %s", reason)
            if monotonic() - self._unavailable_since_s >= self._outage_s:
                raise NotReady(f"the store does not answer: {reason}") from error
            return "store_unavailable"
        self._unavailable_since_s = None
        return "ready"
