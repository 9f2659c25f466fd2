"""Fuzzes every parser of untrusted bytes with atheris, each in a process of its own.

    python -m tests.fuzz 100000 1                         # inputs in all, seed
    python -m tests.fuzz images .fuzz/images/crash-0123   # parse one kept input again

Inputs that reach new code stay in .fuzz/NAME/corpus, and the next run starts from them.
"""

from __future__ import annotations

import faulthandler
import subprocess
import sys
from pathlib import Path

from tests.fuzz.child import load_target
from tests.fuzz.limits import check

TARGETS = {
    "images": ("tests.fuzz.targets:Images", 0.5),
    "requests": ("tests.fuzz.request_target:Requests", 0.15),
    "archives": ("tests.fuzz.targets:Archives", 0.2),
    "checkpoints": ("tests.fuzz.targets:Checkpoints", 0.07),
    "pth": ("tests.fuzz.targets:PublishedPairs", 0.08),
}
"""The class of each target, and its share of the inputs"""


def fuzz(place: str, folder: Path, *, inputs: int, seed: int) -> str:
    """Fuzz the target at MODULE:CLASS in a child process, which stops at the first input that fails.

    Returns the counts of the run, or "failed" and the end of the log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.child", place, str(folder), str(inputs), str(seed)]
    with (folder / "log").open("w") as log:
        status = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
    text = (folder / "log").read_text(errors="replace")
    return text.splitlines()[-1] if status == 0 else f"failed with exit code {status}:\n{text[-4000:]}"


def main(first: str, second: str) -> int:
    """Returns the exit code: 1 if an input failed."""
    if first in TARGETS:
        faulthandler.enable()
        accepted = check(load_target(TARGETS[first][0]), Path(second).read_bytes())
        print("accepted" if accepted else "refused")
        return 0
    failed = 0
    for name, (place, share) in TARGETS.items():
        folder = Path(".fuzz", name)
        print(f"{name}: progress is in {folder / 'log'}", flush=True)
        result = fuzz(place, folder, inputs=round(int(first) * share), seed=int(second))
        print(f"{name}: {result}", flush=True)
        failed |= result.startswith("failed")
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
