"""What the network runs on, in which precision, and how much of its memory is for support sets."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from model.errors import DeviceMissing

logger = logging.getLogger("csrn")


def choose_device(wanted: str) -> str:
    """The torch device for auto, cpu or cuda. Raises: DeviceMissing."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise DeviceMissing("CSRN_DEVICE is cuda, but no CUDA device is found")
    if wanted == "auto" and not available:
        logger.info("no CUDA device is found: the network runs on the CPU")
    return "cuda" if available and wanted != "cpu" else "cpu"


def choose_precision(wanted: str, device: str) -> torch.dtype:
    """The encoder's dtype for auto, float32 or bfloat16: auto takes what the device is quick at."""
    if wanted == "auto":
        quick = torch.cuda.is_bf16_supported() if device == "cuda" else _cpu_has_bfloat16()
        wanted = "bfloat16" if quick else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[wanted]


def _cpu_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text().partition("\nflags")[2].partition("\n")[0].split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


def held_memory_bytes(device: str) -> int:
    """Of a GPU's memory, what this process holds for its tensors; 0 on a CPU."""
    return torch.cuda.memory_reserved(device) if device.startswith("cuda") else 0


def default_support_cache_bytes(device: str) -> int:
    """A quarter of a GPU's memory, 1 GiB of a CPU's."""
    return torch.cuda.get_device_properties(device).total_memory // 4 if device == "cuda" else 2**30
