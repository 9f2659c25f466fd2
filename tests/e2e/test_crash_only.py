"""A service that breaks ends, is started again by its supervisor, and has every acknowledged write."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app.inference.watchdog import EXIT_CODE
from tests.support.api import sample, teach
from tests.support.faulty_service import FAULT_FILE
from tests.support.samples import EXPRESSIONS
from tests.support.service import Service

STALL_S = 2
REASONS = {
    "raise": "5 batches in a row failed on the device thread",
    "hang": f"a device thread has worked on one batch for more than {STALL_S} s",
}
"""Why the process ends, for each kind of fault"""
ALL_FAULTS = pytest.param(tuple(REASONS), marks=pytest.mark.soak, id="all faults")


def status(service: Service, path: str) -> int:
    """The status of a GET, or 0 without an answer."""
    try:
        return httpx.get(service.url + path).status_code
    except httpx.TransportError:
        return 0


@pytest.mark.parametrize("kinds", [pytest.param(("raise",), id="errors"), ALL_FAULTS])
def test_a_broken_network_ends_the_process_and_a_supervisor_brings_it_back(
    tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    fault, began = tmp_path / "fault", time.monotonic()
    csrn = (sys.executable, "-m", "tests.support.faulty_service")
    service = Service(tmp_path, csrn=csrn, CSRN_STALL_S=str(STALL_S), **{FAULT_FILE: str(fault)})
    start_s = time.monotonic() - began
    taught = teach(service.client, dict.fromkeys(EXPRESSIONS, 1))
    before = service.client.get(taught).json()
    written: list[str] = []
    end = threading.Event()

    def write() -> None:
        with contextlib.suppress(httpx.TransportError):
            response = httpx.post(f"{service.url}/v1/sessions")
            if response.status_code == 201:
                written.append(response.json()["id"])

    def classify() -> None:
        with contextlib.suppress(httpx.TransportError):
            httpx.post(f"{service.url}{taught}/classify", files=[sample("anger", 4)], timeout=20)

    def repeat(request: Callable[[], None]) -> None:
        while not end.is_set():
            request()
            time.sleep(0.2)

    with service, ThreadPoolExecutor() as pool:
        clients = [pool.submit(repeat, request) for request in (write, classify)]
        try:
            for kind in kinds:
                fault.write_text(kind)
                broken = time.monotonic()
                while status(service, "/livez") == 200:
                    time.sleep(0.05)
                failed = time.monotonic()
                assert status(service, "/readyz") in (503, 0)
                assert service.wait(60) == EXIT_CODE
                fault.unlink()
                service.start()
                service.wait_until_ready()
                back = time.monotonic()
                print(f"{kind}: unhealthy after {failed - broken:.1f} s, back after {back - failed:.1f} s")
                assert failed - broken < STALL_S + 5
                # A busy machine, on which the first start was slow, gets more time.
                assert back - failed < max(10, 3 * start_s)
                assert service.log_text.count(f"the process ends with exit code 70: {REASONS[kind]}") == 1
        finally:
            end.set()
        for client in clients:
            client.result()
        assert service.client.get(taught).json() == before
        assert written
        assert {status(service, f"/v1/sessions/{session_id}") for session_id in written} == {200}
