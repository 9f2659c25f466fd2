"""Chooses the device of the network, its precision, and the memory for support sets."""

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
        raise DeviceMissing("no CUDA device is found, but --device or CSRN_DEVICE is cuda")
    if wanted == "auto" and not available:
        logger.info("no CUDA device is found: the network runs on the CPU")
    return "cuda" if available and wanted != "cpu" else "cpu"


def choose_precision(wanted: str, device: str) -> torch.dtype:
    """The encoder's dtype for auto, float32 or bfloat16. auto is bfloat16 if the hardware computes in it."""
    if wanted == "auto":
        supported = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device == "cuda"
            else _cpu_has_bfloat16()
        )
        wanted = "bfloat16" if supported else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[wanted]


def _cpu_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text().partition("\nflags")[2].partition("\n")[0].split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


def limit_device_memory(device: str, share: float) -> None:
    """Let this process take at most a share of a GPU's memory. Does nothing on a CPU.

    The limit covers what PyTorch allocates. The CUDA context takes some hundred MB more.
    """
    if device == "cuda":
        torch.cuda.set_per_process_memory_fraction(share)


def compute_in_float32() -> None:
    """Forbid TF32, which rounds the factors of products and convolutions in float32 to 11 bits.

    Only the encoder is costly, and it computes in bfloat16. Everything after it is computed in float32, so
    that a GPU and a CPU give the same scores.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def default_support_cache_bytes(device: str, share: float) -> int:
    """A quarter of this process's share of the memory of a GPU, or 1 GiB on a CPU."""
    if device == "cpu":
        return 2**30
    return int(torch.cuda.get_device_properties(device).total_memory * share) // 4
