"""Keeps freed memory for the next image, instead of returning it to the kernel after each image.

The kernel clears each page that it hands out, and that takes as long as decoding a photo of two megapixels.
"""

from __future__ import annotations

import ctypes

# Parameters of glibc's mallopt, see mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
MIB = 2**20
KEPT_MIB = 64
"""The most free memory that one arena keeps"""
GROWN_BY_MIB = 16
"""An arena that grows takes this much more than it needs"""
LARGE_MIB = 32
"""Larger blocks of memory are returned to the kernel as soon as they are freed"""
ARENAS = 8
"""Threads share this many arenas, so that no more than ARENAS * KEPT_MIB stays free"""


def keep_freed_memory() -> None:
    """Configure the allocator of this process, before it starts threads. Does nothing without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda parameter, value: None)
    mallopt(_TRIM_THRESHOLD, KEPT_MIB * MIB)
    mallopt(_TOP_PAD, GROWN_BY_MIB * MIB)
    mallopt(_MMAP_THRESHOLD, LARGE_MIB * MIB)
    mallopt(_ARENA_MAX, ARENAS)
