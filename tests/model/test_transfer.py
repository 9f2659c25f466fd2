from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model.transfer import Transfer


def test_columns_of_any_type_arrive_joined() -> None:
    """Without a buffer, as on a CPU, and through one, as on a GPU, but here it is not page-locked."""
    for staged in (False, True):
        transfer = Transfer(torch.device("cpu"), staged=staged)
        rng = np.random.default_rng(0)
        for sizes in ((1, 2), (7,), (3, 1, 5)):
            columns: list[list[npt.NDArray[Any]]] = [
                [rng.integers(0, 256, (size, 3, 5), dtype=np.uint8) for size in sizes],
                [rng.random((size, 7), dtype=np.float32) for size in sizes],
                [rng.integers(0, 9, size) for size in sizes],
            ]
            there = transfer.to_device(columns)
            for tensor, column in zip(there, columns, strict=True):
                np.testing.assert_array_equal(tensor.numpy(), np.concatenate(column), strict=True)


def test_results_stay_when_the_buffer_is_used_again() -> None:
    transfer = Transfer(torch.device("cpu"), staged=True)
    first, second = torch.rand(3, 4), torch.rand(5)
    there = transfer.to_host([first, second])
    transfer.to_host([torch.zeros(17)])
    np.testing.assert_array_equal(there[0], first.numpy(), strict=True)
    np.testing.assert_array_equal(there[1], second.numpy(), strict=True)


def test_copies_on_the_device_stay_when_the_buffer_is_used_again() -> None:
    transfer = Transfer(torch.device("cpu"), staged=True)
    (first,) = transfer.to_device([[np.arange(5)]])
    transfer.to_device([[np.zeros(5)]])
    np.testing.assert_array_equal(first.numpy(), np.arange(5))
