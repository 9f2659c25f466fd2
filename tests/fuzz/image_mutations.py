"""Damage to JPEG, PNG and WebP files that knows their parts: lengths and check sums mostly fit."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

from tests.fuzz.mutations import damaged, lying_number

Piece = tuple[bytes, bytes]
"""A chunk's kind or a segment's marker, and its content"""


def damaged_image(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """An image file with its parts damaged, moved, doubled, left out or joined by hostile ones."""
    if data.startswith(b"\xff\xd8"):
        return _join_jpeg(rng, _damage_pieces(rng, _jpeg_pieces(data), others, _hostile_segment))
    if data.startswith(b"\x89PNG"):
        return data[:8] + _join_png(rng, _damage_pieces(rng, _png_pieces(data), others, _hostile_chunk))
    body = _join_webp(rng, _damage_pieces(rng, _webp_pieces(data), others, _hostile_webp_chunk))
    size = lying_number(rng) if rng.random() < 0.05 else len(body) + 4
    return b"RIFF" + struct.pack("<I", size % 2**32) + b"WEBP" + body


def hostile_exif(rng: random.Random) -> bytes:
    """Tags with any type, count and place; directories that may point at themselves."""
    order, mark = rng.choice((("<", b"II*\0"), (">", b"MM\0*"), ("<", b"MM\0*"), (">", rng.randbytes(4))))
    entries = b"".join(
        struct.pack(
            order + "HHII",
            rng.choice((0x0112, 0x0112, 0x8769, 0x8825, 0x0201, 0x011A, 0x0128, rng.getrandbits(16))),
            rng.choice((1, 2, 3, 4, 5, 7, 12, 13, rng.getrandbits(16))),
            rng.choice((0, 1, 1, 2, lying_number(rng))) % 2**32,
            rng.choice((1, 6, 8, 8 << 16, 9, lying_number(rng))) % 2**32,
        )
        for _ in range(rng.choice((0, 1, 1, 3, 40)))
    )
    count = len(entries) // 12 if rng.random() < 0.8 else rng.getrandbits(16)
    following = rng.choice((0, 8, lying_number(rng))) % 2**32
    directory = struct.pack(order + "H", count) + entries + struct.pack(order + "I", following)
    return mark + struct.pack(order + "I", 8 if rng.random() < 0.9 else lying_number(rng) % 2**32) + directory


def _damage_pieces(
    rng: random.Random,
    pieces: list[Piece],
    others: list[bytes],
    hostile: Callable[[random.Random], Piece],
) -> list[Piece]:
    pieces = list(pieces)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not pieces:
            break
        at = rng.randrange(len(pieces))
        kind, content = pieces[at]
        match rng.randrange(9):
            case 0:
                del pieces[at]
            case 1:
                pieces[at:at] = [pieces[at]] * rng.choice((1, 3, 150))
            case 2:
                pieces.insert(rng.randint(0, len(pieces)), pieces.pop(at))
            case 3 | 4:
                pieces.insert(at, hostile(rng))
            case 5:
                # The piece that says what size and kind of image it is.
                head = next((i for i, (k, _) in enumerate(pieces) if k in _HEADS), at)
                pieces[head] = (pieces[head][0], _other_number(rng, pieces[head][1]))
            case 6:
                pieces[at] = (kind, _other_number(rng, content))
            case _:
                pieces[at] = (kind, damaged(rng, content, others))
    return pieces


_HEADS = {b"IHDR", b"VP8X", b"ANMF", b"\xff\xc0", b"\xff\xc2", b"VP8 ", b"VP8L"}


def _other_number(rng: random.Random, content: bytes) -> bytes:
    if not content:
        return content
    at, size = rng.randrange(min(len(content), 24)), rng.choice((1, 2, 3, 4))
    lie: int = lying_number(rng) % 2 ** (8 * size)
    number = lie.to_bytes(size, rng.choice(("big", "little")))
    return content[:at] + number + content[at + size :]


def _png_pieces(data: bytes) -> list[Piece]:
    pieces, at = [], 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        pieces.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return pieces


def _join_png(rng: random.Random, pieces: list[Piece]) -> bytes:
    joined = []
    for kind, content in pieces:
        if kind == b"IDAT" and rng.random() < 0.1:
            content = _other_scanlines(rng, content)
        length = lying_number(rng) % 2**32 if rng.random() < 0.02 else len(content)
        check = rng.getrandbits(32) if rng.random() < 0.02 else zlib.crc32(kind + content)
        joined.append(struct.pack(">I", length) + kind + content + struct.pack(">I", check))
    return b"".join(joined)


def _other_scanlines(rng: random.Random, content: bytes) -> bytes:
    """The pixels damaged before they are compressed: filter bytes, too many or too few of them."""
    try:
        return zlib.compress(damaged(rng, zlib.decompress(content), [content]), 1)
    except zlib.error:
        return content


def _hostile_chunk(rng: random.Random) -> Piece:
    inflating = zlib.compress(bytes(rng.choice((1000, 2**20, 2**22))))
    text = rng.choice((b"", b"x", b"\xff" * 90, b"XML:com.adobe.xmp", b"Raw profile type exif"))
    return rng.choice(
        (
            (b"zTXt", text + b"\0\0" + inflating),
            (b"iTXt", text + b"\0\1\0\0\0" + inflating),
            (b"iCCP", text + b"\0\0" + inflating),
            (b"eXIf", hostile_exif(rng)),
            (b"tRNS", rng.randbytes(rng.choice((0, 1, 2, 6, 256, 300)))),
            (b"PLTE", rng.randbytes(rng.choice((0, 3, 4, 768, 771)))),
            (b"acTL", struct.pack(">II", lying_number(rng) % 2**32, 0)),
            (b"fcTL", struct.pack(">7I", *(lying_number(rng) % 2**32 for _ in range(7)))[:26]),
            (b"IHDR", struct.pack(">II", *(lying_number(rng) % 2**32 for _ in "wh")) + rng.randbytes(5)),
            (b"IDAT", rng.randbytes(rng.choice((0, 1, 50)))),
            (b"IEND", b""),
            (rng.randbytes(4), rng.randbytes(8)),
        )
    )


def _jpeg_pieces(data: bytes) -> list[Piece]:
    """Segments with their content; what follows a scan's header belongs to it."""
    pieces, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, (length,) = data[at : at + 2], struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        if marker == b"\xff\xda":
            while end < len(data) - 1 and not (
                data[end] == 0xFF and data[end + 1] and not 0xD0 <= data[end + 1] <= 0xD7
            ):
                end += 1
        pieces.append((marker, data[at + 4 : end]))
        at = end
    return pieces


