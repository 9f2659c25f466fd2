from __future__ import annotations

import datetime
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from app.sessions.archive import export_session, read_archive
from app.sessions.errors import ArchiveInvalid, ModelChanged
from csrn_client.schemas import NewSession, Session
from model.support_set import Example

SHA = "0" * 64
NUMBERS = 24
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def example(example_id: str, label: str) -> Example:
    features = np.random.default_rng([*example_id.encode()]).random(NUMBERS).astype(np.float16)
    return Example(example_id=example_id, label=label, features=features)


EXAMPLES = [example("1", "笑"), example("x:2", "a b"), example("3", "笑")]


def session(examples: list[Example] = EXAMPLES, ttl_s: float | None = 60) -> Session:
    return Session(
        id="s",
        name="n",
        created_at=NOW,
        expires_at=None if ttl_s is None else NOW + datetime.timedelta(seconds=ttl_s),
        revision=7,
        weights_sha256=SHA,
        metadata={"k": "v", "n": 1},
        classes=[],
    )


def read(data: bytes, weights_sha256: str = SHA) -> tuple[NewSession, list[Example]]:
    return read_archive(data, weights_sha256=weights_sha256, numbers_per_face=NUMBERS)


@pytest.mark.parametrize(("examples", "ttl_s"), [(EXAMPLES, 60), (EXAMPLES, None), ([], 60)])
def test_an_exported_session_is_read_back(examples: list[Example], ttl_s: float | None) -> None:
    new, found = read(export_session(session(examples, ttl_s), examples))
    assert (new.name, new.metadata, new.ttl_s) == ("n", {"k": "v", "n": 1}, ttl_s)
    assert [(kept.example_id, kept.label) for kept in found] == [(e.example_id, e.label) for e in examples]
    for kept, original in zip(found, examples, strict=True):
        assert kept.features.dtype == np.float16
        assert np.array_equal(kept.features, original.features)


def test_other_weights_are_reported_before_a_wrong_shape() -> None:
    with pytest.raises(ModelChanged):
        read_archive(export_session(session(), EXAMPLES), weights_sha256="1" * 64, numbers_per_face=729)


def changed(change: Callable[[dict[str, Any]], object], features: Any = None) -> bytes:
    """An exported file with changed contents."""
    data = export_session(session(), EXAMPLES)
    contents = json.loads(
        json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["session"]
    )
    change(contents)
    kept = safetensors.numpy.load(data)["features"] if features is None else features
    return safetensors.numpy.save({"features": kept}, metadata={"session": json.dumps(contents)})


HOSTILE = {
    "empty": b"",
    "text": b"not a safetensors file",
    "endless header": b"\xff" * 64,
    "long header": (2**21).to_bytes(8, "little") + b" " * 2**21,
    "deep header": (5000).to_bytes(8, "little") + b"[" * 5000,
    "no metadata": safetensors.numpy.save({"features": np.zeros((3, NUMBERS), np.float16)}),
    "null metadata": (21).to_bytes(8, "little") + b'{"__metadata__":null}',
    "many bad examples": changed(lambda contents: contents.update(examples=[{}] * 50_000)),
    "other metadata": safetensors.numpy.save({}, metadata={"format": "pt"}),
    "deep metadata": safetensors.numpy.save({}, metadata={"session": "[" * 100_000}),
    "other format": changed(lambda contents: contents.update(format="csrn-session-9")),
    "no label": changed(lambda contents: contents["examples"][0].pop("label")),
    "control character": changed(lambda contents: contents["examples"][0].update(label="a\x07")),
    "long label": changed(lambda contents: contents["examples"][0].update(label="a" * 65)),
    "bad id": changed(lambda contents: contents["examples"][0].update(id="../x")),
    "same id twice": changed(lambda contents: contents["examples"][0].update(id="3")),
    "endless ttl": changed(lambda contents: contents["session"].update(ttl_s=1e300)),
    "nested metadata": changed(lambda contents: contents["session"].update(metadata={"a": {"b": 1}})),
    "fewer features": changed(lambda contents: None, np.zeros((2, NUMBERS), np.float16)),
    "other shape": changed(lambda contents: None, np.zeros((3, NUMBERS + 1), np.float16)),
    "features as maps": changed(lambda contents: None, np.zeros((3, 3, 2, 2, 2), np.float16)),
    "other type": changed(lambda contents: None, np.zeros((3, NUMBERS), np.float32)),
    "not finite": changed(lambda contents: None, np.full((3, NUMBERS), np.nan, np.float16)),
    "truncated": export_session(session(), EXAMPLES)[:-1],
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_invalid(data: bytes) -> None:
    with pytest.raises(ArchiveInvalid):
        read(data)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), cut=st.booleans())
def test_a_damaged_file_is_invalid_or_still_a_valid_session(seed: int, cut: bool) -> None:
    data, chance = bytearray(export_session(session(), EXAMPLES)), random.Random(seed)
    for _ in range(chance.randint(1, 4)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    try:
        _, found = read(bytes(data[: chance.randrange(len(data))] if cut else data))
    except (ArchiveInvalid, ModelChanged):
        return
    assert all(kept.features.shape == (NUMBERS,) and np.isfinite(kept.features).all() for kept in found)
