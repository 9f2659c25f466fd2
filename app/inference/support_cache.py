"""Support sets kept ready on the device, those used last, within a memory budget."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable, Iterable

from model.support_set import SupportSet

SupportKey = tuple[str, int]
"""Session id and revision: names one support set for ever"""


class SupportCache:
    """Keyed by session and revision, so what it gives is never out of date. For one event loop."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self.misses = 0
        """Support sets that had to be made"""
        self._kept: collections.OrderedDict[SupportKey, SupportSet] = collections.OrderedDict()
        self._being_made: dict[SupportKey, asyncio.Future[SupportSet]] = {}

    @property
    def size_bytes(self) -> int:
        return self._bytes

    @property
    def kept(self) -> dict[str, int]:
        """The revision that is kept of each session."""
        return dict(self._kept.keys())

    async def get(
        self, key: SupportKey, make: Callable[[], Awaitable[tuple[SupportKey, SupportSet]]]
    ) -> SupportSet:
        """The support set of `key`, or else what `make` returns; many who ask at once have it made once.

        `make` may find a newer revision than was asked for and says so in the key that it returns.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key not in self._being_made:
            self.misses += 1
            self._being_made[key] = asyncio.ensure_future(self._make(key, make))
        # Shielded: one who gives up does not take it from those who wait beside.
        return await asyncio.shield(self._being_made[key])

    def forget(self, session_ids: Iterable[str]) -> None:
        """Drop what is kept of these sessions."""
        unwanted = set(session_ids)
        for key in [known for known in self._kept if known[0] in unwanted]:
            self._drop(key)
        # What is being made is for those who wait, and is not to be kept.
        for key in [known for known in self._being_made if known[0] in unwanted]:
            del self._being_made[key]

    async def _make(
        self, key: SupportKey, make: Callable[[], Awaitable[tuple[SupportKey, SupportSet]]]
    ) -> SupportSet:
        wanted = False
        try:
            found, support = await make()
        finally:
            if self._being_made.get(key) is asyncio.current_task():
                del self._being_made[key]
                wanted = True
        if wanted:
            self._keep(found, support)
        return support

    def _keep(self, key: SupportKey, support: SupportSet) -> None:
        """Of a session only the newest revision is kept."""
        session_id, revision = key
        known = [other for other in self._kept if other[0] == session_id]
        if any(other[1] >= revision for other in known) or support.size_bytes > self._max_bytes:
            return
        for stale in known:
            self._drop(stale)
        self._kept[key] = support
        self._bytes += support.size_bytes
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: SupportKey) -> None:
        self._bytes -= self._kept.pop(key).size_bytes
