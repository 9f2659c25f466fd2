"""The deployment files: what compose gives to each service. make image-check: their tools accept them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.built_image import ROOT

DEPLOY = ROOT / "deploy"
CERTIFICATE_FOLDER, KEYS_FOLDER = "./deploy/tls", "./deploy/secrets"
SERVICES = ("serve", "cpu", "replica", "replica-gpu-1")


# Compose's !reset replaces a list by the one that follows it.
yaml.SafeLoader.add_constructor("!reset", lambda loader, node: loader.construct_sequence(node))


def compose(path: Path = ROOT / "docker-compose.yml") -> dict[str, Any]:
    """The services of a compose file by name."""
    services: dict[str, Any] = yaml.safe_load(path.read_text())["services"]
    return services


def mounted(service: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The bind mounts of a service by their folder on the host."""
    return {mount["source"]: mount for mount in service.get("volumes", []) if isinstance(mount, dict)}


def default_of(value: str) -> str:
    """The default of ${NAME:-default}."""
    return value.partition(":-")[2].removesuffix("}")


def gpus(service: dict[str, Any]) -> list[str]:
    devices = service["deploy"]["resources"]["reservations"]["devices"]
    return [number for device in devices for number in device["device_ids"]]


def test_the_certificate_is_mounted_into_the_proxy_alone() -> None:
    services = compose()
    holders = [name for name, service in services.items() if CERTIFICATE_FOLDER in mounted(service)]
    assert holders == ["proxy"]
    assert mounted(services["proxy"])[CERTIFICATE_FOLDER]["read_only"] is True
    parents = {".", "./", "./deploy", "./deploy/"}
    assert not [name for name, service in services.items() if parents & mounted(service).keys()]


def test_the_keys_are_mounted_into_the_services_alone() -> None:
    holders = {name for name, service in compose().items() if KEYS_FOLDER in mounted(service)}
    assert holders == set(SERVICES)


def test_git_ignores_certificates_and_keys() -> None:
    for path in ("deploy/tls/tls.pem", "deploy/secrets/csrn_api_keys"):
        assert subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT).returncode == 0


def test_without_a_gpu_profile_no_gpu_is_visible() -> None:
    services, without = compose(), compose(DEPLOY / "no-gpu.yml")
    assert set(without) == {name for name, service in services.items() if _reserves_gpu(service)} - {
        "serve",
        "replica-gpu-1",
    }
    for service in (services["cpu"], *without.values()):
        assert not _reserves_gpu(service)
        assert service["environment"]["NVIDIA_VISIBLE_DEVICES"] == "void"
        assert service["environment"]["CSRN_DEVICE"] == "cpu"


def test_the_service_runs_as_x86_64_because_mediapipe_has_no_other_wheel() -> None:
    for name in (*SERVICES, "key", "train"):
        assert compose()[name]["platform"] == "linux/amd64"
    deployment = next(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    assert deployment["spec"]["template"]["spec"]["nodeSelector"] == {"kubernetes.io/arch": "amd64"}


def test_each_gpu_has_replicas_of_its_own_which_the_proxy_finds() -> None:
    services = compose()
    replicas = {name: service for name, service in services.items() if name.startswith("replica")}
    assert {name: gpus(service) for name, service in replicas.items()} == {
        "replica": ["0"],
        "replica-gpu-1": ["1"],
    }
    for name, service in replicas.items():
        assert service["networks"]["default"] == {"aliases": ["service"]}
        assert name in services["proxy"]["depends_on"]
        same = ("environment", "volumes", "depends_on", "image", "stop_grace_period")
        assert all(service[key] == replicas["replica"][key] for key in same)
        assert service["deploy"]["replicas"] == replicas["replica"]["deploy"]["replicas"]


def test_the_replicas_of_one_gpu_leave_some_of_its_memory_free() -> None:
    services = compose()
    replica = services["replica"]
    share = float(default_of(replica["environment"]["CSRN_DEVICE_MEMORY_SHARE"]))
    assert 0.8 <= int(default_of(replica["deploy"]["replicas"])) * share < 0.95


def _reserves_gpu(service: dict[str, Any]) -> bool:
    resources = service.get("deploy", {}).get("resources", {})
    return bool(resources.get("reservations", {}).get("devices"))


def run(*command: str | Path, **env: str) -> None:
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.image
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


@pytest.mark.image
def test_the_proxy_can_listen_with_tls(tmp_path: Path) -> None:
    files = ("-keyout", tmp_path / "tls.pem.key", "-out", tmp_path / "tls.pem")
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=x", *files)
    bind = f":8000 ssl crt {tmp_path / 'tls.pem'} alpn h2,http/1.1"
    run("haproxy", "-c", "-f", DEPLOY / "haproxy.cfg", CSRN_BIND=bind)
