from __future__ import annotations

import logging
import types

import pytest
import torch

from app.inference.device import (
    choose_device,
    compute_in_float32,
    default_support_cache_bytes,
    limit_device_memory,
)
from model.errors import DeviceMissing

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@without_cuda
def test_auto_is_the_cpu_without_a_gpu_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="csrn"):
        assert choose_device("auto") == "cpu"
    assert "no CUDA device is found: the network runs on the CPU" in caplog.messages


@without_cuda
def test_a_requested_gpu_that_is_missing_is_an_error() -> None:
    with pytest.raises(DeviceMissing):
        choose_device("cuda")


def test_a_requested_cpu_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="csrn"):
        assert choose_device("cpu") == "cpu"
    assert not caplog.messages


def test_a_share_of_the_device_limits_the_process_and_its_cached_support_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a fake GPU of 16 GB."""
    shares: list[float] = []
    fake = types.SimpleNamespace(total_memory=16 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: fake)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    for device in ("cpu", "cuda"):
        limit_device_memory(device, 0.45)
    assert shares == [0.45]
    assert default_support_cache_bytes("cuda", 0.45) == 1_800_000_000
    assert default_support_cache_bytes("cpu", 0.45) == 2**30


def test_products_and_convolutions_in_float32_are_not_rounded() -> None:
    torch.backends.cudnn.allow_tf32 = True
    compute_in_float32()
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32
