"""make image-check: the tools that read the deployment files accept them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.deploy.built_image import ROOT

pytestmark = pytest.mark.image
DEPLOY = ROOT / "deploy"


def run(*command: str | Path, **env: str) -> None:
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("hadolint", "Dockerfile"),
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"),
        ("kubernetes-validate", "--strict", DEPLOY / "kubernetes.yaml"),
        ("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml"),
    ],
    ids=lambda command: str(command[0]),
)
def test_a_file_is_valid(command: tuple[str | Path, ...]) -> None:
    run(*command)


def test_the_proxy_can_listen_with_tls(tmp_path: Path) -> None:
    files = ("-keyout", tmp_path / "tls.pem.key", "-out", tmp_path / "tls.pem")
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=x", *files)
    bind = f":8000 ssl crt {tmp_path / 'tls.pem'} alpn h2,http/1.1"
    run("haproxy", "-c", "-f", DEPLOY / "haproxy.cfg", CSRN_BIND=bind)
