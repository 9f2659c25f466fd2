"""csrn whose network breaks while the file that FAULT_FILE names exists. It contains "raise" or "hang"."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from app.cli import main
from model.classifier import Classifier

FAULT_FILE = "TEST_FAULT_FILE"


def break_on_demand(fault: Path) -> None:
    encode = Classifier.encode_on_device

    def breaking(self: Classifier, *args: Any) -> Any:
        if fault.exists():
            if fault.read_text() == "hang":
                time.sleep(600)
            raise RuntimeError("the network is broken")
        return encode(self, *args)

    Classifier.encode_on_device = breaking  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    break_on_demand(Path(os.environ[FAULT_FILE]))
    main()
