"""make image-check: what Docker, compose, Kubernetes and Prometheus would say of the files for them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.deploy.built_image import ROOT

pytestmark = pytest.mark.image
DEPLOY = ROOT / "deploy"
COMPOSE = ROOT / "docker-compose.yml"
has_compose = (
    shutil.which("docker") is not None
    and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
)
needs_compose = pytest.mark.skipif(not has_compose, reason="needs docker with its compose plugin")


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """What it prints; it must end well."""
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    run("hadolint", "Dockerfile")


def test_the_compose_file_is_as_its_schema_says() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


@needs_compose
@pytest.mark.parametrize(
    ("profiles", "services"),
    [
        ((), {"serve"}),
        (("cpu",), {"cpu"}),
        (("scale",), {"replica", "balancer", "postgresql"}),
        (("gpu", "observe"), {"serve", "prometheus", "grafana"}),
    ],
)
@pytest.mark.parametrize("files", [(), ("deploy/no-gpu.yml",)])
def test_a_profile_starts_its_services_and_no_other(
    profiles: tuple[str, ...], services: set[str], files: tuple[str, ...]
) -> None:
    chosen = [option for profile in profiles for option in ("--profile", profile)]
    given = [option for file in ("docker-compose.yml", *files) for option in ("-f", file)]
    listed = run("docker", "compose", *given, *chosen, "config", "--services")
    assert set(listed.split()) == services


def test_the_kubernetes_manifest_is_as_its_schemas_say() -> None:
    run("kubernetes-validate", "--strict", DEPLOY / "kubernetes.yaml")


def test_the_load_balancer_takes_its_file_with_tls_too(tmp_path: Path) -> None:
    certificate = tmp_path / "tls.pem"
    subject = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    run("openssl", "req", *subject, "-keyout", tmp_path / "key", "-out", tmp_path / "certificate")
    certificate.write_text((tmp_path / "certificate").read_text() + (tmp_path / "key").read_text())
    for bind in (":8000", f":8000 ssl crt {certificate} alpn h2,http/1.1"):
        run("haproxy", "-c", "-f", DEPLOY / "haproxy.cfg", env={"CSRN_BIND": bind})


def test_prometheus_takes_its_file() -> None:
    run("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
