"""Disk space that stays free for deletes."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

MOST_BYTES = 20 * 2**20
"""Enough to move a full log and to delete a class of 512 examples with the default weights"""
SHARE_OF_DISK = 1 / 4
"""The largest part of a small disk that is reserved"""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors for a full disk, an exhausted quota and a file above the size limit of the process"""


class Reserve:
    """A file that holds the space until it is needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size_bytes = min(MOST_BYTES, int(shutil.disk_usage(path.parent).total * SHARE_OF_DISK))

    def take(self) -> bool:
        """Allocate the space unless the file holds it already. False if the disk has too little.

        Raises: OSError for other reasons, such as a missing folder.
        """
        try:
            with open(self._path, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                if file.tell() < self.size_bytes:
                    os.posix_fallocate(file.fileno(), 0, self.size_bytes)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            self.release()
            return False
        return True

    def release(self) -> None:
        """Truncate the file to 0 bytes, so that its disk space is free."""
        if self._path.exists():
            os.truncate(self._path, 0)
