"""Training made small for tests: the samples as prepared data, tiny encoders and few steps."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.networks.encoders import ENCODERS, ResNetEncoder
from model.training import stages
from model.training.datasets import open_dataset
from model.training.prepare import prepare
from tests.support.samples import EXPRESSIONS, SAMPLES


def prepare_samples(out: Path) -> Path:
    """Prepare the samples: four expressions with eight faces each."""
    with open_dataset("folder", SAMPLES) as dataset:
        report = prepare(dataset, out)
    assert {label: counts["found"] for label, counts in report.items()} == dict.fromkeys(EXPRESSIONS, 8)
    return out


@contextlib.contextmanager
def small_training() -> Iterator[None]:
    """Replace the residual encoders by tiny ones, shorten fixed stages, and compute on one thread.

    Sums over several threads may round differently from run to run.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "resnet", functools.partial(_tiny_encoder, 8))
        patch.setitem(ENCODERS, "resnet-large", functools.partial(_tiny_encoder, 12))
        patch.setattr(stages, "GEOMETRY_STEPS", 5)
        patch.setattr(stages, "MEASURED_EPISODES", 20)
        patch.setattr(stages, "RULE_EPISODES", 3)
        yield
    torch.set_num_threads(threads)


def _tiny_encoder(channels: int) -> ResNetEncoder:
    return ResNetEncoder(stem=channels, blocks=[(channels, 2), (channels, 2), (channels, 1)])
