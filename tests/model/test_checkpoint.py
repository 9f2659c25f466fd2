from __future__ import annotations

from pathlib import Path

import pydantic
import pytest
import safetensors.torch
import torch
from torch import Tensor

from model.checkpoint import (
    CheckpointConfig,
    PartWeights,
    Provenance,
    convert_published,
    hash_weights,
    load_checkpoint,
    record_evaluation,
    save_checkpoint,
)
from model.errors import CheckpointInvalid
from tests.support import golden
from tests.support.golden import assert_reproduces
from tests.support.networks import FULL, RULE, full_network


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, Path]:
    """A pair as published: training states with the networks' state dicts inside."""
    network = golden.seeded_network()
    paths = tmp_path / "feature_encoder.pth", tmp_path / "relation_network.pth"
    state = {
        "epoch": 3,
        "feature_embed_state_dict": network.encoder.state_dict(),
        "Relation_score_state_dict": network.relation.state_dict(),
    }
    for path in paths:
        torch.save(state, path)
    return paths


def test_a_converted_pair_scores_as_the_published_modules(
    published: tuple[Path, Path], tmp_path: Path
) -> None:
    convert_published(*published, tmp_path / "out.safetensors")
    checkpoint = load_checkpoint(tmp_path / "out.safetensors")
    assert_reproduces(checkpoint.network, golden.CASES["seeded"][0])
    assert set(checkpoint.provenance.recipe["converted_from"]) == {
        "feature_encoder_sha256",
        "relation_network_sha256",
    }


@pytest.mark.skipif(
    not golden.PUBLISHED_CHECKPOINTS.is_dir(),
    reason="needs the published checkpoints, which are not ours to ship",
)
@pytest.mark.parametrize("case", golden.CASES["published"], ids=lambda case: case["checkpoint"])
def test_published_checkpoints_keep_their_numbers(case: dict[str, object], tmp_path: Path) -> None:
    folder = golden.PUBLISHED_CHECKPOINTS / str(case["checkpoint"])
    out = tmp_path / "out.safetensors"
    convert_published(folder / "feature_encoder.pth", folder / "relation_network.pth", out)
    assert_reproduces(load_checkpoint(out).network, case)


class Exploit:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_with_more_than_weights_is_refused_and_never_runs(
    published: tuple[Path, Path], tmp_path: Path
) -> None:
    torch.save({"feature_embed_state_dict": Exploit(tmp_path / "ran")}, published[0])
    with pytest.raises(CheckpointInvalid, match="more than weights"):
        convert_published(*published, tmp_path / "out.safetensors")
    assert not (tmp_path / "ran").exists()


def test_truncated_pth_is_refused(published: tuple[Path, Path], tmp_path: Path) -> None:
    whole = published[1].read_bytes()
    for share in (0.0, 0.3, 0.99):
        published[1].write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(CheckpointInvalid, match="truncated"):
            convert_published(*published, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def with_first(layer: str, tensor: Tensor) -> dict[str, Tensor]:
    """The seeded encoder with another tensor in its first layer."""
    return {**golden.seeded_network().encoder.state_dict(), f"layer1.0.{layer}": tensor}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({}, "which the network needs"),
        ({"weight": torch.zeros(3)}, "which the network needs"),
        ([torch.zeros(3)], "state dict"),
        ({"feature_embed_state_dict": {"layer1.0.weight": 7}}, "state dict"),
        (with_first("weight", torch.zeros(64, 1, 3, 3)), r"layer1.0.weight has shape \(64, 1, 3, 3\)"),
        (with_first("bias", torch.full((64,), torch.nan)), "not finite"),
        (with_first("weight", torch.empty(64, 3, 3, 3, device="meta")), "plain numbers"),
        (with_first("weight", torch.zeros(64, 3, 3, 3).to_sparse()), "plain numbers"),
        (with_first("weight", torch.zeros(64, 3, 3, 3, dtype=torch.complex64)), "plain numbers"),
        (with_first("weight", torch.zeros(64, 3, 3, 3, dtype=torch.int64)), "plain numbers"),
    ],
)
def test_a_pth_without_the_plain_weights_of_the_network_is_refused(
    published: tuple[Path, Path], tmp_path: Path, state: object, reason: str
) -> None:
    torch.save(state, published[0])
    with pytest.raises(CheckpointInvalid, match=reason):
        convert_published(*published, tmp_path / "out.safetensors")


