"""csrn whose network breaks while the file that FAULT_FILE names exists.

The file contains "raise", "hang" or "device". With "device", a GPU really fails; without a GPU, the network
raises the error that torch would raise.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

from app.cli import main
from model.classifier import Classifier

FAULT_FILE = "TEST_FAULT_FILE"


def break_on_demand(fault: Path) -> None:
    encode = Classifier.encode_on_device

    def breaking(self: Classifier, *args: Any) -> Any:
        kind = fault.read_text() if fault.exists() else None
        if kind == "hang":
            time.sleep(600)
        if kind == "device":
            break_device(self.device)
        if kind is not None:
            raise RuntimeError("the network is broken")
        return encode(self, *args)

    Classifier.encode_on_device = breaking  # type: ignore[method-assign, assignment]


def break_device(device: torch.device) -> None:
    """Read outside of a tensor, so that a kernel's assertion fails, and with it every later call of CUDA."""
    if device.type == "cpu":
        raise torch.AcceleratorError("a fake CUDA error")
    outside = torch.tensor([2**20], device=device)
    torch.zeros(1, device=device).index_select(0, outside).cpu()


if __name__ == "__main__":
    break_on_demand(Path(os.environ[FAULT_FILE]))
    main()
