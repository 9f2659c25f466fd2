"""Checkpoints with seeded weights and every part that a checkpoint can have."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from model.checkpoint import (
    Checkpoint,
    CheckpointConfig,
    PartWeights,
    Provenance,
    hash_weights,
    load_checkpoint,
    save_checkpoint,
)
from model.networks.csrn import CSRN
from model.unknown import UnknownRule

RULE = UnknownRule(several=(-0.02, 0, -0.01, 0), single=(0.2, 0.02, 0.05, 0.1))
FULL = CheckpointConfig(
    encoder="resnet",
    patches="tight",
    residual=True,
    part_weights=PartWeights(cosine=2, votes=1, geometry=0.5),
    vote_counts=(3, 4),
    unknown_rule=RULE,
)
"""Residual relation, cosine, votes, geometry, and a threshold of each session's own"""


def full_network(config: CheckpointConfig = FULL, *, seed: int = 0) -> CSRN:
    """A network in which no weight, mean or deviation has the value that it starts with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = config.build_network()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    with torch.no_grad():
        network.relation.fc2.weight.normal_(generator=generator)
        network.relation.fc2.bias.normal_(generator=generator)
    if network.pooled is not None:
        network.pooled.mean.uniform_(0, 1, generator=generator)
        network.pooled.deviation.uniform_(0.5, 1.5, generator=generator)
        drawn = torch.randn(network.pooled.whitening.shape, generator=generator)
        network.pooled.whitening.add_(0.02 * drawn)
    if network.geometry is not None:
        network.geometry.point_mean.normal_(generator=generator)
        network.geometry.point_deviation.uniform_(0.5, 1.5, generator=generator)
        network.geometry.root_mean.uniform_(0.3, 0.5, generator=generator)
        network.geometry.root_deviation.uniform_(0.1, 0.3, generator=generator)
    return network.eval().requires_grad_(False)


def full_checkpoint(config: CheckpointConfig = FULL, *, seed: int = 0) -> Checkpoint:
    """The same network as a checkpoint that was never written to a file."""
    network = full_network(config, seed=seed)
    provenance = Provenance(trained_on="nothing: seeded for tests")
    return Checkpoint(
        network=network, config=config, provenance=provenance, sha256=hash_weights(network, config)
    )


def save_full_checkpoint(path: Path, config: CheckpointConfig = FULL) -> Path:
    """The same checkpoint as a file."""
    checkpoint = full_checkpoint(config)
    save_checkpoint(path, checkpoint.network, config=config, provenance=checkpoint.provenance)
    return path


def assert_same_weights(one: Path, other: Path) -> None:
    """Compare tensors, not bytes: safetensors writes its metadata entries in any order."""
    first, second = load_checkpoint(one), load_checkpoint(other)
    assert (first.config, first.provenance) == (second.config, second.provenance)
    expected = second.network.state_dict()
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
