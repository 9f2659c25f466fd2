"""Hours in minutes: memory, file handles and threads stay flat under load, and nothing is lost.

make soak                          # 15 minutes, then an attack
CSRN_SOAK_MINUTES=2 make soak
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import random
import time
from pathlib import Path

import httpx
import psutil
import pytest

from app.bench.load import closed_loop, multipart_request
from app.bench.service_process import ServiceProcess
from tests.support.samples import EXPRESSIONS, no_face, sample_bytes
from tests.support.service import Service, teach

pytestmark = pytest.mark.soak
MINUTES = float(os.environ.get("CSRN_SOAK_MINUTES", "15"))
SHARE_OF_LOAD = 0.8
CLIENTS = 12
SAMPLE_EVERY_S = 10
GROWTH = 1.05
"""Of the memory, from the first tenth of the time to its end"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """Of the process, at one moment."""

    rss_mb: float
    handles: int
    threads: int


def reading(process: psutil.Process) -> Reading:
    return Reading(
        rss_mb=process.memory_info().rss / 2**20, handles=process.num_fds(), threads=process.num_threads()
    )


async def paced(service: ServiceProcess, path: str, rate_per_s: float, until: float) -> tuple[int, list[str]]:
    """Requests at a steady rate: most classify; some teach, delete, go away, or send what cannot be read.

    Returns how many there were, and what answered otherwise than it should.
    """
    rng = random.Random(0)
    count, wrong = 0, list[str]()
    turns = itertools.count()
    start = time.monotonic()

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        faces = [("images", ("q.jpg", sample_bytes(rng.choice(EXPRESSIONS), number % 8), "image/jpeg"))]
        kind = number % 50
        if kind == 0:
            example = f"{path}/classes/soak/examples"
            added = await client.post(example, files=faces, data={"example_ids": f"soak-{number}"})
            deleted = await client.delete(f"{example}/soak-{number}")
            expected, got = [201, 204], [added.status_code, deleted.status_code]
        elif kind == 1:
            refused = await client.post(f"{path}/classify", files=[("images", ("q.jpg", b"no image"))])
            expected, got = [400], [refused.status_code]
        elif kind == 2:
            none = await client.post(f"{path}/classify", files=[("images", ("q.png", no_face()))])
            expected, got = [200], [none.status_code]
        elif kind == 3:
            task = asyncio.ensure_future(client.post(f"{path}/classify", files=faces))
            await asyncio.sleep(0.005)
            task.cancel()
            await asyncio.wait([task])
            expected = got = []
        else:
            answer = await client.post(f"{path}/classify", files=faces)
            expected, got = [200], [answer.status_code]
        if got != expected:
            wrong.append(f"{expected} expected, {got} answered")

    async def client_loop() -> None:
        nonlocal count
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            while time.monotonic() < until:
                number = next(turns)
                await asyncio.sleep(max(start + number / rate_per_s - time.monotonic(), 0))
                await ask(client, number)
                count += 1

    await asyncio.gather(*(client_loop() for _ in range(CLIENTS)))
    return count, wrong


def test_memory_handles_and_threads_stay_flat(tmp_path: Path) -> None:
    service = Service(tmp_path)
    process = psutil.Process(service.pid)
    try:
        with httpx.Client(base_url=service.url) as client:
            path = teach(client, EXPRESSIONS, 3)
        url = f"{service.url}{path}/classify"
        requests = [multipart_request(url, [sample_bytes(label, 5)]) for label in EXPRESSIONS]
        most = asyncio.run(closed_loop(url, requests, clients=CLIENTS, duration_s=10))
        rate_per_s = SHARE_OF_LOAD * len(most.latencies_ms) / most.wall_s

        async def soak() -> tuple[int, list[str], list[Reading]]:
            until = time.monotonic() + MINUTES * 60
            readings = [reading(process)]

            async def watch() -> None:
                while True:
                    await asyncio.sleep(min(SAMPLE_EVERY_S, MINUTES * 6))
                    readings.append(reading(process))

            watching = asyncio.ensure_future(watch())
            count, wrong = await paced(service, path, rate_per_s, until)
            watching.cancel()
            return count, wrong, readings

        count, wrong, readings = asyncio.run(soak())
        early, late = readings[len(readings) // 10 + 1], readings[-1]
        print(
            f"\n{count} requests in {MINUTES:g} minutes, {rate_per_s:.0f} a second intended; "
            f"{len(wrong)} wrong"
        )
        print(f"early {early}\nlate  {late}\nmost  {max(item.rss_mb for item in readings):.0f} MB")
        assert wrong == []
        assert late.rss_mb < GROWTH * early.rss_mb
        assert late.handles <= early.handles + CLIENTS
        # Thread pools grow to their bound as they are used: they have within the first half.
        half = len(readings) // 2
        assert max(item.threads for item in readings[half:]) <= max(item.threads for item in readings[:half])
    finally:
        assert service.stop() == 0
