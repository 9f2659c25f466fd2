"""The parsers of files: images, exported sessions, checkpoints and published .pth pairs."""

from __future__ import annotations

import datetime
import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch

from app.sessions.archive import ArchiveInvalid, ArchiveOfOtherWeights, export_session, read_archive
from app.sessions.session import Session
from model.checkpoint import CheckpointConfig, Provenance, convert_published, load_checkpoint, save_checkpoint
from model.errors import CheckpointInvalid, ImageUnreadable
from model.networks.relation import CSRN
from model.support_set import Example
from model.vision.images import LONGEST_PX, MIN_SIDE_PX, decode_image
from tests.fuzz.limits import MIB, Target
from tests.support.bombs import jpeg, png, webp
from tests.support.image_seeds import image_seeds


class Images(Target):
    """JPEG, PNG and WebP files, read by decode_image."""

    memory_limit_bytes = 480 * MIB  # A WebP takes 18 bytes for each of at most 25 million pixels.

    def __init__(self) -> None:
        hostile = [png(2**31 - 1, 64, pixels=b"x"), jpeg(65_500, 65_500), webp(2**24, 2**24)]
        self.seeds = [*image_seeds(), *hostile]

    def accepts(self, data: bytes) -> bool:
        try:
            pixels = decode_image(data).pixels
        except ImageUnreadable:
            return False
        assert (pixels.ndim, pixels.shape[2], pixels.dtype) == (3, 3, np.uint8)
        assert min(pixels.shape[:2]) >= MIN_SIDE_PX, pixels.shape
        assert max(pixels.shape[:2]) <= LONGEST_PX, pixels.shape
        return True


class Archives(Target):
    """Exported sessions, read by read_archive."""

    def __init__(self) -> None:
        now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        session = Session(
            id="s", name="n", created_at=now, expires_at=None, revision=7, weights_sha256="0" * 64,
            metadata={"k": "v", "n": 1}, classes={},
        )  # fmt: skip
        names, features = (("1", "笑"), ("x:2", "a b"), ("3", "笑")), np.ones(24, np.float16)
        examples = [Example(example_id=name, label=label, features=features) for name, label in names]
        self.seeds = [export_session(session, examples), export_session(session, [])]

    def accepts(self, data: bytes) -> bool:
        try:
            _, examples = read_archive(data, weights_sha256="0" * 64, numbers_per_face=24)
        except (ArchiveInvalid, ArchiveOfOtherWeights):
            return False
        assert all(example.features.shape == (24,) for example in examples)
        assert all(np.isfinite(example.features).all() for example in examples)
        return True


class Checkpoints(Target):
    """Checkpoint files, read by load_checkpoint."""

    memory_limit_bytes = 256 * MIB

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name, "fuzzed.safetensors")
        provenance = Provenance(trained_on="nothing", evaluation={"a": {"accuracy": 0.5}})
        save_checkpoint(self._path, CSRN(), config=CheckpointConfig(), provenance=provenance)
        self.seeds = [self._path.read_bytes()]

    def accepts(self, data: bytes) -> bool:
        self._path.write_bytes(data)
        try:
            load_checkpoint(self._path)
        except CheckpointInvalid:
            return False
        return True


class PublishedPairs(Target):
    """Published .pth pairs, read by convert_published. Only the encoder's file is damaged."""

    memory_limit_bytes = 256 * MIB

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._paths = [Path(self._folder.name, name) for name in ("e.pth", "r.pth", "out.safetensors")]
        network = CSRN()
        torch.save(network.relation.state_dict(), self._paths[1])
        state = network.encoder.state_dict()
        first, shape = next((name, tensor.shape) for name, tensor in state.items())
        dtypes = (torch.complex64, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.bool)
        unusual = [
            torch.empty(shape, device="meta"),
            torch.zeros(shape).to_sparse(),
            torch.zeros(1).expand(shape),
            torch.zeros(1).expand(2**40),
            torch.nn.Parameter(torch.zeros(shape)),
            torch.zeros(()),
            *(torch.zeros(shape, dtype=dtype) for dtype in dtypes),
        ]
        states = [state, {"epoch": 3, "feature_embed_state_dict": state}]
        states += [{**state, first: tensor} for tensor in unusual]
        self.seeds = [_saved(content, as_zip) for content in states for as_zip in (True, False)]
        with zipfile.ZipFile(bomb := io.BytesIO(self.seeds[0]), "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data/zeros", bytes(2**25))
        self.seeds.append(bomb.getvalue())

    def accepts(self, data: bytes) -> bool:
        self._paths[0].write_bytes(data)
        try:
            convert_published(*self._paths)
        except CheckpointInvalid:
            return False
        return True


def _saved(content: object, as_zip: bool) -> bytes:
    """A file in torch's zip format, or in the format before it."""
    torch.save(content, buffer := io.BytesIO(), _use_new_zipfile_serialization=as_zip)
    return buffer.getvalue()
