"""Support sets that stay on the device: the ones used last, within a memory budget."""

from __future__ import annotations

import collections
import threading

from model.support_set import SupportSet


class KeptSupportSets:
    """Keeps the newest revision of each session. Any thread may call it.

    The event loop adds support sets. The device thread drops all of them when the device has no memory left.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.size_bytes = 0
        self._kept: collections.OrderedDict[str, tuple[int, SupportSet]] = collections.OrderedDict()
        """Session id to revision and support set, the one used last at the end"""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, session_id: str, revision: int) -> SupportSet | None:
        """The support set of a session at this revision or a newer one, which counts as used, or None."""
        with self._lock:
            kept, support = self._kept.get(session_id, (-1, None))
            if support is None or kept < revision:
                return None
            self._kept.move_to_end(session_id)
            return support

    def revisions(self) -> dict[str, int]:
        """Session id to revision."""
        with self._lock:
            return {session_id: revision for session_id, (revision, _) in self._kept.items()}

    def keep(self, session_id: str, revision: int, support: SupportSet) -> None:
        """Keep a support set unless it is too large or this or a newer revision is kept."""
        with self._lock:
            if self._kept.get(session_id, (-1, None))[0] >= revision:
                return
            self._drop(session_id)
            if support.size_bytes <= self._max_bytes:
                self._kept[session_id] = revision, support
                self.size_bytes += support.size_bytes
            while self.size_bytes > self._max_bytes:
                self._drop(next(iter(self._kept)))

    def drop(self, session_id: str) -> None:
        """Drop the support set of a session if there is one."""
        with self._lock:
            self._drop(session_id)

    def clear(self) -> None:
        """Drop all support sets. Their memory is free once no batch uses them."""
        with self._lock:
            self._kept.clear()
            self.size_bytes = 0

    def _drop(self, session_id: str) -> None:
        if session_id in self._kept:
            _, support = self._kept.pop(session_id)
            self.size_bytes -= support.size_bytes
