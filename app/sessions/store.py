"""What every session store promises. Only features are stored, never images.

Every write is one transaction: it is there as a whole when the call returns, or not at all. Where a
call raises StoreUnavailable the write may have been made or not, but never in part. A session belongs
to its owner (an API key); for anyone else it does not exist. Each write that changes examples raises
the session's revision by one, so (id, revision) names one support set for ever.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from model.errors import CsrnError
from model.support_set import Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """A session without its features."""

    id: str
    name: str | None
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    revision: int
    weights_sha256: str
    metadata: dict[str, Any]
    classes: dict[str, int]
    """Label to number of examples, in the order of each class's oldest example"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewSession:
    """What is decided when a session is created."""

    name: str | None
    ttl_s: float | None
    weights_sha256: str
    metadata: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quotas:
    """How much is kept at most."""

    sessions: int
    """Of one owner, expired ones not counted"""
    classes: int
    """Of one session"""
    examples: int
    """Of one session"""


class SessionNotFound(Exception):
    """No such session, or it expired, or it is another owner's."""


class ClassNotFound(Exception):
    """The session has no class of that label."""


class ExampleNotFound(Exception):
    """The class has no example of that id."""


class ExampleExists(Exception):
    """An example id is taken; carries the id."""


class SessionLimit(Exception):
    """The owner has as many sessions as it may have."""


class ClassLimit(Exception):
    """The write would give the session more classes than it may have."""


class ExampleLimit(Exception):
    """The write would give the session more examples than it may have."""


class StoreUnavailable(CsrnError):
    """The store cannot be reached, or failed."""


class SessionStore(Protocol):
    """Every call may raise StoreUnavailable; those that name a session, SessionNotFound."""

    async def create(self, owner: str, new: NewSession, examples: Sequence[Example] = ()) -> Session:
        """A new session, which holds `examples`. Raises: SessionLimit; as add_examples."""
        ...

    async def get(self, owner: str, session_id: str) -> Session: ...

    async def list_page(
        self, owner: str, *, limit: int, cursor: str | None
    ) -> tuple[list[Session], str | None]:
        """Up to `limit` sessions, oldest first, and the cursor of the next page if there is one."""
        ...

    async def delete(self, owner: str, session_id: str) -> None: ...

    async def add_examples(self, owner: str, session_id: str, examples: Sequence[Example]) -> Session:
        """Add all examples, or none. Raises: ExampleExists, ClassLimit, ExampleLimit."""
        ...

    async def replace_class(
        self, owner: str, session_id: str, label: str, examples: Sequence[Example]
    ) -> Session:
        """Put `examples` in place of all that the class had. Raises: as add_examples."""
        ...

    async def example_ids(self, owner: str, session_id: str, label: str) -> Sequence[str]:
        """Example ids of a class, oldest first. Raises: ClassNotFound."""
        ...

    async def delete_class(self, owner: str, session_id: str, label: str) -> None:
        """Raises: ClassNotFound."""
        ...

    async def delete_example(self, owner: str, session_id: str, label: str, example_id: str) -> None:
        """With its last example a class is gone. Raises: ClassNotFound, ExampleNotFound."""
        ...

    async def load_examples(self, owner: str, session_id: str) -> tuple[Session, Sequence[Example]]:
        """A session with all its examples, as of one moment."""
        ...

    async def revisions(self, session_ids: Iterable[str]) -> dict[str, int]:
        """The revision of each of the sessions, of any owner, that is there and has not expired."""
        ...

    async def count(self) -> int:
        """How many sessions there are, of all owners, expired ones not counted. Cheap."""
        ...

    async def sweep(self) -> None:
        """Delete what has expired, as far as the store does not do so by itself."""
        ...

    async def check(self) -> None:
        """Returns if the store can serve."""
        ...

    async def close(self) -> None: ...
