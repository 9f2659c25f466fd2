"""A service that breaks ends by itself, and started anew it has all that it acknowledged."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path

import httpx
import pytest

from app.inference.watchdog import EXIT_CODE
from tests.support.faulty_service import FAULT_FILE
from tests.support.samples import EXPRESSIONS, sample_bytes
from tests.support.service import Service, teach

STALL_S = 2


@pytest.mark.parametrize("kind", ["raise", "hang"])
def test_a_network_that_breaks_ends_the_process_and_loses_nothing(tmp_path: Path, kind: str) -> None:
    fault = tmp_path / "fault"
    service = Service(
        tmp_path,
        csrn=(sys.executable, "-m", "tests.support.faulty_service"),
        CSRN_STALL_S=str(STALL_S),
        **{FAULT_FILE: str(fault)},
    )
    try:
        path = teach(service.client, EXPRESSIONS, 1)
        fault.write_text(kind)
        before = service.client.get(path).json()
        with contextlib.suppress(httpx.TransportError):
            images = [("images", ("q.jpg", sample_bytes("anger", 4), "image/jpeg"))]
            answer = service.client.post(f"{path}/classify", files=images)
            assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        with contextlib.suppress(httpx.TransportError):
            for probe in ("/livez", "/readyz"):
                assert service.client.get(probe).status_code == 503
        assert service.wait(20) == EXIT_CODE
        assert service.log_text.count("the process ends with exit code 70") == 1
        # What a supervisor does.
        fault.unlink()
        begun = time.monotonic()
        service.start()
        service.wait_until_ready()
        print(f"back after {time.monotonic() - begun:.1f} s")
        assert service.client.get(path).json() == before
    finally:
        service.stop(signal.SIGTERM)