def test_config_and_provenance_travel_with_the_weights(tmp_path: Path) -> None:
    provenance = Provenance(trained_on="made-up data", evaluation={"accuracy": 0.5})
    save_checkpoint(tmp_path / "w.safetensors", full_network(), config=FULL, provenance=provenance)
    loaded = load_checkpoint(tmp_path / "w.safetensors")
    assert (loaded.config, loaded.provenance) == (FULL, provenance)
    assert not list(tmp_path.glob("*.partial"))


def test_the_hash_covers_tensors_and_config_but_not_the_provenance(tmp_path: Path) -> None:
    path, network = tmp_path / "w.safetensors", full_network()
    save_checkpoint(path, network, config=FULL, provenance=Provenance(trained_on="made-up data"))
    before = load_checkpoint(path)
    assert before.sha256 == hash_weights(network, FULL)
    data = path.read_bytes()
    assert record_evaluation(path, "test", {"accuracy": 0.5}) == before.sha256
    after = load_checkpoint(path)
    assert path.read_bytes() != data
    assert after.provenance.evaluation == {"test": {"accuracy": 0.5}}
    assert after.sha256 == before.sha256

    other_rule = RULE.model_copy(update={"single": (0.3, *RULE.single[1:])})
    other_config = FULL.model_copy(update={"unknown_rule": other_rule})
    hashes = {before.sha256, hash_weights(network, other_config)}
    for name, tensor in network.state_dict().items():
        if name in ("relation.slope", "pooled.mean", "geometry.layers.0.weight", "encoder.layers.0.0.weight"):
            tensor.flatten()[0] += 1
            hashes.add(hash_weights(network, FULL))
    assert len(hashes) == 6


def test_damaged_checkpoints_are_refused(weights: Path, tmp_path: Path) -> None:
    data = weights.read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    for content in (b"", b"text", data[:100], data[:-10]):
        damaged.write_bytes(content)
        with pytest.raises(CheckpointInvalid, match="not a safetensors file, or is truncated"):
            load_checkpoint(damaged)
    safetensors.torch.save_file({"x": torch.zeros(1)}, damaged)
    with pytest.raises(CheckpointInvalid, match="not a CSRN checkpoint"):
        load_checkpoint(damaged)
    metadata = {"config": '{"encoder": "vgg"}', "provenance": '{"trained_on": "x"}'}
    safetensors.torch.save_file({"x": torch.zeros(1)}, damaged, metadata=metadata)
    with pytest.raises(CheckpointInvalid, match="encoder"):
        load_checkpoint(damaged)
    with pytest.raises(CheckpointInvalid, match="No such file"):
        load_checkpoint(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"patches": "squares"}, "does not take the patches"),
        ({"vote_counts": ()}, "needs vote_counts"),
        ({"vote_counts": (10**9,)}, "less than or equal"),
        ({"part_weights": dict.fromkeys(["face", "eyes", "lips", "prototype"], 0)}, "vote_counts need"),
        ({"part_weights": dict.fromkeys(PartWeights.model_fields, 0)}, "no part has a weight"),
    ],
)
def test_a_contradictory_config_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=reason):
        CheckpointConfig.model_validate({**FULL.model_dump(), **change})


def test_the_shipped_base_weights_know_four_classes_alone(shipped_weights: Path) -> None:
    base4 = load_checkpoint(shipped_weights.with_name("csrn-fer2013-base4.safetensors"))
    assert set(base4.provenance.recipe["classes"]) == {"happy", "neutral", "sad", "surprise"}
    assert base4.config.vote_counts == (4, 4)
    assert base4.sha256 != load_checkpoint(shipped_weights).sha256
