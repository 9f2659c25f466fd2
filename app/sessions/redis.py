"""Sessions in Redis: for several replicas, any of which serves any session.

A session is one record (JSON) and one hash of its examples' features; a sorted set per owner holds
the session ids in order of creation. Every write is an optimistic transaction: it watches what it
reads, and begins again where another replica was quicker.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import logging
import math
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import redis.exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.sessions.features import features_from_bytes
from app.sessions.redis_record import (
    ALL_SESSIONS,
    LAST_SESSION,
    RECORD,
    REVISION,
    Pipeline,
    SessionRecord,
    expiries_key,
    features_key,
    owned,
    owner_key,
    put,
    record_key,
)
from app.sessions.store import (
    ExampleNotFound,
    NewSession,
    Quotas,
    Session,
    SessionLimit,
    StoreUnavailable,
)
from model.support_set import Example

logger = logging.getLogger("csrn")
T = TypeVar("T")

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 10.0
CONNECTIONS = 32
MAX_ATTEMPTS, LONGER_PAUSE_S = 100, 0.002
"""How often a write begins again where others were quicker, and how much longer it pauses each time"""


class RedisStore:
    """A SessionStore on one Redis server (not a cluster)."""

    def __init__(self, url: str, *, quotas: Quotas) -> None:
        """Does not connect yet: a service may start before Redis. Raises: StoreUnavailable for a bad url."""
        self._quotas = quotas
        # No retries: whether a write whose answer was lost has been made, only the client can find out.
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=ANSWER_TIMEOUT_S,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                socket_timeout=ANSWER_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0, supported_errors=()),
            )
        except ValueError as error:
            raise StoreUnavailable(f"CSRN_STORE is no address of a Redis: {error}") from None
        self._redis: Any = Redis.from_pool(pool)
        self._durability_looked_at = False

    async def create(self, owner: str, new: NewSession, examples: Sequence[Example] = ()) -> Session:
        session_id = secrets.token_hex(16)

        async def create(pipe: Pipeline) -> Session:
            now = await _now(pipe)
            expired = await pipe.zrangebyscore(expiries_key(owner), "-inf", now.timestamp())
            if await pipe.zcard(owner_key(owner)) - len(expired) >= self._quotas.sessions:
                raise SessionLimit
            record = SessionRecord(
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
            _forget(pipe, owner, expired)
            pipe.zadd(owner_key(owner), {session_id: record.number})
            ends = math.inf if record.expires_at is None else record.expires_at.timestamp()
            pipe.zadd(ALL_SESSIONS, {session_id: ends})
            if record.expires_at is not None:
                pipe.zadd(expiries_key(owner), {session_id: ends})
            if examples:
                record.add(examples, self._quotas)
                record.revision += 1
            put(pipe, record, added=examples)
            return record.session()

        return await self._write(create, owner_key(owner))

    async def get(self, owner: str, session_id: str) -> Session:
        return (await self._record(owner, session_id)).session()

    async def list_page(
        self, owner: str, *, limit: int, cursor: str | None
    ) -> tuple[list[Session], str | None]:
        async def read() -> tuple[list[tuple[bytes, float]], list[bytes | None]]:
            now = await _now(self._redis)
            expired = await self._redis.zrangebyscore(expiries_key(owner), "-inf", now.timestamp())
            async with self._redis.pipeline(transaction=True) as pipe:
                _forget(pipe, owner, expired)
                after = f"({int(cursor or 0)}"
                pipe.zrange(
                    owner_key(owner), after, "+inf", byscore=True, offset=0, num=limit + 1, withscores=True
                )
                listed = (await pipe.execute())[-1]
                for session_id, _ in listed[:limit]:
                    pipe.hget(record_key(session_id.decode()), RECORD)
                return listed, await pipe.execute()

        listed, found = await self._read(read)
        page = [SessionRecord.model_validate_json(data) for data in found if data is not None]
        next_cursor = str(int(listed[limit - 1][1])) if len(listed) > limit else None
        return [record.session() for record in page], next_cursor

    async def delete(self, owner: str, session_id: str) -> None:
        async def delete(pipe: Pipeline) -> None:
            owned(await pipe.hget(record_key(session_id), RECORD), owner)
            pipe.multi()
            pipe.delete(record_key(session_id), features_key(session_id))
            _forget(pipe, owner, [session_id])

        await self._write(delete, record_key(session_id))

    async def add_examples(self, owner: str, session_id: str, examples: Sequence[Example]) -> Session:
        def add(record: SessionRecord) -> list[str]:
            record.add(examples, self._quotas)
            return []

        return await self._change(owner, session_id, add, added=examples)

    async def replace_class(
        self, owner: str, session_id: str, label: str, examples: Sequence[Example]
    ) -> Session:
        def replace(record: SessionRecord) -> list[str]:
            removed = [example_id for of, example_id in record.examples if of == label]
            record.remove(removed)
            record.add(examples, self._quotas)
            return removed

        return await self._change(owner, session_id, replace, added=examples)

    async def example_ids(self, owner: str, session_id: str, label: str) -> Sequence[str]:
        return (await self._record(owner, session_id)).ids_of(label)

    async def delete_class(self, owner: str, session_id: str, label: str) -> None:
        def delete(record: SessionRecord) -> list[str]:
            removed = record.ids_of(label)
            record.remove(removed)
            return removed

        await self._change(owner, session_id, delete)

    async def delete_example(self, owner: str, session_id: str, label: str, example_id: str) -> None:
        def delete(record: SessionRecord) -> list[str]:
            if example_id not in record.ids_of(label):
                raise ExampleNotFound
            record.remove([example_id])
            return [example_id]

        await self._change(owner, session_id, delete)

    async def load_examples(self, owner: str, session_id: str) -> tuple[Session, Sequence[Example]]:
        async def read() -> tuple[bytes | None, dict[bytes, bytes]]:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hget(record_key(session_id), RECORD)
                pipe.hgetall(features_key(session_id))
                data, features = await pipe.execute()
            return data, features

        data, features = await self._read(read)
        record = owned(data, owner)
        if len(features) != len(record.examples):
            raise StoreUnavailable("redis: features are missing: it must not evict what it holds")
        return record.session(), [
            Example(
                example_id=example_id,
                label=label,
                features=features_from_bytes(features[example_id.encode()]),
            )
            for label, example_id in record.examples
        ]

    async def revisions(self, session_ids: Iterable[str]) -> dict[str, int]:
        ids = [*session_ids]

        async def read() -> list[bytes | None]:
            async with self._redis.pipeline(transaction=False) as pipe:
                for session_id in ids:
                    pipe.hget(record_key(session_id), REVISION)
                found: list[bytes | None] = await pipe.execute()
            return found

        found = zip(ids, await self._read(read), strict=True)
        return {session_id: int(revision) for session_id, revision in found if revision is not None}

    async def count(self) -> int:
        async def read() -> int:
            now = await _now(self._redis)
            return int(await self._redis.zcount(ALL_SESSIONS, f"({now.timestamp()}", "+inf"))

        return await self._read(read)

    async def sweep(self) -> None:
        """Redis expires sessions by itself, but not their places in the count."""

        async def forget() -> None:
            now = await _now(self._redis)
            await self._redis.zremrangebyscore(ALL_SESSIONS, "-inf", now.timestamp())

        await self._read(forget)

    async def check(self) -> None:
        await self._read(self._redis.ping)
        if not self._durability_looked_at:
            await self._read(self._look_at_durability)
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
        change: Callable[[SessionRecord], list[str]],
        *,
        added: Sequence[Example] = (),
    ) -> Session:
        """Change a session's examples; `change` returns the ids of those that it removed."""

        async def transaction(pipe: Pipeline) -> Session:
            record = owned(await pipe.hget(record_key(session_id), RECORD), owner)
            removed = change(record)
            record.revision += 1
            pipe.multi()
            if removed:
                pipe.hdel(features_key(session_id), *removed)
            put(pipe, record, added=added)
            return record.session()

        return await self._write(transaction, record_key(session_id))

    async def _record(self, owner: str, session_id: str) -> SessionRecord:
        return owned(await self._read(lambda: self._redis.hget(record_key(session_id), RECORD)), owner)

    async def _read(self, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` gives; after a restart of Redis it is tried again on a new connection."""
        async with _reaching_redis():
            try:
                return await read()
            except redis.exceptions.ConnectionError:
                await self._redis.connection_pool.disconnect(inuse_connections=False)
                return await read()

    async def _write(self, transaction: Callable[[Pipeline], Awaitable[T]], watched: str) -> T:
        """Runs `transaction` with `watched` watched; a cancelled request does not stop it half-way."""

        async def write() -> T:
            for attempt in range(MAX_ATTEMPTS):
                async with _reaching_redis(), self._redis.pipeline(transaction=True) as pipe:
                    # A write is begun after a first answer, so that it is not sent down a dead connection.
                    await self._read(functools.partial(pipe.watch, watched))
                    written = await transaction(pipe)
                    try:
                        await pipe.execute()
                        return written
                    except redis.exceptions.WatchError:
                        pass
                await asyncio.sleep(random.uniform(0, attempt * LONGER_PAUSE_S))  # noqa: S311
            raise StoreUnavailable("redis: too many write to one session at once")

        return await asyncio.shield(write())


def _forget(pipe: Pipeline, owner: str, session_ids: Sequence[str | bytes]) -> None:
    """Queue the commands that take sessions off their owner's lists."""
    if session_ids:
        pipe.zrem(owner_key(owner), *session_ids)
        pipe.zrem(expiries_key(owner), *session_ids)
        pipe.zrem(ALL_SESSIONS, *session_ids)


async def _now(client: Any) -> datetime.datetime:
    """By Redis's clock, which all replicas share."""
    seconds, microseconds = await client.time()
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(microsecond=microseconds)


@asynccontextmanager
async def _reaching_redis() -> AsyncIterator[None]:
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as error:
        raise StoreUnavailable(f"redis: {error}") from error
