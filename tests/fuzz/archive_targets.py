"""Damaged safetensors files: exported sessions and checkpoints."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from app.sessions.archive import ArchiveInvalid, ArchiveOfOtherWeights, export_session, read_archive
from model.checkpoint import CheckpointConfig, Provenance, load_checkpoint, save_checkpoint
from model.errors import CheckpointInvalid
from model.networks.csrn import CSRN
from tests.app.sessions.test_archive import EXAMPLES, NUMBERS, SHA, session
from tests.fuzz.mutations import damaged, lying_number, with_other_value
from tests.fuzz.target import MIB, Target


def damaged_safetensors(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """A file whose header, or a JSON text within it, says something else than it did."""
    if rng.random() < 0.35:
        return damaged(rng, data, others)
    size = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + size]), data[8 + size :]
    for _ in range(rng.choice((1, 1, 2))):
        header = _other_header(rng, header)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        text = damaged(rng, text, [text])
    length = lying_number(rng) if rng.random() < 0.05 else len(text)
    return length.to_bytes(8, "little") + text + (damaged(rng, rest, [rest]) if rng.random() < 0.1 else rest)


def _other_header(rng: random.Random, header: Any) -> Any:
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not metadata or rng.random() < 0.4:
        return with_other_value(rng, header)
    key = rng.choice(list(metadata))
    try:
        inner = json.dumps(with_other_value(rng, json.loads(metadata[key])))
    except (TypeError, ValueError, RecursionError):
        return header
    return {**header, "__metadata__": {**metadata, key: inner}}


class Archives(Target):
    """app.sessions.archive.read_archive"""

    name, share = "archives", 0.2

    def __init__(self) -> None:
        self._seeds = [export_session(session(), EXAMPLES), export_session(session([]), [])]

    def make(self, rng: random.Random) -> bytes:
        return damaged_safetensors(rng, rng.choice(self._seeds), self._seeds)

    def accepts(self, data: bytes) -> bool:
        try:
            _, examples = read_archive(data, weights_sha256=SHA, numbers_per_face=NUMBERS)
        except (ArchiveInvalid, ArchiveOfOtherWeights):
            return False
        assert all(
            example.features.shape == (NUMBERS,) and np.isfinite(example.features).all()
            for example in examples
        )
        return True


class Checkpoints(Target):
    """model.checkpoint.load_checkpoint"""

    name, share = "checkpoints", 0.07
    may_grow_bytes = 256 * MIB

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / "fuzzed.safetensors"
        provenance = Provenance(trained_on="nothing", evaluation={"a": {"accuracy": 0.5}})
        save_checkpoint(self._path, CSRN(), config=CheckpointConfig(), provenance=provenance)
        self._seeds = [self._path.read_bytes()]

    def make(self, rng: random.Random) -> bytes:
        return damaged_safetensors(rng, rng.choice(self._seeds), self._seeds)

    def accepts(self, data: bytes) -> bool:
        self._path.write_bytes(data)
        try:
            load_checkpoint(self._path)
        except CheckpointInvalid:
            return False
        return True

    def close(self) -> None:
        self._folder.cleanup()
