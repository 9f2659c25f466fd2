"""Checkpoints: one safetensors file with the network's weights, its config and its provenance.

The metadata of the file holds two JSON texts: `config` (a CheckpointConfig) and `provenance` (a
Provenance). `convert_published` converts published .pth pairs; nothing else is unpickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from model.errors import CheckpointInvalid
from model.networks.csrn import CSRN
from model.unknown import SessionStatistics, UnknownRule
from model.vision.patches import LAYOUTS, LayoutName, PatchLayout


class PartWeights(pydantic.BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Weight of each part in a class score; the defaults are the paper's four parts."""

    face: float = pydantic.Field(1.0, ge=0)
    eyes: float = pydantic.Field(1.0, ge=0)
    lips: float = pydantic.Field(1.0, ge=0)
    prototype: float = pydantic.Field(0.7, ge=0)
    cosine: float | None = pydantic.Field(None, ge=0)
    votes: float | None = pydantic.Field(None, ge=0)
    geometry: float | None = pydantic.Field(None, ge=0)

    def by_name(self) -> dict[str, float]:
        """Weights of the parts that the checkpoint has, in the order of `EpisodeScores.class_parts`."""
        return self.model_dump(exclude_none=True)


class CheckpointConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Everything needed to rebuild the network and to compute class scores."""

    encoder: Literal["conv4", "resnet", "resnet-large"] = "conv4"
    patches: LayoutName = "squares"
    """The patch layout that the network was trained on"""
    residual: bool = False
    """Whether the relation module starts from the cosine of the two maps"""
    part_weights: PartWeights = PartWeights()
    vote_counts: tuple[Annotated[int, pydantic.Field(ge=1, le=1000)], ...] = ()
    """Number of classes of each kind of annotation that the votes part predicts"""
    unknown_rule: UnknownRule | None = None
    """Computes the threshold of a session; without a rule every threshold is 0"""

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> CheckpointConfig:
        if (self.part_weights.votes is None) != (not self.vote_counts):
            raise ValueError("a votes part needs vote_counts, and vote_counts need a votes part")
        if (self.encoder == "conv4") != (self.patches == "squares"):
            raise ValueError(f"the encoder {self.encoder} does not take the patches {self.patches}")
        if not sum(self.part_weights.by_name().values()):
            raise ValueError("no part has a weight")
        return self

    def build_network(self) -> CSRN:
        """A network of this shape with fresh weights."""
        return CSRN(
            self.encoder,
            residual=self.residual,
            cosine=self.part_weights.cosine is not None,
            votes=self.vote_counts if self.part_weights.votes is not None else (),
            geometry=self.part_weights.geometry is not None,
        )

    def unknown_below(self, session: SessionStatistics) -> float:
        """The threshold of a session."""
        return 0.0 if self.unknown_rule is None else self.unknown_rule.threshold(session)

    @property
    def layout(self) -> PatchLayout:
        return LAYOUTS[self.patches]


class Provenance(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Where the weights come from."""

    trained_on: str
    """Data and classes, in words"""
    recipe: dict[str, Any] = {}
    """Settings, seeds and versions of the training"""
    evaluation: dict[str, Any] = {}
    """Measured accuracy, with its protocol"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network in eval mode with its config and provenance."""

    network: CSRN
    config: CheckpointConfig
    provenance: Provenance
    sha256: str
    """Hash of the tensors and the config, from `hash_weights`"""


