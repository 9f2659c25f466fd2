"""Waiting jobs in an order that is fair between keys, and between the sessions of one key."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lane:
    """The key and the session that a job belongs to. Empty names stand for the service itself."""

    owner: str = ""
    """The name of the key"""
    session_id: str = ""


class Lanes(Generic[T]):
    """One first-in-first-out queue per lane. Owners take turns; within an owner's turn, its lanes do."""

    def __init__(self) -> None:
        self._owners: collections.OrderedDict[str, collections.OrderedDict[Lane, collections.deque[T]]] = (
            collections.OrderedDict()
        )

    def __contains__(self, owner: str) -> bool:
        """Whether any item of the owner waits."""
        return owner in self._owners

    def add(self, lane: Lane, items: Iterable[T]) -> None:
        """Put one or more items at the end of a lane."""
        lanes = self._owners.setdefault(lane.owner, collections.OrderedDict())
        lanes.setdefault(lane, collections.deque()).extend(items)

    def take(self, wanted: Callable[[T], bool]) -> T | None:
        """Remove the first wanted item among those whose turn it is, one for each owner; None without one.

        An owner whose item is not wanted keeps its turn, and so does a lane.
        """
        for owner, lanes in self._owners.items():
            lane, waiting = next(iter(lanes.items()))
            if wanted(waiting[0]):
                item = waiting.popleft()
                self._owners.move_to_end(owner)
                lanes.move_to_end(lane)
                if not waiting:
                    del lanes[lane]
                if not lanes:
                    del self._owners[owner]
                return item
        return None
