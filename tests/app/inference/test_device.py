from __future__ import annotations

import logging

import pytest
import torch

from app.inference.device import choose_device
from model.errors import DeviceMissing

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@without_cuda
def test_without_a_gpu_the_cpu_is_taken_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="csrn"):
        assert choose_device("auto") == "cpu"
    assert "no CUDA device is found: the network runs on the CPU" in caplog.messages


@without_cuda
def test_a_gpu_that_was_asked_for_and_is_missing_is_an_error() -> None:
    with pytest.raises(DeviceMissing):
        choose_device("cuda")


def test_the_cpu_is_taken_without_a_word_where_it_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="csrn"):
        assert choose_device("cpu") == "cpu"
    assert not caplog.messages