def load_checkpoint(path: Path, *, device: torch.device | str = "cpu") -> Checkpoint:
    """Load a checkpoint. Raises: CheckpointInvalid, which says what is wrong with the file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointInvalid(f"{path}: {error.strerror}") from None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        state = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, OSError):
        raise CheckpointInvalid(f"{path} is not a safetensors file, or is truncated") from None
    try:
        config = CheckpointConfig.model_validate_json(metadata["config"])
        provenance = Provenance.model_validate_json(metadata["provenance"])
    except KeyError as error:
        raise CheckpointInvalid(f"{path} has no {error} metadata: not a CSRN checkpoint") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CheckpointInvalid(f"{path}: metadata {place}: {first['msg']}") from None
    network = config.build_network()
    _load_state(network, state, str(path))
    return Checkpoint(
        network=network.eval().requires_grad_(False).to(device),
        config=config,
        provenance=provenance,
        sha256=hash_weights(network, config),
    )


def hash_weights(network: CSRN, config: CheckpointConfig) -> str:
    """SHA-256 of a network's tensors and config, in hexadecimal digits.

    The hash covers everything that decides features and scores. It leaves the provenance out, so recording
    an evaluation does not make the features of stored sessions incompatible.
    """
    # Settings at their default are left out, so adding a setting later changes no hash.
    settings = config.model_dump(mode="json", exclude_defaults=True)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(path: Path, network: CSRN, *, config: CheckpointConfig, provenance: Provenance) -> None:
    """Write a checkpoint atomically: readers see either the old or the complete new file. Raises: OSError."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    metadata = {"config": config.model_dump_json(), "provenance": provenance.model_dump_json()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    # safetensors' own save_file would raise another error than OSError if the disk is full.
    partial.write_bytes(safetensors.torch.save(state, metadata=metadata))
    partial.replace(path)


def record_evaluation(path: Path, name: str, figures: dict[str, Any]) -> str:
    """Record measured figures in a checkpoint's provenance; returns its hash, which stays the same."""
    checkpoint = load_checkpoint(path)
    evaluation = {**checkpoint.provenance.evaluation, name: figures}
    provenance = checkpoint.provenance.model_copy(update={"evaluation": evaluation})
    save_checkpoint(path, checkpoint.network, config=checkpoint.config, provenance=provenance)
    return checkpoint.sha256


def convert_published(encoder_path: Path, relation_path: Path, out: Path) -> None:
    """Convert a published checkpoint pair (.pth) to one checkpoint file.

    Each file holds either a state dict or a training state that contains one.

    Raises: CheckpointInvalid, which names the file and what is wrong with it.
    """
    network = CSRN()
    for module, path, entry in (
        (network.encoder, encoder_path, "feature_embed_state_dict"),
        (network.relation, relation_path, "Relation_score_state_dict"),
    ):
        _load_state(module, _read_published(path, entry), str(path))
    hashes = {
        "feature_encoder_sha256": hashlib.sha256(encoder_path.read_bytes()).hexdigest(),
        "relation_network_sha256": hashlib.sha256(relation_path.read_bytes()).hexdigest(),
    }
    provenance = Provenance(
        trained_on="unknown: converted from a published checkpoint pair",
        recipe={"converted_from": hashes},
    )
    save_checkpoint(out, network, config=CheckpointConfig(), provenance=provenance)


def _read_published(path: Path, entry: str) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            # torch warns about files that are refused below.
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointInvalid(f"{path}: {error.strerror or 'cannot be read'}") from None
    except Exception:
        # torch raises many kinds of errors on a damaged file: AssertionError, struct.error, MemoryError, ...
        raise CheckpointInvalid(
            f"{path} is not a PyTorch state dict, is truncated, or contains more than weights"
        ) from None
    if isinstance(state, dict) and entry in state:
        state = state[entry]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise CheckpointInvalid(f"{path} does not contain a state dict of tensors")
    # Data-parallel training adds a prefix to every name.
    return {name.removeprefix("module."): value for name, value in state.items()}


def _load_state(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    expected = module.state_dict()
    if missing := sorted(expected.keys() - state.keys()):
        raise CheckpointInvalid(f"{source} has no {missing[0]}, which the network needs")
    if unexpected := sorted(state.keys() - expected.keys()):
        raise CheckpointInvalid(f"{source} has {unexpected[0]}, which the network does not have")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise CheckpointInvalid(
                f"{source}: {name} has shape {tuple(state[name].shape)}, "
                f"the network needs {tuple(tensor.shape)}"
            )
        if not _is_plain(state[name], like=tensor):
            raise CheckpointInvalid(f"{source}: {name} does not consist of plain numbers")
        if not torch.isfinite(state[name].float()).all():
            raise CheckpointInvalid(f"{source}: {name} has values that are not finite")
    module.load_state_dict(state)


def _is_plain(tensor: Tensor, *, like: Tensor) -> bool:
    """Whether the tensor holds all its values and is not sparse, quantised, complex or on the meta device."""
    return (
        tensor.layout == torch.strided
        and tensor.device.type != "meta"
        and not tensor.is_quantized
        and not tensor.is_complex()
        and tensor.is_floating_point() == like.is_floating_point()
    )
