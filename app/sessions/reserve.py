"""Disk space that stays free for deletes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MOST_BYTES = 20 * 2**20
"""Enough to move a full log and to delete a class of 512 examples with the default weights"""
SHARE_OF_DISK = 1 / 4
"""The largest part of a small disk that is reserved"""


class Reserve:
    """A file that holds the space until it is needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size_bytes = min(MOST_BYTES, int(shutil.disk_usage(path.parent).total * SHARE_OF_DISK))

    def take(self) -> bool:
        """Allocate the space unless the file holds it already. False if the disk has too little."""
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return False
        try:
            if os.fstat(file).st_size < self.size_bytes:
                os.posix_fallocate(file, 0, self.size_bytes)
        except OSError:
            os.ftruncate(file, 0)
            return False
        finally:
            os.close(file)
        return True

    def release(self) -> None:
        """Give the space back to the disk."""
        if self._path.exists():
            os.truncate(self._path, 0)
