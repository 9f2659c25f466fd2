"""Support sets of sessions, ready on the device: the ones used last, within a memory budget."""

from __future__ import annotations

import asyncio
import collections

from app.inference.errors import NoClasses
from app.inference.fairness import Lane
from app.inference.network import Network
from app.sessions.store import SessionStore, SessionVersion
from csrn_client.schemas import Session
from model.support_set import SupportSet


class SupportCache:
    """Keeps the newest revision of each session. All calls come from one event loop."""

    def __init__(self, store: SessionStore, network: Network, *, max_bytes: int) -> None:
        self._store, self._network, self._max_bytes = store, network, max_bytes
        self.size_bytes = self.misses = 0
        """misses: support sets that had to be built"""
        self._kept: collections.OrderedDict[str, tuple[int, SupportSet]] = collections.OrderedDict()
        """Session id to revision and support set, the one used last at the end"""
        self._loading: dict[tuple[str, int], asyncio.Task[SupportSet]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, owner: str, session: SessionVersion) -> SupportSet:
        """The support set of a session at this revision or a newer one. Simultaneous calls share one load.

        Raises: NoClasses; QueueFull; SessionNotFound; StoreUnavailable.
        """
        revision, support = self._kept.get(session.id, (-1, None))
        if support is not None and revision >= session.revision:
            self._kept.move_to_end(session.id)
            return support
        key = session.id, session.revision
        if key not in self._loading:
            self.misses += 1
            self._loading[key] = load = asyncio.create_task(self._load(owner, key))
            # asyncio logs an error that nobody has asked for, even if all callers have left.
            load.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Shielded: a caller that is cancelled does not stop the load for the others.
        return await asyncio.shield(self._loading[key])

    def forget(self, session_id: str) -> None:
        """Drop the support set of a session, also one that is being loaded."""
        self._drop(session_id)
        for key in [key for key in self._loading if key[0] == session_id]:
            del self._loading[key]

    async def forget_changed(self) -> None:
        """Drop the support sets of sessions that have expired or that any replica has changed or deleted."""
        kept = {session_id: revision for session_id, (revision, _) in self._kept.items()}
        current = await self._store.revisions([*kept])
        for session_id, revision in kept.items():
            if current.get(session_id) != revision:
                self.forget(session_id)

    async def _load(self, owner: str, key: tuple[str, int]) -> SupportSet:
        try:
            session, examples = await self._store.load_examples(owner, key[0])
            if not examples:
                raise NoClasses
            lane = Lane(owner=owner, session_id=key[0])
            support = await self._network.build_support_set(examples, lane=lane)
            if self._loading.get(key) is asyncio.current_task():
                self._keep(session, support)
            return support
        finally:
            if self._loading.get(key) is asyncio.current_task():
                del self._loading[key]

    def _keep(self, session: Session, support: SupportSet) -> None:
        """Keep a support set unless it is too large or a newer one is kept."""
        revision, _ = self._kept.get(session.id, (-1, None))
        if revision >= session.revision:
            return
        self._drop(session.id)
        if support.size_bytes <= self._max_bytes:
            self._kept[session.id] = session.revision, support
            self.size_bytes += support.size_bytes
        while self.size_bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, session_id: str) -> None:
        if session_id in self._kept:
            _, support = self._kept.pop(session_id)
            self.size_bytes -= support.size_bytes
