"""Moves arrays between the host and the device of the network, in one copy each way for each batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

ALIGNMENT = 16
"""Each array starts at a multiple of this number of bytes, which suffices for every data type"""


class Transfer:
    """Copies through page-locked ("pinned") memory, which a GPU reads and writes while the thread continues.

    On a CPU nothing is copied. Not thread-safe: each batch overwrites the memory of the one before.
    """

    def __init__(self, device: torch.device, *, staged: bool | None = None) -> None:
        """staged: whether to copy through one buffer; by default on every device but the CPU."""
        self._device = device
        self._staged = device.type != "cpu" if staged is None else staged
        self._pinned = device.type == "cuda"
        self._inward = self._outward = torch.empty(0, dtype=torch.uint8)
        self._copied_in: torch.cuda.Event | None = None

    def to_device(self, columns: Sequence[Sequence[npt.NDArray[Any]]]) -> list[Tensor]:
        """Join the arrays of each column along their first dimension, and copy all columns to the device."""
        if not self._staged:
            return [torch.from_numpy(c[0] if len(c) == 1 else np.concatenate(c)) for c in columns]
        if self._copied_in is not None:
            # The copy of the last batch may still read the buffer, if the batch failed.
            self._copied_in.synchronize()
        shapes = [(sum(map(len, column)), *column[0].shape[1:]) for column in columns]
        sizes = [sum(array.nbytes for array in column) for column in columns]
        starts = np.cumsum([0, *(_aligned(size) for size in sizes)]).tolist()
        self._inward = self._at_least(self._inward, starts[-1])
        host = self._inward.numpy()
        for column, shape, start, size in zip(columns, shapes, starts, sizes, strict=False):
            place = host[start : start + size].view(column[0].dtype).reshape(shape)
            np.concatenate(column, out=place)
        there = self._inward[: starts[-1]].to(self._device, non_blocking=True, copy=True)
        if self._pinned:
            self._copied_in = torch.cuda.current_stream().record_event()
        return [
            there[start : start + size].view(torch.from_numpy(column[0][:0]).dtype).reshape(shape)
            for column, shape, start, size in zip(columns, shapes, starts, sizes, strict=False)
        ]

    def to_host(self, tensors: Sequence[Tensor]) -> list[npt.NDArray[Any]]:
        """Copy tensors of one data type to the host, and wait for them."""
        if not self._staged:
            return [tensor.numpy() for tensor in tensors]
        joined = torch.cat([tensor.flatten() for tensor in tensors])
        self._outward = self._at_least(self._outward, joined.nbytes)
        there = self._outward[: joined.nbytes].view(joined.dtype)
        there.copy_(joined, non_blocking=True)
        if self._pinned:
            torch.cuda.current_stream().synchronize()
        ends = np.cumsum([tensor.numel() for tensor in tensors])[:-1]
        # A copy, because the next batch overwrites the buffer.
        parts = np.split(there.numpy().copy(), ends)
        return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def _at_least(self, buffer: Tensor, size: int) -> Tensor:
        """The buffer, or a larger one if it has fewer bytes than `size`."""
        if buffer.nbytes >= size:
            return buffer
        return torch.empty(max(size, 2 * buffer.nbytes), dtype=torch.uint8, pin_memory=self._pinned)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
