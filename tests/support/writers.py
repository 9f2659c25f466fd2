"""Processes that write to a store until they are killed."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

from app.sessions.store import SessionStore
from tests.support.stores import Opener, create, example, names

# New processes start fast, as copies of one that has imported this module.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])
EXAMPLES = 3
MOST_S = 0.02
"""The longest that a writer lives after its first acknowledged write"""


def run_in_processes(opener: Opener, use: Callable[[SessionStore, int], Awaitable[None]], count: int) -> None:
    """Run `use` in several processes at once, each with its own store and number."""
    barrier = PROCESSES.Barrier(count)
    started = [
        PROCESSES.Process(target=_run, args=(opener, use, number, barrier.wait)) for number in range(count)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
    assert [process.exitcode for process in started] == [0] * count


def _run(
    opener: Opener,
    use: Callable[[SessionStore, int], Awaitable[None]],
    number: int,
    wait_for_all: Callable[[], int],
) -> None:
    wait_for_all()
    opener.run(lambda store: use(store, number))


def kill_writers(opener: Opener, kills: int) -> None:
    """Kill a process with -9 right after an acknowledged write, again and again.

    Asserts after each kill that the store holds the whole last write.
    """
    moments = random.Random(0)
    session = opener.run(lambda store: create(store))
    for kill in range(kills):
        receiver, sender = PROCESSES.Pipe(duplex=False)
        writer = PROCESSES.Process(target=_write_until_killed, args=(opener, session.id, kill, sender))
        writer.start()
        sender.close()
        acknowledged = receiver.recv()
        time.sleep(moments.uniform(0, MOST_S))
        writer.kill()
        writer.join()
        try:
            while True:
                acknowledged = receiver.recv()
        except EOFError:
            receiver.close()
        _, examples = opener.run(lambda store: store.load_examples("ann", session.id))
        (written,) = {example_id.rsplit("-", 1)[0] for _, example_id in names(examples)}
        assert len(examples) == EXAMPLES
        assert written in {f"{kill}-{acknowledged}", f"{kill}-{acknowledged + 1}"}


def _write_until_killed(opener: Opener, session_id: str, kill: int, acknowledge: Connection) -> None:
    async def write() -> None:
        store = opener.open()
        for number in range(1_000_000):
            ids = [f"{kill}-{number}-{index}" for index in range(EXAMPLES)]
            await store.replace_class("ann", session_id, "a", [example(name) for name in ids])
            acknowledge.send(number)

    asyncio.run(write())
