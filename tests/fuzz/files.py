"""The parsers of files: images, exported sessions, checkpoints and published .pth pairs."""

from __future__ import annotations

import datetime
import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch

from app.sessions.archive import export_session, read_archive
from app.sessions.errors import ArchiveInvalid, ModelChanged
from csrn_client.schemas import ClassCount, Session
from model.checkpoint import CheckpointConfig, Provenance, convert_published, load_checkpoint, save_checkpoint
from model.errors import CheckpointInvalid, ImageUnreadable
from model.networks.csrn import CSRN
from model.support_set import Example
from model.vision.images import LONGEST_PX, MIN_SIDE_PX, decode_image
from tests.fuzz.limits import MIB, Target
from tests.support.bombs import jpeg, png, webp
from tests.support.image_seeds import image_seeds

FOLDER = tempfile.TemporaryDirectory()


def images() -> Target:
    """JPEG, PNG and WebP files."""

    def parse(data: bytes) -> None:
        pixels = decode_image(data).pixels
        assert (pixels.ndim, pixels.shape[2], str(pixels.dtype)) == (3, 3, "uint8")
        assert min(pixels.shape[:2]) >= MIN_SIDE_PX, pixels.shape
        assert max(pixels.shape[:2]) <= LONGEST_PX, pixels.shape

    hostile = [png(2**31 - 1, 64, pixels=b"x"), jpeg(65_500, 65_500), webp(2**24, 2**24)]
    seeds = [*image_seeds(), *hostile]
    # A WebP takes 18 bytes for each of at most 25 million pixels.
    return Target(parse=parse, refused=ImageUnreadable, seeds=seeds, memory_limit_bytes=480 * MIB)


def archives() -> Target:
    """Exported sessions."""

    def parse(data: bytes) -> None:
        _, examples, _ = read_archive(data, weights_sha256="0" * 64, numbers_per_face=24)
        assert all(example.features.shape == (24,) for example in examples)
        assert all(np.isfinite(example.features).all() for example in examples)

    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    session = Session(
        id="s", name="n", created_at=now, expires_at=None, revision=7, weights_sha256="0" * 64,
        metadata={"k": "v", "n": 1}, classes=[ClassCount(label="笑", examples=2, enabled=False)],
    )  # fmt: skip
    names, features = (("1", "笑"), ("x:2", "a b"), ("3", "笑")), np.ones(24, np.float16)
    examples = [
        Example(example_id=name, label=label, features=features, image_sha256=name.encode().ljust(32))
        for name, label in names
    ]
    seeds = [
        export_session(session, examples, ttl_s=60),
        export_session(session.model_copy(update={"classes": []}), [], ttl_s=None),
    ]
    refused = (ArchiveInvalid, ModelChanged)
    return Target(parse=parse, refused=refused, seeds=seeds, memory_limit_bytes=128 * MIB)


def checkpoints() -> Target:
    """Checkpoint files."""
    path = Path(FOLDER.name, "fuzzed.safetensors")

    def parse(data: bytes) -> None:
        path.write_bytes(data)
        load_checkpoint(path)

    provenance = Provenance(trained_on="nothing", evaluation={"a": {"accuracy": 0.5}})
    save_checkpoint(path, CSRN(), config=CheckpointConfig(), provenance=provenance)
    return Target(parse=parse, refused=CheckpointInvalid, seeds=[path.read_bytes()])


def published_pairs() -> Target:
    """Published .pth pairs, of which the encoder's file is damaged."""
    encoder, relation, out = (Path(FOLDER.name, name) for name in ("e.pth", "r.pth", "out.safetensors"))
    network = CSRN()
    torch.save(network.relation.state_dict(), relation)

    def parse(data: bytes) -> None:
        encoder.write_bytes(data)
        convert_published(encoder, relation, out)

    state = network.encoder.state_dict()
    first, shape = next((name, tensor.shape) for name, tensor in state.items())
    unusual = (
        torch.empty(shape, device="meta"),
        torch.zeros(shape).to_sparse(),
        torch.zeros(1).expand(2**40),
        torch.nn.Parameter(torch.zeros(shape)),
        *(torch.zeros(shape, dtype=dtype) for dtype in (torch.complex64, torch.float8_e4m3fn, torch.bool)),
    )
    seeds = []
    for content in (state, {"feature_embed_state_dict": state}, *({**state, first: odd} for odd in unusual)):
        for as_zip in (True, False):
            torch.save(content, buffer := io.BytesIO(), _use_new_zipfile_serialization=as_zip)
            seeds.append(buffer.getvalue())
    with zipfile.ZipFile(bomb := io.BytesIO(seeds[0]), "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/zeros", bytes(2**25))
    return Target(parse=parse, refused=CheckpointInvalid, seeds=[*seeds, bomb.getvalue()])
