"""csrn with a network that fails once a file exists, as on a broken GPU.

The environment variable TEST_FAULT_FILE names the file. Its content says how: "raise" or "hang".
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
    encode = Classifier.encode

    def breaking(self: Classifier, *args: Any) -> Any:
        if fault.exists():
            if fault.read_text() == "hang":
                time.sleep(600)
            raise torch.AcceleratorError("an illegal memory access was encountered")
        return encode(self, *args)

    Classifier.encode = breaking  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    break_on_demand(Path(os.environ[FAULT_FILE]))
    main()
