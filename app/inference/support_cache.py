"""Support sets of sessions, ready on the device: the ones used last, within a memory budget."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from collections.abc import Sequence
from typing import Protocol

from app.inference.errors import NoClasses
from app.inference.lanes import Lane
from csrn_client.schemas import Session
from model.support_set import Example, SupportSet


class ExampleStore(Protocol):
    """What the cache asks of the session store."""

    async def load_examples(self, owner: str, session_id: str) -> tuple[Session, Sequence[Example]]: ...

    async def revisions(self, session_ids: Sequence[str]) -> dict[str, int]: ...


class SupportSetBuilder(Protocol):
    """What the cache asks of the network."""

    async def build_support_set(self, examples: Sequence[Example], *, lane: Lane) -> SupportSet: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Kept:
    revision: int
    support: SupportSet


class SupportCache:
    """Keeps the newest revision of each session. All calls come from one event loop."""

    def __init__(self, store: ExampleStore, builder: SupportSetBuilder, *, max_bytes: int) -> None:
        self._store, self._builder, self._max_bytes = store, builder, max_bytes
        self.size_bytes = self.misses = 0
        """misses: support sets that had to be built"""
        self._kept: collections.OrderedDict[str, _Kept] = collections.OrderedDict()
        self._loading: dict[tuple[str, int], asyncio.Task[SupportSet]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, owner: str, session: Session) -> SupportSet:
        """The support set of a session at its revision or a newer one. Simultaneous calls share one load.

        Raises: NoClasses; QueueFull; SessionNotFound; StoreUnavailable.
        """
        kept = self._kept.get(session.id)
        if kept is not None and kept.revision >= session.revision:
            self._kept.move_to_end(session.id)
            return kept.support
        key = session.id, session.revision
        if key not in self._loading:
            self.misses += 1
            self._loading[key] = asyncio.create_task(self._load(owner, key))
        # Shielded: a caller that is cancelled does not stop the load for the others.
        return await asyncio.shield(self._loading[key])

    def forget(self, session_id: str) -> None:
        """Drop the support set of a session, also one that is being loaded."""
        self._drop(session_id)
        for key in [key for key in self._loading if key[0] == session_id]:
            del self._loading[key]

    async def forget_changed(self) -> None:
        """Drop the support sets of sessions that have expired or that any replica has changed or deleted."""
        kept = {session_id: kept.revision for session_id, kept in self._kept.items()}
        current = await self._store.revisions([*kept])
        for session_id, revision in kept.items():
            if current.get(session_id) != revision:
                self.forget(session_id)

    async def _load(self, owner: str, key: tuple[str, int]) -> SupportSet:
        wanted = False
        try:
            session, examples = await self._store.load_examples(owner, key[0])
            if not examples:
                raise NoClasses
            support = await self._builder.build_support_set(
                examples, lane=Lane(owner=owner, session_id=key[0])
            )
        finally:
            if self._loading.get(key) is asyncio.current_task():
                del self._loading[key]
                wanted = True
        if wanted:
            self._keep(session, support)
        return support

    def _keep(self, session: Session, support: SupportSet) -> None:
        kept = self._kept.get(session.id)
        if kept is not None and kept.revision >= session.revision:
            return
        self._drop(session.id)
        if support.size_bytes > self._max_bytes:
            return
        self._kept[session.id] = _Kept(revision=session.revision, support=support)
        self.size_bytes += support.size_bytes
        while self.size_bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, session_id: str) -> None:
        if (kept := self._kept.pop(session_id, None)) is not None:
            self.size_bytes -= kept.support.size_bytes
