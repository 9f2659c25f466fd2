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
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import redis.exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.sessions.features import features_from_bytes
from app.sessions.redis_record import Pipeline, SessionRecord, features_key, owned, owner_key, put, record_key
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
LAST_SESSION = "csrn:last-session"
"""Counts sessions, so that they can be listed in order of creation"""


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
            if await pipe.zcard(owner_key(owner)) >= self._quotas.sessions:
                await self._forget_expired(pipe, owner)
            seconds, microseconds = await pipe.time()
            now = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
            now = now.replace(microsecond=microseconds)
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
            pipe.zadd(owner_key(owner), {session_id: record.number})
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
        async def read() -> list[SessionRecord]:
            after = int(cursor) if cursor and cursor.isdecimal() else 0
            found: list[SessionRecord] = []
            while len(found) <= limit:
                ids = await self._redis.zrange(
                    owner_key(owner),
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
                records = await self._redis.mget([record_key(name.decode()) for name, _ in ids])
                found += [SessionRecord.model_validate_json(data) for data in records if data is not None]
            return found

        found = await self._read(read)
        next_cursor = str(found[limit - 1].number) if len(found) > limit else None
        return [record.session() for record in found[:limit]], next_cursor

    async def delete(self, owner: str, session_id: str) -> None:
        async def delete(pipe: Pipeline) -> None:
            owned(await pipe.get(record_key(session_id)), owner)
            pipe.multi()
            pipe.delete(record_key(session_id), features_key(session_id))
            pipe.zrem(owner_key(owner), session_id)

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
                pipe.get(record_key(session_id))
                pipe.hgetall(features_key(session_id))
                data, features = await pipe.execute()
            return data, features

        data, features = await self._read(read)
        record = owned(data, owner)
        return record.session(), [
            Example(
                example_id=example_id,
                label=label,
                features=features_from_bytes(features[example_id.encode()]),
            )
            for label, example_id in record.examples
        ]

    async def existing(self, session_ids: Iterable[str]) -> set[str]:
        async def read() -> set[str]:
            ids = [*session_ids]
            async with self._redis.pipeline(transaction=False) as pipe:
                for session_id in ids:
                    pipe.exists(record_key(session_id))
                there = await pipe.execute()
            return {session_id for session_id, found in zip(ids, there, strict=True) if found}

        return await self._read(read)

    async def sweep(self) -> None:
        """Redis expires sessions by itself."""

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
            record = owned(await pipe.get(record_key(session_id)), owner)
            removed = change(record)
            record.revision += 1
            pipe.multi()
            if removed:
                pipe.hdel(features_key(session_id), *removed)
            put(pipe, record, added=added)
            return record.session()

        return await self._write(transaction, record_key(session_id))

    async def _record(self, owner: str, session_id: str) -> SessionRecord:
        return owned(await self._read(lambda: self._redis.get(record_key(session_id))), owner)

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
            while True:
                async with _reaching_redis(), self._redis.pipeline(transaction=True) as pipe:
                    # A write is begun after a first answer, so that it is not sent down a dead connection.
                    await self._read(functools.partial(pipe.watch, watched))
                    written = await transaction(pipe)
                    try:
                        await pipe.execute()
                        return written
                    except redis.exceptions.WatchError:
                        continue

        return await asyncio.shield(write())

    async def _forget_expired(self, pipe: Pipeline, owner: str) -> None:
        """Raises: SessionLimit where the owner's sessions are all there still."""
        ids = [name.decode() for name in await pipe.zrange(owner_key(owner), 0, -1)]
        there = await self.existing(ids)
        expired = [session_id for session_id in ids if session_id not in there]
        if not expired:
            raise SessionLimit
        await self._redis.zrem(owner_key(owner), *expired)


@asynccontextmanager
async def _reaching_redis() -> AsyncIterator[None]:
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as error:
        raise StoreUnavailable(f"redis: {error}") from error
