"""A closed-loop HTTP load that costs little itself: it runs on the cores that it measures."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
import urllib.parse
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """What a level of load brought."""

    latencies_ms: list[float]
    failed: int
    """Answers other than 200, and connections lost"""
    wall_s: float


def multipart_request(url: str, images: Sequence[bytes], headers: Sequence[str] = ()) -> bytes:
    """A whole POST of image parts as it goes over the wire."""
    boundary = secrets.token_hex(16)
    body = b"".join(
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="{index}.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode()
        + image
        + b"\r\n"
        for index, image in enumerate(images)
    )
    body += f"--{boundary}--\r\n".encode()
    place = urllib.parse.urlsplit(url)
    lines = [
        f"POST {place.path} HTTP/1.1",
        f"Host: {place.netloc}",
        f"Content-Type: multipart/form-data; boundary={boundary}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def closed_loop(url: str, requests: Sequence[bytes], *, clients: int, duration_s: float) -> Load:
    """`clients` connections, each sending its next request once the last was answered."""
    place = urllib.parse.urlsplit(url)
    assert place.hostname is not None
    latencies_ms: list[float] = []
    failed = 0
    start = time.perf_counter()
    until = start + duration_s

    async def client(number: int) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        count = number
        while (sent := time.perf_counter()) < until:
            writer.write(requests[count % len(requests)])
            count += 1
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_content_length(head))
            except (asyncio.IncompleteReadError, ConnectionError):
                failed += 1
                break
            if head.startswith(b"HTTP/1.1 200 "):
                latencies_ms.append((time.perf_counter() - sent) * 1000)
            else:
                failed += 1
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return Load(latencies_ms=latencies_ms, failed=failed, wall_s=time.perf_counter() - start)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
