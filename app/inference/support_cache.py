"""Support sets of sessions, loaded from the store and built on the device when they are first used."""

from __future__ import annotations

import asyncio

from app.inference.errors import NoClasses
from app.inference.fairness import Lane
from app.inference.kept_support_sets import KeptSupportSets
from app.inference.network import Network
from app.sessions.store import SessionStore, SessionVersion
from model.support_set import SupportSet


class SupportCache:
    """Finds the newest revision of each session. All calls come from one event loop."""

    def __init__(self, store: SessionStore, network: Network, kept: KeptSupportSets) -> None:
        self._store, self._network, self._kept = store, network, kept
        self.misses = 0
        """Support sets that had to be built"""
        self._loading: dict[tuple[str, int], asyncio.Task[SupportSet]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """Device memory of the support sets that are kept."""
        return self._kept.size_bytes

    async def get(self, owner: str, session: SessionVersion) -> SupportSet:
        """The support set of a session at this revision or a newer one. Simultaneous calls share one load.

        Raises: NoClasses; QueueFull; SessionNotFound; StoreUnavailable.
        """
        support = self._kept.get(session.id, session.revision)
        if support is not None:
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
        self._kept.drop(session_id)
        for key in [key for key in self._loading if key[0] == session_id]:
            del self._loading[key]

    async def forget_changed(self) -> None:
        """Drop the support sets of sessions that have expired or that any replica has changed or deleted."""
        kept = self._kept.revisions()
        current = await self._store.revisions([*kept])
        for session_id, revision in kept.items():
            if current.get(session_id) != revision:
                self.forget(session_id)

    async def _load(self, owner: str, key: tuple[str, int]) -> SupportSet:
        try:
            session, examples = await self._store.load_examples(owner, key[0], enabled_only=True)
            if not examples:
                raise NoClasses(
                    "every class of the session is disabled: enable one"
                    if session.classes
                    else "the session has no classes: add examples first"
                )
            lane = Lane(owner=owner, session_id=key[0])
            support = await self._network.build_support_set(examples, lane=lane)
            if self._loading.get(key) is asyncio.current_task():
                self._kept.keep(session.id, session.revision, support)
            return support
        finally:
            if self._loading.get(key) is asyncio.current_task():
                del self._loading[key]
