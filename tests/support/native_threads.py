"""The threads of a process, also those that Python does not know."""

from __future__ import annotations

from pathlib import Path


def native_threads(pid: int | str = "self") -> set[str]:
    """Their ids."""
    return {task.name for task in Path(f"/proc/{pid}/task").iterdir()}
