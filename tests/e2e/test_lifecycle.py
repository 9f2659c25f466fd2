"""How the real service starts and shuts down."""

from __future__ import annotations

import concurrent.futures
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from app.bench.service_process import CSRN, ServiceProcess
from app.settings import Settings
from tests.support.samples import EXPRESSIONS, sample_bytes
from tests.support.service import teach


def run_csrn(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CSRN, *arguments], capture_output=True, text=True, env={**os.environ, **env}, timeout=60
    )


def service_of(folder: Path, **env: str) -> ServiceProcess:
    store = {"CSRN_STORE": f"sqlite:///{folder}/s.sqlite3", "CSRN_DEVICE": "cpu"}
    service = ServiceProcess(folder / "serve.log", {**store, **env})
    service.wait_until_ready()
    return service


def test_without_keys_only_this_machine_is_served() -> None:
    refused = run_csrn("serve", "--host", "0.0.0.0", "--port", "0", CSRN_API_KEYS="")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert "CSRN_API_KEYS" in line
    assert "CSRN_ALLOW_ANONYMOUS" in line


def test_an_invalid_key_is_not_printed() -> None:
    refused = run_csrn("serve", "--port", "0", CSRN_API_KEYS="ann:sha256:s3cret")
    assert refused.returncode == 1
    assert "entry 1" in refused.stderr
    assert "s3cret" not in refused.stdout + refused.stderr


def test_a_setting_can_come_from_a_secret_file(tmp_path: Path) -> None:
    (tmp_path / "csrn_api_keys").write_text("ann:one\nbob:two\n")
    read = Settings(_secrets_dir=tmp_path)
    assert read.api_keys.get_secret_value() == "ann:one\nbob:two"


def test_a_second_key_of_the_same_name_opens_the_same_sessions(tmp_path: Path) -> None:
    keys, entries = [], []
    for _ in range(2):
        made = run_csrn("key", "ann").stdout
        keys.append(re.findall(r"csrn_\S+", made)[0])
        entries.append(re.findall(r"ann:sha256:\S+", made)[0])
    service = service_of(tmp_path, CSRN_API_KEYS=",".join(entries))
    try:
        first, second = ({"Authorization": f"Bearer {key}"} for key in keys)
        with httpx.Client(base_url=service.url) as client:
            path = "/v1/sessions/" + client.post("/v1/sessions", headers=first).json()["id"]
            assert client.get(path).status_code == 401
            assert client.get(path, headers=second).status_code == 200
    finally:
        service.stop()
    assert not any(key in service.log_text for key in keys)


def test_a_port_that_is_in_use_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        store = f"sqlite:///{tmp_path}/s.sqlite3"
        refused = run_csrn("serve", "--port", port, CSRN_STORE=store, CSRN_DEVICE="cpu")
    assert refused.returncode == 1
    assert "address already in use" in refused.stderr
    assert port in refused.stderr


def test_a_service_that_shuts_down_completes_its_requests_and_closes_its_streams(tmp_path: Path) -> None:
    service = service_of(tmp_path, CSRN_DRAIN_S="1.5")
    with (
        httpx.Client(base_url=service.url, timeout=30) as client,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        path = teach(client, EXPRESSIONS, 1)
        images = [("images", ("q.jpg", sample_bytes("anger", 4), "image/jpeg"))] * 60
        stream_url = service.url.replace("http", "ws", 1) + f"{path}/stream"
        with connect(stream_url) as stream:
            stream.send(sample_bytes("anger", 4))
            assert '"faces"' in str(stream.recv(20))
            begun = pool.submit(client.post, f"{path}/classify", files=images)
            time.sleep(0.1)
            ending = pool.submit(service.stop, signal.SIGTERM)
            time.sleep(0.3)
            ready = httpx.get(f"{service.url}/readyz")
            assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
            # A proxy that has not noticed yet is still served.
            assert httpx.get(f"{service.url}{path}").status_code == 200
            with pytest.raises(ConnectionClosed):
                stream.recv(20)
            assert stream.close_code == 1012
        assert len(begun.result(30).json()["results"]) == 60
        assert ending.result(30) == 0
        with pytest.raises(httpx.ConnectError):
            client.get(path)
