from __future__ import annotations

import logging

import pytest
import torch

from app.inference.device import choose_device
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
