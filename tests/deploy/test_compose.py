"""docker-compose.yml gives each replica its GPU and its share of memory. Only its text is checked."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.deploy.built_image import ROOT


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return found


def default_of(value: str) -> str:
    """The default of ${NAME:-default}."""
    return value.partition(":-")[2].removesuffix("}")


def gpus(service: dict[str, Any]) -> list[str]:
    devices = service["deploy"]["resources"]["reservations"]["devices"]
    return [number for device in devices for number in device["device_ids"]]


def test_each_gpu_has_replicas_of_its_own_which_the_proxy_finds(services: dict[str, Any]) -> None:
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


def test_the_replicas_of_one_gpu_leave_some_of_its_memory_free(services: dict[str, Any]) -> None:
    replica = services["replica"]
    share = float(default_of(replica["environment"]["CSRN_DEVICE_MEMORY_SHARE"]))
    assert 0.8 <= int(default_of(replica["deploy"]["replicas"])) * share < 0.95
