"""A service that breaks ends, is started again by its supervisor, and has every acknowledged write."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from app.inference.watchdog import EXIT_CODE
from tests.support.api import sample
from tests.support.faulty_service import FAULT_FILE
from tests.support.samples import EXPRESSIONS
from tests.support.service import Service, teach

STALL_S = 2


def status(service: Service, path: str) -> int:
    """The status of a GET, or 0 without an answer."""
    try:
        return httpx.get(service.url + path).status_code
    except httpx.TransportError:
        return 0


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("raise", "5 batches in a row failed on the device thread"),
        ("hang", f"a device thread has worked on one batch for more than {STALL_S} s"),
    ],
)
def test_a_broken_network_ends_the_process_and_a_supervisor_brings_it_back(
    tmp_path: Path, kind: str, reason: str
) -> None:
    fault, begun = tmp_path / "fault", time.monotonic()
    service = Service(
        tmp_path,
        csrn=(sys.executable, "-m", "tests.support.faulty_service"),
        CSRN_STALL_S=str(STALL_S),
        **{FAULT_FILE: str(fault)},
    )
    start_s = time.monotonic() - begun
    taught = teach(service.client, EXPRESSIONS, 1)
    before = service.client.get(taught).json()
    exit_codes: list[int] = []
    written: list[str] = []

    def supervise() -> None:
        exit_codes.append(service.wait(60))
        fault.unlink()
        service.start()

    def write() -> None:
        while not exit_codes:
            with contextlib.suppress(httpx.TransportError):
                written.append(httpx.post(f"{service.url}/v1/sessions").json()["id"])

    def classify() -> None:
        while not exit_codes:
            with contextlib.suppress(httpx.TransportError):
                httpx.post(f"{service.url}{taught}/classify", files=[sample("anger", 4)], timeout=20)

    threads = [threading.Thread(target=target) for target in (supervise, write, classify)]
    try:
        for thread in threads:
            thread.start()
        fault.write_text(kind)
        broken = time.monotonic()
        while status(service, "/livez") == 200:
            time.sleep(0.05)
        failed = time.monotonic()
        assert status(service, "/readyz") in (503, 0)
        threads[0].join()
        service.wait_until_ready()
        back = time.monotonic()
        print(f"not alive after {failed - broken:.1f} s, ready {back - failed:.1f} s later, of {start_s:.1f}")
        assert failed - broken < STALL_S + 5
        # A busy machine, on which the first start was slow, gets more time.
        assert back - failed < max(10, 2 * start_s)
        assert exit_codes == [EXIT_CODE]
        assert service.log_text.count(f"the process ends with exit code 70: {reason}") == 1
        assert service.client.get(taught).json() == before
        assert written
        assert {status(service, f"/v1/sessions/{session_id}") for session_id in written} == {200}
    finally:
        for thread in threads:
            thread.join()
        service.stop(signal.SIGTERM)
