"""make gpu-check: measures and checks what only a GPU can show, within eight minutes.

    python -m tests.gpu                    # all parts
    python -m tests.gpu --part roofline    # one part, in this process
    python -m tests.gpu --device cpu       # a dry run that shows only that the check itself works

Each part runs in a process of its own, within a time limit. The last line is one JSON object with all
figures. The exit code is 1 if there is no GPU, if a part failed, or if a target was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

from app.bench.service_process import CSRN

PART = (sys.executable, "-m", "tests.gpu")
LIMITS_S = {"parity": 50, "score": 120, "serve": 120, "roofline": 50, "memory": 50, "fault": 70}
"""Together less than eight minutes"""
TARGET_QUERIES_PER_S = 50_000


def command(part: str, device: str) -> tuple[str, ...]:
    if part == "score":
        return (*CSRN, "bench", "score", "--json")
    if part == "serve":
        return (*CSRN, "bench", "serve", "--json", "--seconds", "3")
    return (*PART, "--device", device, "--part", part)


def run_part(part: str, device: str) -> dict[str, Any]:
    """The figures of a part, with the key "failed" if it did not end well."""
    env = {**os.environ, "CSRN_DEVICE": device}
    started = time.monotonic()
    # In a session of its own, so that the services it has started end with it.
    process = subprocess.Popen(
        command(part, device),
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=LIMITS_S[part])
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {"failed": f"took more than {LIMITS_S[part]} s"}
    if process.returncode != 0:
        return {"failed": (errors.strip() or output.strip())[-2000:]}
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return {**figures, "took_s": round(time.monotonic() - started, 1)}


def missed(part: str, figures: Mapping[str, Any]) -> str | None:
    """Why a part does not meet its target, or None."""
    if "failed" in figures:
        return str(figures["failed"])
    if part == "score":
        best = max(f["queries_per_s"] for f in figures["figures"] if (f["way"], f["shot"]) == (3, 3))
        if best < TARGET_QUERIES_PER_S:
            return f"{best:.0f} queries/s at 3-way 3-shot, target {TARGET_QUERIES_PER_S}"
    if part == "serve" and (failed := sum(f["failed"] for f in figures["figures"])):
        return f"{failed} requests failed"
    return figures.get("missed")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--part", choices=LIMITS_S, action="append")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("gpu-check: no CUDA device is found", file=sys.stderr)
        return 1
    if options.part and len(options.part) == 1 and options.part[0] not in ("score", "serve"):
        # Imported here, because it takes seconds.
        from tests.gpu.parts import PARTS

        print(json.dumps(PARTS[options.part[0]](options.device)))
        return 0
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu (dry run)",
        "torch": torch.__version__,
    }
    verdicts = {}
    for part in options.part or LIMITS_S:
        report[part] = run_part(part, options.device)
        verdicts[part] = missed(part, report[part])
        print(f"{part}: {verdicts[part] or 'met'}", flush=True)
    print(json.dumps(report))
    return int(any(verdicts.values()))


if __name__ == "__main__":
    sys.exit(main())
