"""Memory, file handles and threads stay flat under load, and no answer is wrong.

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
from tests.support.api import image, sample
from tests.support.samples import EXPRESSIONS, no_face, sample_bytes
from tests.support.service import Service, teach

pytestmark = pytest.mark.soak
MINUTES = float(os.environ.get("CSRN_SOAK_MINUTES", "15"))
SHARE_OF_LOAD = 0.8
CLIENTS = 12
SAMPLE_EVERY_S = 10
GROWTH = 1.05
"""Largest growth of the memory, from the first tenth of the time to its end"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """Of the process at one moment."""

    rss_mb: float
    handles: int
    threads: int


async def send_request(client: httpx.AsyncClient, path: str, number: int) -> str | None:
    """Most requests classify; some add and delete, send unusable images, or go away.

    Returns what is wrong with the answer.
    """
    faces = [sample(random.choice(EXPRESSIONS), number % 8)]
    expected, statuses = [200], list[int]()
    kind = number % 50
    if kind == 0:
        expected, examples = [201, 204], f"{path}/classes/soak/examples"
        data = {"example_ids": f"soak-{number}"}
        statuses.append((await client.post(examples, files=faces, data=data)).status_code)
        statuses.append((await client.delete(f"{examples}/soak-{number}")).status_code)
    elif kind == 3:
        expected, task = [], asyncio.ensure_future(client.post(f"{path}/classify", files=faces))
        await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])
    else:
        files = {1: [image(b"no image")], 2: [image(no_face())]}.get(kind, faces)
        expected = [400] if kind == 1 else [200]
        statuses.append((await client.post(f"{path}/classify", files=files)).status_code)
    return None if statuses == expected else f"{expected} expected, {statuses} answered"


async def paced_load(service: Service, path: str, rate_per_s: float, until: float) -> list[str | None]:
    """Send requests at a steady rate. Returns what is wrong with each answer."""
    outcomes: list[str | None] = []
    numbers, start = itertools.count(), time.monotonic()

    async def run_client() -> None:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            while time.monotonic() < until:
                number = next(numbers)
                await asyncio.sleep(max(start + number / rate_per_s - time.monotonic(), 0))
                outcomes.append(await send_request(client, path, number))

    await asyncio.gather(*(run_client() for _ in range(CLIENTS)))
    return outcomes


def test_memory_handles_and_threads_stay_flat(tmp_path: Path) -> None:
    readings: list[Reading] = []

    async def watch(process: psutil.Process) -> None:
        while True:
            rss_mb = process.memory_info().rss / 2**20
            readings.append(Reading(rss_mb=rss_mb, handles=process.num_fds(), threads=process.num_threads()))
            await asyncio.sleep(min(SAMPLE_EVERY_S, MINUTES * 6))

    async def soak(service: Service, path: str, rate_per_s: float) -> list[str | None]:
        watching = asyncio.ensure_future(watch(psutil.Process(service.pid)))
        outcomes = await paced_load(service, path, rate_per_s, time.monotonic() + MINUTES * 60)
        watching.cancel()
        return outcomes

    with Service(tmp_path) as service:
        path = teach(service.client, EXPRESSIONS, 3)
        url = f"{service.url}{path}/classify"
        requests = [multipart_request(url, [sample_bytes(label, 5)]) for label in EXPRESSIONS]
        most = asyncio.run(closed_loop(url, requests, clients=CLIENTS, duration_s=10))
        rate_per_s = SHARE_OF_LOAD * len(most.latencies_ms) / most.wall_s
        outcomes = asyncio.run(soak(service, path, rate_per_s))
        early, late, half = readings[len(readings) // 10 + 1], readings[-1], len(readings) // 2
        print(f"\n{len(outcomes)} requests in {MINUTES:g} minutes, {rate_per_s:.0f} per second intended")
        print(f"early {early}\nlate  {late}\nmost  {max(item.rss_mb for item in readings):.0f} MB")
        assert [outcome for outcome in outcomes if outcome is not None] == []
        assert late.rss_mb < GROWTH * early.rss_mb
        assert late.handles <= early.handles + CLIENTS
        # Thread pools grow up to their limit, which they reach within the first half.
        assert max(item.threads for item in readings[half:]) <= max(item.threads for item in readings[:half])
        assert service.stop() == 0
