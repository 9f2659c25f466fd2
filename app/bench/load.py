"""HTTP load from clients that wait for each response before they send the next request.

It writes prepared bytes to sockets to save processor time: it shares the cores of the measured service.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import statistics
import time
from collections.abc import Mapping, Sequence

import httpx

MAX_ANSWERS = 1000
"""The most answers of one load whose bodies are kept"""
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """The outcome of one level of load."""

    latencies_ms: list[float]
    """Of each request that was answered with 200"""
    answers: list[bytes]
    """The bodies of the first of these answers"""
    failed: int
    """Number of other answers and lost connections"""
    wall_s: float


def stages_ms(load: Load) -> dict[str, float]:
    """The median of each stage that the service reports in its answers to queries."""
    timings = [json.loads(answer)["timings_ms"] for answer in load.answers]
    return {stage: statistics.median(timing[stage] for timing in timings) for stage in timings[0]}


def multipart_request(url: str, images: Sequence[bytes], fields: Mapping[str, str] = {}) -> bytes:
    """A POST of images and text fields as the bytes that go over the wire."""
    files = [("images", (f"{index}.jpg", image)) for index, image in enumerate(images)]
    request = httpx.Request("POST", url, files=files, data=fields)
    headers = [b"%s: %s" % header for header in request.headers.raw]
    return b"\r\n".join([b"POST %s HTTP/1.1" % request.url.raw_path, *headers, b"", request.read()])


async def closed_loop(url: str, requests: Sequence[bytes], *, clients: int, duration_s: float) -> Load:
    """Run several clients at once. Each sends its next request when the last one was answered."""
    address = httpx.URL(url)
    latencies_ms: list[float] = []
    answers: list[bytes] = []
    failed = 0
    start = time.perf_counter()

    async def client(count: int) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(address.host, address.port)
        while (sent := time.perf_counter()) < start + duration_s:
            writer.write(requests[count % len(requests)])
            count += 1
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                length = CONTENT_LENGTH.search(head)
                body = await reader.readexactly(int(length[1]) if length else 0)
            except (asyncio.IncompleteReadError, ConnectionError):
                failed += 1
                break
            if head.startswith(b"HTTP/1.1 200 "):
                latencies_ms.append((time.perf_counter() - sent) * 1000)
                if len(answers) < MAX_ANSWERS:
                    answers.append(body)
            else:
                failed += 1
        writer.close()

    await asyncio.gather(*map(client, range(clients)))
    return Load(latencies_ms=latencies_ms, answers=answers, failed=failed, wall_s=time.perf_counter() - start)