def _join_jpeg(rng: random.Random, pieces: list[Piece]) -> bytes:
    joined = [b"\xff\xd8"]
    header_bytes = {b"\xff\xda": 0}
    for marker, content in pieces:
        length = len(content) + 2
        if marker in header_bytes and content:
            length = 6 + 2 * content[0]
        if rng.random() < 0.02:
            length = lying_number(rng)
        joined += [marker, struct.pack(">H", length % 2**16), content]
    if rng.random() < 0.95:
        joined.append(b"\xff\xd9")
    return b"".join(joined)


def _hostile_segment(rng: random.Random) -> Piece:
    sides = [rng.choice((0, 1, 16, 64, 1280, 8192, 65500, 65535)) for _ in "hw"]
    components = rng.choice((0, 1, 3, 4, 255))
    frame = struct.pack(">BHHB", rng.choice((8, 8, 12)), *sides, components) + b"".join(
        bytes((index + 1, rng.choice((0x11, 0x22, 0x41, 0x14, 0x44, 0, 0xFF)), rng.randrange(4)))
        for index in range(min(components, 4))
    )
    return rng.choice(
        (
            (b"\xff\xe1", b"Exif\0\0" + hostile_exif(rng)),
            (b"\xff\xe2", b"ICC_PROFILE\0" + rng.randbytes(20)),
            (b"\xff\xe2", b"MPF\0" + hostile_exif(rng)),
            (b"\xff\xed", b"Photoshop 3.0\0" + b"8BIM\x03\xed" + rng.randbytes(20)),
            (b"\xff\xee", b"Adobe" + rng.randbytes(7)),
            (b"\xff\xdd", rng.randbytes(2)),
            (b"\xff" + bytes((rng.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA)),)), frame),
            (b"\xff\xda", bytes((1, 1, 0, 1, 1, 0)) + rng.randbytes(30).replace(b"\xff", b"\0")),
            (b"\xff\xc4", bytes((rng.choice((0, 1, 0x10, 0x11, 0xFF)),)) + rng.randbytes(60)),
            (b"\xff\xdb", bytes((rng.choice((0, 1, 0x10, 0xFF)),)) + rng.randbytes(rng.choice((64, 128, 3)))),
            (b"\xff\xd9", b""),
            (b"\xff\xd8", b""),
        )
    )


def _webp_pieces(data: bytes) -> list[Piece]:
    pieces, at = [], 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        pieces.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return pieces


def _join_webp(rng: random.Random, pieces: list[Piece]) -> bytes:
    joined = []
    for kind, content in pieces:
        length = lying_number(rng) % 2**32 if rng.random() < 0.03 else len(content)
        joined.append(kind + struct.pack("<I", length) + content + bytes(len(content) % 2))
    return b"".join(joined)


def _hostile_webp_chunk(rng: random.Random) -> Piece:
    canvas = b"".join((lying_number(rng) % 2**24).to_bytes(3, "little") for _ in "wh")
    return rng.choice(
        (
            (b"VP8X", bytes((rng.randrange(256), 0, 0, 0)) + canvas),
            (b"ANIM", rng.randbytes(6)),
            (b"ANMF", rng.randbytes(6) + canvas + rng.randbytes(4) + b"VP8 " + rng.randbytes(20)),
            (b"ALPH", rng.randbytes(30)),
            (b"EXIF", hostile_exif(rng)),
            (b"ICCP", rng.randbytes(200)),
            (b"XMP ", rng.randbytes(200)),
            (rng.randbytes(4), rng.randbytes(9)),
        )
    )
