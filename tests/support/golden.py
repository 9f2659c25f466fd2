"""Numbers that the published CSRN modules returned (golden.json), and the inputs they were given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from model.networks.csrn import CSRN, FACE, FaceFeatures
from model.networks.episode_scores import score_episodes
from model.networks.relation import gather_channels, select_shots

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


def faces_of(maps: Tensor) -> FaceFeatures:
    return FaceFeatures(maps=maps, blendshapes=None)


def assert_reproduces(network: CSRN, case: dict[str, Any]) -> None:
    """Every number of a golden case, to 1e-5.

    With two shots both are equally near to their mean, and the published choice is rounding noise of
    the machine that made it; there the published choice is taken as given, once shown to be a tie.
    """
    support_patches, query_patches = case_inputs(case)
    with torch.inference_mode():
        support, query = network.encode(support_patches), network.encode(query_patches)
        scores = score_episodes(network, faces_of(support), faces_of(query))
    assert support.mean().item() == pytest.approx(case["feature_mean"], abs=1e-5)
    assert support.std().item() == pytest.approx(case["feature_std"], abs=1e-5)
    pairs = torch.tensor(case["pair_scores"])
    torch.testing.assert_close(scores.pairs.flatten(1), pairs, atol=1e-5, rtol=0)

    faces, published = support[:, :, 0], torch.tensor(case["chosen_shot"])
    prototype_scores = scores.prototypes
    if case["shot"] == 2:
        means = faces.mean(dim=(-2, -1))
        distances = (means - means.mean(dim=1, keepdim=True)).abs()
        torch.testing.assert_close(distances[:, 0], distances[:, 1], atol=1e-6, rtol=0)
        with torch.inference_mode():
            prototype_scores = network.relation.relate(
                network.support_half(gather_channels(faces, published), FACE),
                network.query_half(query)[:, None, 0],
            )
    else:
        assert torch.equal(select_shots(faces), published)
    expected = torch.tensor(case["prototype_scores"])
    torch.testing.assert_close(prototype_scores, expected, atol=1e-5, rtol=0)
    totals = scores.pairs.sum(dim=(2, 3)) + 0.7 * case["shot"] * prototype_scores
    # A total sums up to 13 scores that golden.json gives to 7 digits.
    torch.testing.assert_close(totals, torch.tensor(case["class_total"]), atol=1e-5, rtol=1e-5)
