"""Disk space that is kept free for deletes: they need some before they free any."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

MOST_BYTES = 16 * 2**20
"""A class of 512 examples with the default weights can be deleted in one transaction"""
SHARE_OF_DISK = 1 / 4
"""The most that is kept free on a small disk"""
SHARE_OF_PROBE = 1 / 8
"""A disk that has less free beside the reserve than this part of it counts as full"""


class Reserve:
    """A file that holds the space, and gives it up when the disk is full."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Some network file systems say that their size is 0.
        share = int(shutil.disk_usage(path.parent).total * SHARE_OF_DISK)
        self._bytes = min(MOST_BYTES, share or MOST_BYTES)

    @property
    def whole(self) -> bool:
        """Whether the file holds all its space."""
        try:
            return os.stat(self._path).st_size >= self._bytes
        except OSError:
            return False

    def restore(self) -> bool:
        """Take the space again; false if the disk does not have it."""
        return self.whole or self._allocate(0, self._bytes)

    def has_room_beside(self) -> bool:
        """Whether the disk has some space beside the reserve."""
        return self._allocate(self._bytes, int(self._bytes * SHARE_OF_PROBE))

    def release(self) -> None:
        """Give the space back to the disk."""
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self._path, 0)

    def _allocate(self, offset: int, count: int) -> bool:
        """Whether the disk has these bytes; only those of the reserve itself stay allocated."""
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(file, offset, count)
        except OSError:
            os.ftruncate(file, offset)
            return False
        finally:
            if offset:
                os.ftruncate(file, offset)
            os.close(file)
        return True
