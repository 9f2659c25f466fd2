"""The threads of the service on hosts with many cores, with a faked number of cores.

`pytest -s -m "soak or not soak" tests/e2e/test_many_cores.py` prints the threads and the memory.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.api import image, sample, teach
from tests.support.faked_cores import REFUSED, faked_cores, needs_compiler
from tests.support.native_threads import native_threads
from tests.support.peak_memory import status_bytes
from tests.support.samples import encoded, sample_bytes, sample_image
from tests.support.service import Service

LEAST_FACE_MESH_BYTES = 12 * 2**20
LARGE_UPLOAD = sample_bytes("anger", 0) + bytes(2**20 + 1)
"""Images above 1 MiB are written and read by threads for files"""


@needs_compiler
@pytest.mark.parametrize(
    "cores",
    [
        pytest.param(4, marks=pytest.mark.soak),
        16,
        pytest.param(64, marks=pytest.mark.soak),
        pytest.param(128, marks=pytest.mark.soak),
    ],
)
def test_the_service_needs_at_most_8_threads_per_core_and_100(
    cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    most = 8 * cores + 100
    with (
        Service(tmp_path, **faked_cores(tmp_path, cores, thread_limit=most)) as service,
        ThreadPoolExecutor(32) as clients,
        contextlib.ExitStack() as streams,
    ):
        # Each face thread has loaded its FaceMesh.
        assert status_bytes("VmRSS", service.pid) > cores * LEAST_FACE_MESH_BYTES
        path = teach(service.client, {"anger": 2, "happiness": 2})

        def report(when: str) -> None:
            threads, memory_mb = len(native_threads(service.pid)), status_bytes("VmRSS", service.pid) >> 20
            print(f"{cores} cores, {when}: {threads} threads (at most {most}), {memory_mb} MB")

        def classify(files: list[bytes]) -> int:
            return service.client.post(f"{path}/classify", files=[image(file) for file in files]).status_code

        report("taught")
        # One image for each face thread, all at once.
        sizes = [min(cores - start, 64) for start in range(0, cores, 64)]
        assert {*clients.map(classify, [[sample_bytes("anger", 0)] * size for size in sizes])} == {200}
        report("each face thread used")

        large = encoded(sample_image("anger", 0).resize((2000, 2000)), "JPEG")
        assert {*clients.map(classify, [[LARGE_UPLOAD] * 4, [large]] * 16)} == {200}
        archive = service.client.get(f"{path}/export").content
        imports = clients.map(
            lambda _: (
                service.client.post(
                    "/v1/sessions/import",
                    content=archive,
                    headers={"Content-Type": "application/octet-stream"},
                ).status_code
            ),
            range(32),
        )
        assert {*imports} == {201}
        for _ in range(16):
            url = service.url.replace("http", "ws")
            stream = streams.enter_context(connect(f"{url}{path}/stream"))
            stream.send(sample_bytes("anger", 1))
            assert '"faces"' in str(stream.recv(timeout=30))
        report("16 streams open")
        assert len(native_threads(service.pid)) <= most
        assert REFUSED not in service.log_text
        assert service.client.post(f"{path}/classify", files=[sample("anger", 2)]).status_code == 200
