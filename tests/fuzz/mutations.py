"""Damage that fits any file, and values that break what reads them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

SIZES = (0, 1, 2, 3, 7, 8, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 4095, 4096, 32767, 32768, 65535, 65536)
HUGE = (2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, 0.5, 1e308, -0.0, "", "0", "a" * 5000,
    "\x00", "\ud800", "é\u202e笑", [], {}, [[]], [0] * 1000, {"": {}}, "NaN",
    "F16", "F8_E4M3", "C64", "../../x",
)  # fmt: skip
"""For any place in a JSON text"""

Damage = Callable[[random.Random, bytearray], None]


def damaged(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """`data` with one to four faults of any kind; some of it may come from the other files."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if changed:
            rng.choice(_DAMAGES)(rng, changed)
    if rng.random() < 0.05:
        other = rng.choice(others)
        changed[rng.randint(0, len(changed)) :] = other[rng.randint(0, len(other)) :]
    return bytes(changed)


def lying_number(rng: random.Random) -> int:
    return rng.choice((rng.choice(SIZES), rng.choice(HUGE), rng.getrandbits(32), rng.getrandbits(16)))


def with_other_value(rng: random.Random, tree: Any) -> Any:
    """A JSON value with one of its nodes replaced, removed or doubled."""
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        changed = dict(tree)
        key = rng.choice(list(changed))
        match rng.randrange(8):
            case 0:
                del changed[key]
            case 1:
                changed[rng.choice(("", "x", key + "\x00", key * 2))] = changed[key]
            case _:
                changed[key] = with_other_value(rng, changed[key])
        return changed
    if isinstance(tree, list) and tree and rng.random() < 0.8:
        at = rng.randrange(len(tree))
        match rng.randrange(5):
            case 0:
                return tree[:at] + tree[at + 1 :]
            case 1:
                return tree + tree[at : at + 1] * rng.choice((1, 2, 600))
            case _:
                return [*tree[:at], with_other_value(rng, tree[at]), *tree[at + 1 :]]
    if isinstance(tree, int) and rng.random() < 0.5:
        return tree + rng.choice((-1, 1, lying_number(rng)))
    return rng.choice(VALUES)


def _span(rng: random.Random, changed: bytearray) -> slice:
    start = rng.randrange(len(changed))
    return slice(start, start + rng.choice((1, 2, 4, 16, rng.randint(1, len(changed)))))


def _flip(rng: random.Random, changed: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 3, 20))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)


def _flip_early(rng: random.Random, changed: bytearray) -> None:
    # Where headers are.
    changed[rng.randrange(min(len(changed), 200))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _overwrite(rng: random.Random, changed: bytearray) -> None:
    span = _span(rng, changed)
    size = len(changed[span])
    changed[span] = rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size)))


def _delete(rng: random.Random, changed: bytearray) -> None:
    del changed[_span(rng, changed)]


def _repeat(rng: random.Random, changed: bytearray) -> None:
    span = _span(rng, changed)
    piece = bytes(changed[span])[:4096]
    changed[span.start : span.start] = piece * rng.choice((1, 2, 50))


def _insert(rng: random.Random, changed: bytearray) -> None:
    at = rng.randint(0, len(changed))
    changed[at:at] = rng.randbytes(rng.choice((1, 2, 4, 100)))


def _truncate(rng: random.Random, changed: bytearray) -> None:
    del changed[rng.randrange(len(changed)) :]


def _number(rng: random.Random, changed: bytearray) -> None:
    size, at = rng.choice((1, 2, 4, 8)), rng.randrange(len(changed))
    number = lying_number(rng) % 2 ** (8 * size)
    changed[at : at + size] = number.to_bytes(size, rng.choice(("big", "little")))


_DAMAGES: tuple[Damage, ...] = (
    _flip, _flip, _flip_early, _overwrite, _delete, _repeat, _insert, _truncate, _number, _number,
)  # fmt: skip
