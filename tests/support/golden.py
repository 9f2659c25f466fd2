"""Numbers that the published CSRN modules returned (golden.json), and the inputs they were given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.networks.csrn import CSRN

CASES: dict[str, list[dict[str, Any]]] = json.loads(
    Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
)
PUBLISHED_CHECKPOINTS = Path(__file__).parents[2].parent / "shared" / "reference" / "checkpoints"


def seeded_network() -> CSRN:
    """The network with the seeded weights behind the seeded cases: the encoder is drawn first."""
    rng = np.random.default_rng(2024)
    network = CSRN()
    for module in (network.encoder, network.relation):
        module.load_state_dict(_draw_state(module, rng))
    return network.eval()


def _draw_state(module: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
    drawn = {}
    for name, tensor in sorted(module.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            drawn[name] = torch.tensor(0)
            continue
        values: npt.NDArray[Any] = rng.standard_normal(tuple(tensor.shape)).astype(np.float32)
        if name.endswith("running_var"):
            values = np.abs(values) * 0.5 + 0.5
        elif name.endswith(".1.weight"):
            values = values * 0.1 + 1
        elif tensor.ndim > 1:
            values = values * np.float32((2.0 / np.prod(tensor.shape[1:])) ** 0.5)
        else:
            values = values * 0.1
        drawn[name] = torch.from_numpy(np.asarray(values, dtype=np.float32))
    return drawn


def case_inputs(case: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Support (way, shot, 3, 3, 64, 64) and query (queries, 3, 3, 64, 64) of a case."""
    rng = np.random.default_rng(case["input_seed"])
    support = rng.random((case["way"], case["shot"], 3, 3, 64, 64), dtype=np.float32)
    query = rng.random((case["queries"], 3, 3, 64, 64), dtype=np.float32)
    return torch.from_numpy(support), torch.from_numpy(query)
