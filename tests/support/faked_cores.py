"""A process that believes in another number of cores and may start a limited number of threads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")
REFUSED = "a thread was refused"
"""What the process writes to stderr when it asks for a thread beyond its limit"""

needs_compiler = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="needs gcc, for a library that fakes the number of cores"
)


def faked_cores(folder: Path, cores: int, *, thread_limit: int) -> dict[str, str]:
    """The environment variables of such a process. The library that fakes is compiled into the folder."""
    library = folder / "faked_cores.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return {
        "LD_PRELOAD": str(library),
        "FAKED_CORES": str(cores),
        "FAKED_THREAD_LIMIT": str(thread_limit),
        # OpenMP sees the faked cores, too: many threads would wait busily for each other on a few real cores.
        "OMP_WAIT_POLICY": "passive",
    }
