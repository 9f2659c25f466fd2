"""Damaged .pth pairs, as `csrn convert` reads them."""

from __future__ import annotations

import io
import random
import tempfile
import warnings
import zipfile
from pathlib import Path

import torch

from model.checkpoint import convert_published
from model.errors import CheckpointInvalid
from model.networks.csrn import CSRN
from tests.fuzz.mutations import damaged
from tests.fuzz.target import MIB, Target


class PublishedPairs(Target):
    """model.checkpoint.convert_published"""

    name, share = "pth", 0.08
    may_grow_bytes = 256 * MIB

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self._encoder, self._relation, self._out = (
            folder / "e.pth",
            folder / "r.pth",
            folder / "out.safetensors",
        )
        network = CSRN()
        torch.save(network.relation.state_dict(), self._relation)
        self._seeds = _seeds(network.encoder.state_dict())

    def make(self, rng: random.Random) -> bytes:
        data = rng.choice(self._seeds)
        if data.startswith(b"PK") and rng.random() < 0.7:
            return _with_damaged_record(rng, data)
        return damaged(rng, data, self._seeds) if rng.random() < 0.95 else data

    def accepts(self, data: bytes) -> bool:
        self._encoder.write_bytes(data)
        try:
            convert_published(self._encoder, self._relation, self._out)
        except CheckpointInvalid:
            return False
        return True

    def close(self) -> None:
        self._folder.cleanup()


def _seeds(state: dict[str, torch.Tensor]) -> list[bytes]:
    """State dicts as both formats hold them, and with every kind of tensor that torch reads."""
    first = next(iter(state))
    shape = state[first].shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd = {
            "meta": torch.empty(shape, device="meta"),
            "sparse": torch.zeros(shape).to_sparse(),
            "compressed": torch.zeros(4, 4).to_sparse_csr(),
            "quantised": torch.quantize_per_tensor(torch.zeros(shape), 0.1, 0, torch.qint8),
            "complex": torch.zeros(shape, dtype=torch.complex64),
            "expanded": torch.zeros(1).expand(shape),
            "endless": torch.zeros(1).expand(2**40),
            "bfloat16": torch.zeros(shape, dtype=torch.bfloat16),
            "float8": torch.zeros(shape, dtype=torch.float8_e4m3fn),
            "integers": torch.zeros(shape, dtype=torch.int64),
            "truths": torch.zeros(shape, dtype=torch.bool),
            "parameter": torch.nn.Parameter(torch.zeros(shape)),
            "scalar": torch.zeros(()),
        }
    states = [state, {"epoch": 3, "feature_embed_state_dict": state}]
    states += [{**state, first: tensor} for tensor in odd.values()]
    seeds = []
    for content in states:
        for as_zip in (True, False):
            buffer = io.BytesIO()
            try:
                torch.save(content, buffer, _use_new_zipfile_serialization=as_zip)
            except (RuntimeError, NotImplementedError):
                continue
            seeds.append(buffer.getvalue())
    return seeds


def _with_damaged_record(rng: random.Random, data: bytes) -> bytes:
    """A sound zip file with one of its records damaged, left out, renamed or packed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as original, zipfile.ZipFile(out, "w") as changed:
        names = original.namelist()
        pickled = next(name for name in names if name.endswith("data.pkl"))
        chosen = pickled if rng.random() < 0.7 else rng.choice(names)
        for name in names:
            content, packing, place = original.read(name), zipfile.ZIP_STORED, name
            if name == chosen:
                match rng.randrange(8):
                    case 0:
                        continue
                    case 1:
                        place = rng.choice(("../x", name + "x", "x/" + name))
                    case 2:
                        packing = zipfile.ZIP_DEFLATED
                    case 3:
                        content = bytes(rng.choice((0, 2**20, 2**25)))
                        packing = zipfile.ZIP_DEFLATED
                    case _:
                        content = damaged(rng, content, [content])
            changed.writestr(place, content, packing)
    return out.getvalue()
