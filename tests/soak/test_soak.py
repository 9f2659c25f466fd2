"""Memory, file handles and threads stay flat under load, and every response is as expected.

make soak                          # 15 minutes
CSRN_SOAK_MINUTES=2 make soak
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.api import image, teach
from tests.support.samples import EXPRESSIONS, distinct_copy, no_face, sample_bytes
from tests.support.service import Service

pytestmark = pytest.mark.soak
SECONDS = 60 * float(os.environ.get("CSRN_SOAK_MINUTES", "15"))
SHARE_OF_LOAD = 0.8
CLIENTS = 12
MAX_GROWTH = 1.05
"""Of the memory, from the first tenth of the time to the end"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Usage:
    """What the process uses at one moment."""

    rss_mb: float
    handles: int
    threads: int


def usage_of(process: psutil.Process) -> Usage:
    rss_mb = process.memory_info().rss / 2**20
    return Usage(rss_mb=rss_mb, handles=process.num_fds(), threads=process.num_threads())


def is_answered_as_expected(client: httpx.Client, session: str, number: int) -> bool:
    """Send a request: most classify a face. The others add and delete, send no face, or disconnect."""
    face, classify = image(sample_bytes(EXPRESSIONS[number % 4], number % 8)), f"{session}/classify"
    match number % 50:
        case 0:
            examples, name = f"{session}/classes/soak/examples", f"soak-{number}"
            new = image(distinct_copy(sample_bytes(EXPRESSIONS[number % 4], number % 8), number))
            added = client.post(examples, files=[new], data={"example_ids": name})
            deleted = client.delete(f"{examples}/{name}")
            return (added.status_code, deleted.status_code) == (201, 204)
        case 1:
            return client.post(classify, files=[image(b"no image")]).status_code == 400
        case 2:
            return client.post(classify, files=[image(no_face())]).status_code == 200
        case 3:
            with contextlib.suppress(httpx.TimeoutException):
                client.post(classify, files=[face], timeout=0.005)
            return True
    return client.post(classify, files=[face]).status_code == 200


def run_load(url: str, session: str, seconds: float, rate_per_s: float = math.inf) -> list[bool]:
    """Send requests from several clients. Returns for each whether its response was as expected."""
    start, numbers = time.monotonic(), itertools.count()

    def run_client(_: int) -> list[bool]:
        results = []
        with httpx.Client(base_url=url, timeout=60) as client:
            while time.monotonic() < start + seconds:
                number = next(numbers)
                time.sleep(max(start + number / rate_per_s - time.monotonic(), 0))
                results.append(is_answered_as_expected(client, session, number))
        return results

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(itertools.chain(*pool.map(run_client, range(CLIENTS))))


def test_memory_handles_and_threads_stay_flat(tmp_path: Path) -> None:
    service = Service(tmp_path)
    process = psutil.Process(service.pid)
    try:
        session = teach(service.client, dict.fromkeys(EXPRESSIONS, 3))
        rate_per_s = SHARE_OF_LOAD * len(run_load(service.url, session, 10)) / 10
        usages = []
        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(run_load, service.url, session, SECONDS, rate_per_s)
            while not load.done():
                usages.append(usage_of(process))
                time.sleep(min(10, SECONDS / 10))
        early, late, half = usages[len(usages) // 10 + 1], usages[-1], len(usages) // 2
        print(f"\n{len(load.result())} requests in {SECONDS:.0f} s, early {early}, late {late}")
        assert all(load.result())
        assert late.rss_mb < MAX_GROWTH * early.rss_mb
        assert late.handles <= early.handles + CLIENTS
        # Thread pools grow to their limit within the first half.
        assert max(usage.threads for usage in usages[half:]) <= max(usage.threads for usage in usages[:half])
    finally:
        assert service.stop() == 0
