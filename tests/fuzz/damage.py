"""Damage that keeps a file's structure: one part changes, lengths and checksums are computed again."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from tests.support.png import png_file

TOKENS = (
    b"Exif\0\0II*\0", b"ICC_PROFILE\0", b"IHDR", b"IDAT", b"iCCPx\0\0", b"acTL\0\0\0\2", b"VP8X", b"ANMF",
    b"\xff\xc2", b"\xff\xda", b"\xff\xdb", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\1\0\0", b"F8_E4M3",
    b"NaN", b"1e999", b"\\ud800", b'name="images"', b'filename="../../x"', b"; filename*=utf-8''%ff%00",
)  # fmt: skip
"""Bytes that the fuzzer inserts anywhere"""
JSON_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**31, 2**64, 10**400, 0.5, 1e308, float("nan"), "", "0", "a" * 5000, "\0", "\ud800",
    "é\u202e笑", [], {}, [[]], [0] * 1000, {"": {}}, "F16", "F8_E4M3", "C64", "../../x",
)  # fmt: skip


def damaged(data: bytes, rng: random.Random, mutate: Callable[[bytes], bytes], donors: list[bytes]) -> bytes:
    """Change, remove, repeat, move or insert one part of a file, at any depth.

    Args: mutate, changes bytes of an unknown format; donors, files whose parts may be inserted.
    """
    try:
        if data.startswith(b"{") and rng.random() < 0.9:
            return json.dumps(_with_other_value(json.loads(data), rng)).encode("utf-8", "surrogatepass")
        parts, join = _split(data)
        if rng.random() < 0.2:
            return mutate(data)
        (at,) = rng.choices(range(len(parts)), [len(part) ** 0.5 for part in parts])
        match rng.randrange(10):
            case 0:
                del parts[at]
            case 1:
                parts[at:at] = [parts[at]] * rng.choice((1, 3, 150))
            case 2:
                parts.insert(rng.randrange(len(parts)), parts.pop(at))
            case 3:
                parts.insert(at, rng.choice(_split(rng.choice(donors))[0]))
            case _:
                parts[at] = damaged(parts[at], rng, mutate, donors)
        return join(parts)
    except (ValueError, LookupError, struct.error, zlib.error, zipfile.BadZipFile, RecursionError):
        return mutate(data)  # The format is unknown, or the file is too damaged to have parts.


def _with_other_value(tree: Any, rng: random.Random) -> Any:
    """A JSON value with one node replaced or removed. A string may hold JSON itself."""
    if isinstance(tree, str) and tree.startswith("{"):
        return json.dumps(_with_other_value(json.loads(tree), rng))
    if isinstance(tree, dict | list) and tree and rng.random() < 0.9:
        changed: Any = tree.copy()
        key = rng.choice(list(tree)) if isinstance(tree, dict) else rng.randrange(len(tree))
        changed[key] = _with_other_value(tree[key], rng)
        if rng.random() < 0.1:
            del changed[key]
        return changed
    if isinstance(tree, int) and rng.random() < 0.5:
        return tree + rng.choice((-1, 1, 2**16, 2**32))
    return rng.choice(JSON_VALUES)


def _split(data: bytes) -> tuple[list[bytes], Callable[[list[bytes]], bytes]]:
    """The parts of a file, and the function that joins parts to a file. Raises: ValueError."""
    if data.startswith(b"\x89PNG"):
        return _chunks(data[8:], ">I4s", 4), png_file
    if data.startswith(b"IDATx"):
        return [zlib.decompress(data[4:])], lambda parts: b"IDAT" + zlib.compress(b"".join(parts), 1)
    if data.startswith(b"RIFF"):
        return _chunks(data[12:], "<4sI", 0), _joined_webp
    if data.startswith(b"\xff\xd8"):
        return re.split(rb"(?=\xff[^\x00\xd0-\xd7\xff])", data)[1:], _joined_jpeg
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [b"%s\n%s" % (name.encode(), archive.read(name)) for name in archive.namelist()], _zipped
    if data[8:9] == b"{":  # safetensors: a JSON header with its length before it, then the tensors
        end = 8 + int.from_bytes(data[:8], "little")
        return [data[8:end], data[end:]], lambda parts: struct.pack("<Q", len(parts[0])) + b"".join(parts)
    for start, separator in ((b"--b\r\n", b"\r\n--b"), (b"\r\nContent-Disp", b"\r\n\r\n"), (b"P", b"\n")):
        if data.startswith(start):  # A multipart body, one of its parts, a request
            return data.split(separator, 1 if start != b"--b\r\n" else -1), separator.join
    raise ValueError("not a known format")


def _chunks(data: bytes, header: str, checksum_bytes: int) -> list[bytes]:
    """The chunks of a PNG or a WebP: the kind, then the content."""
    chunks, at = [], 0
    while at + 8 <= len(data):
        fields = struct.unpack_from(header, data, at)
        kind, length = sorted(fields, key=lambda field: isinstance(field, int))
        chunks.append(kind + data[at + 8 : at + 8 + length])
        at += 8 + length + (checksum_bytes or length % 2)
    return chunks


def _joined_webp(parts: list[bytes]) -> bytes:
    chunks = (part[:4] + struct.pack("<I", len(part) - 4) + part[4:] + bytes(len(part) % 2) for part in parts)
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _joined_jpeg(parts: list[bytes]) -> bytes:
    start, end, scan = 0xD8, 0xD9, 0xDA  # The length of a scan's header does not include its data.
    return b"".join(
        part if part[1] in (start, end, scan) else part[:2] + struct.pack(">H", len(part) - 2) + part[4:]
        for part in parts
    )


def _zipped(parts: list[bytes]) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        for part in parts:
            name, _, content = part.partition(b"\n")
            archive.writestr(name.decode("latin-1"), content)
    return buffer.getvalue()
