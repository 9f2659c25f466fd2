"""Sessions in Redis: for several replicas, any of which serves any session.

A session is one record (JSON) and one hash of its examples' features; a sorted set per owner holds
the session ids in order of creation. Every write is an optimistic transaction: it watches what it
reads, and begins again where another replica was quicker.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pydantic
import redis.exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.sessions.features import features_from_bytes, features_to_bytes
from app.sessions.store import (
    ClassLimit,
    ClassNotFound,
    ExampleExists,
    ExampleLimit,
    ExampleNotFound,
    NewSession,
    Quotas,
    Session,
    SessionLimit,
    SessionNotFound,
    StoreUnavailable,
)
from model.classifier import Example

logger = logging.getLogger("csrn")
T = TypeVar("T")
Pipeline = Any
"""redis.asyncio.client.Pipeline, whose annotations unite what every kind of client may answer"""

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 10.0
CONNECTIONS = 32
LAST_SESSION = "csrn:last-session"


class _Record(pydantic.BaseModel):
    """All of a session but the features."""

    id: str
    number: int
    owner: str
    name: str | None
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    revision: int = 0
    weights_sha256: str
    metadata: dict[str, Any]
    examples: list[tuple[str, str]] = []
    """Label and id of each, oldest first"""

    def session(self) -> Session:
        classes: dict[str, int] = {}
        for label, _ in self.examples:
            classes[label] = classes.get(label, 0) + 1
        return Session(
            **self.model_dump(exclude={"number", "owner", "examples"}),
            classes=classes,
        )

    def ids_of(self, label: str) -> list[str]:
        ids = [example_id for of, example_id in self.examples if of == label]
        if not ids:
            raise ClassNotFound
        return ids

    def add(self, examples: Sequence[Example], quotas: Quotas) -> None:
        taken = {example_id for _, example_id in self.examples}
        for example in examples:
            if example.example_id in taken:
                raise ExampleExists(example.example_id)
            taken.add(example.example_id)
            self.examples.append((example.label, example.example_id))
        if len({label for label, _ in self.examples}) > quotas.classes:
            raise ClassLimit
        if len(self.examples) > quotas.examples:
            raise ExampleLimit

    def remove(self, example_ids: Sequence[str]) -> None:
        self.examples = [example for example in self.examples if example[1] not in example_ids]


class RedisStore:
    """A SessionStore on one Redis server (not a cluster)."""

    def __init__(self, url: str, *, quotas: Quotas) -> None:
        """Does not connect yet: a service may start before its Redis. Raises: ValueError for a bad url."""
        self._quotas = quotas
        # No retries: whether a write whose answer was lost has been made, only the client can find out.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=ANSWER_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=ANSWER_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0, supported_errors=()),
        )
        self._redis: Any = Redis.from_pool(pool)
        self._durability_looked_at = False

    async def create(self, owner: str, new: NewSession, examples: Sequence[Example] = ()) -> Session:
        session_id = secrets.token_hex(16)

        async def create(pipe: Pipeline) -> Session:
            if await pipe.zcard(_owner_key(owner)) >= self._quotas.sessions:
                await self._forget_expired(pipe, owner)
            seconds, microseconds = await pipe.time()
            now = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
            now = now.replace(microsecond=microseconds)
            record = _Record(
                id=session_id,
                number=await pipe.incr(LAST_SESSION),
                owner=owner,
                name=new.name,
                created_at=now,
                expires_at=None if new.ttl_s is None else now + datetime.timedelta(seconds=new.ttl_s),
                weights_sha256=new.weights_sha256,
                metadata=new.metadata,
            )
            pipe.multi()
            pipe.zadd(_owner_key(owner), {session_id: record.number})
            if examples:
                record.add(examples, self._quotas)
                record.revision += 1
            _put(pipe, record, added=examples)
            return record.session()

        return await self._write(create, _owner_key(owner))

    async def get(self, owner: str, session_id: str) -> Session:
        async with _reaching_redis():
            return _owned(await self._redis.get(_record_key(session_id)), owner).session()

    async def list_page(
        self, owner: str, *, limit: int, cursor: str | None
    ) -> tuple[list[Session], str | None]:
        after = int(cursor) if cursor and cursor.isdecimal() else 0
        page: list[_Record] = []
        async with _reaching_redis():
            while len(page) <= limit:
                ids = await self._redis.zrange(
                    _owner_key(owner),
                    f"({after}",
                    "+inf",
                    byscore=True,
                    offset=0,
                    num=limit + 1,
                    withscores=True,
                )
                if not ids:
                    break
                after = int(ids[-1][1])
                found = await self._redis.mget([_record_key(name.decode()) for name, _ in ids])
                page += [_Record.model_validate_json(data) for data in found if data is not None]
        next_cursor = str(page[limit - 1].number) if len(page) > limit else None
        return [record.session() for record in page[:limit]], next_cursor

    async def delete(self, owner: str, session_id: str) -> None:
        async def delete(pipe: Pipeline) -> None:
            _owned(await pipe.get(_record_key(session_id)), owner)
            pipe.multi()
            pipe.delete(_record_key(session_id), _features_key(session_id))
            pipe.zrem(_owner_key(owner), session_id)

        await self._write(delete, _record_key(session_id))

    async def add_examples(self, owner: str, session_id: str, examples: Sequence[Example]) -> Session:
        def add(record: _Record) -> list[str]:
            record.add(examples, self._quotas)
            return []

        return await self._change(owner, session_id, add, added=examples)

    async def replace_class(
        self, owner: str, session_id: str, label: str, examples: Sequence[Example]
    ) -> Session:
        def replace(record: _Record) -> list[str]:
            removed = [example_id for of, example_id in record.examples if of == label]
            record.remove(removed)
            record.add(examples, self._quotas)
            return removed

        return await self._change(owner, session_id, replace, added=examples)

    async def example_ids(self, owner: str, session_id: str, label: str) -> Sequence[str]:
        async with _reaching_redis():
            return _owned(await self._redis.get(_record_key(session_id)), owner).ids_of(label)

    async def delete_class(self, owner: str, session_id: str, label: str) -> None:
        def delete(record: _Record) -> list[str]:
            removed = record.ids_of(label)
            record.remove(removed)
            return removed

        await self._change(owner, session_id, delete)

    async def delete_example(self, owner: str, session_id: str, label: str, example_id: str) -> None:
        def delete(record: _Record) -> list[str]:
            if example_id not in record.ids_of(label):
                raise ExampleNotFound
            record.remove([example_id])
            return [example_id]

        await self._change(owner, session_id, delete)

    async def load_examples(self, owner: str, session_id: str) -> tuple[Session, Sequence[Example]]:
        async with _reaching_redis(), self._redis.pipeline(transaction=True) as pipe:
            pipe.get(_record_key(session_id)).hgetall(_features_key(session_id))
            data, features = await pipe.execute()
        record = _owned(data, owner)
        return record.session(), [
            Example(
                example_id=example_id,
                label=label,
                features=features_from_bytes(features[example_id.encode()]),
            )
            for label, example_id in record.examples
        ]

    async def existing(self, session_ids: Iterable[str]) -> set[str]:
        ids = [*session_ids]
        if not ids:
            return set()
        async with _reaching_redis(), self._redis.pipeline(transaction=False) as pipe:
            for session_id in ids:
                pipe.exists(_record_key(session_id))
            there = await pipe.execute()
        return {session_id for session_id, found in zip(ids, there, strict=True) if found}

    async def sweep(self) -> None:
        """Redis expires sessions by itself."""

    async def check(self) -> None:
        async with _reaching_redis():
            await self._redis.ping()
            if not self._durability_looked_at:
                await self._look_at_durability()
                self._durability_looked_at = True

    async def close(self) -> None:
        await self._redis.aclose()

    async def _look_at_durability(self) -> None:
        """Warns of a Redis that is set up to forget."""
        try:
            info = {**await self._redis.info("persistence"), **await self._redis.info("memory")}
        except redis.exceptions.ResponseError:
            return  # the user of the url may not ask
        if not info.get("aof_enabled"):
            logger.warning("redis: appendonly is off, so a crash of Redis loses what was taught last")
        if info.get("maxmemory_policy", "noeviction") != "noeviction":
            logger.warning("redis: maxmemory-policy is not noeviction, so sessions may vanish")

    async def _change(
        self,
        owner: str,
        session_id: str,
        change: Callable[[_Record], list[str]],
        *,
        added: Sequence[Example] = (),
    ) -> Session:
        """Change a session's examples; `change` returns the ids of those that it removed."""

        async def transaction(pipe: Pipeline) -> Session:
            record = _owned(await pipe.get(_record_key(session_id)), owner)
            removed = change(record)
            record.revision += 1
            pipe.multi()
            if removed:
                pipe.hdel(_features_key(session_id), *removed)
            _put(pipe, record, added=added)
            return record.session()

        return await self._write(transaction, _record_key(session_id))

    async def _write(self, transaction: Callable[[Pipeline], Awaitable[T]], watched: str) -> T:
        """Runs `transaction` with `watched` watched; a cancelled request does not stop it half-way."""

        async def write() -> T:
            async with _reaching_redis():
                written: T = await self._redis.transaction(
                    transaction,
                    watched,
                    value_from_callable=True,
                )
                return written

        return await asyncio.shield(write())

    async def _forget_expired(self, pipe: Pipeline, owner: str) -> None:
        """Raises: SessionLimit where the owner's sessions are all there still."""
        ids = [name.decode() for name in await pipe.zrange(_owner_key(owner), 0, -1)]
        there = await self.existing(ids)
        expired = [session_id for session_id in ids if session_id not in there]
        if not expired:
            raise SessionLimit
        await self._redis.zrem(_owner_key(owner), *expired)


def _record_key(session_id: str) -> str:
    return f"csrn:session:{session_id}"


def _features_key(session_id: str) -> str:
    return f"csrn:features:{session_id}"


def _owner_key(owner: str) -> str:
    return f"csrn:owner:{owner}"


def _owned(data: bytes | None, owner: str) -> _Record:
    record = None if data is None else _Record.model_validate_json(data)
    if record is None or record.owner != owner:
        raise SessionNotFound
    return record


def _put(pipe: Pipeline, record: _Record, *, added: Sequence[Example]) -> None:
    pipe.set(_record_key(record.id), record.model_dump_json())
    if added:
        features = {example.example_id: features_to_bytes(example.features) for example in added}
        pipe.hset(_features_key(record.id), mapping=features)
    if record.expires_at is not None:
        for key in (_record_key(record.id), _features_key(record.id)):
            pipe.pexpireat(key, record.expires_at)


@asynccontextmanager
async def _reaching_redis() -> AsyncIterator[None]:
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as error:
        raise StoreUnavailable(f"redis: {error}") from error
