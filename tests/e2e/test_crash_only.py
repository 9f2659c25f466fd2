"""A service with a broken network ends by itself. After a restart it has everything that it acknowledged."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import httpx
import pytest

from app.inference.watchdog import EXIT_CODE
from tests.support.api import assert_problem, sample
from tests.support.faulty_service import FAULT_FILE
from tests.support.samples import EXPRESSIONS
from tests.support.service import Service, teach

STALL_S = 2


@pytest.mark.parametrize("kind", ["raise", "hang"])
def test_a_broken_network_ends_the_process_and_loses_nothing(tmp_path: Path, kind: str) -> None:
    fault = tmp_path / "fault"
    command = (sys.executable, "-m", "tests.support.faulty_service")
    env = {"CSRN_STALL_S": str(STALL_S), FAULT_FILE: str(fault)}
    with Service(tmp_path, csrn=command, **env) as service:
        path = teach(service.client, EXPRESSIONS, 1)
        before = service.client.get(path).json()
        fault.write_text(kind)
        # The process may end before it has answered.
        with contextlib.suppress(httpx.TransportError):
            answer = service.client.post(f"{path}/classify", files=[sample("anger", 4)])
            assert_problem(answer, 500, "internal_error")
        with contextlib.suppress(httpx.TransportError):
            for probe in ("/livez", "/readyz"):
                assert service.client.get(probe).status_code == 503
        assert service.wait(20) == EXIT_CODE
        assert service.log_text.count("the process ends with exit code 70") == 1
        # A supervisor restarts it.
        fault.unlink()
        start = time.monotonic()
        service.start()
        service.wait_until_ready()
        print(f"ready again after {time.monotonic() - start:.1f} s")
        assert service.client.get(path).json() == before
