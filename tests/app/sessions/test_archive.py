from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from app.sessions.archive import export_session, read_archive
from app.sessions.errors import ArchiveInvalid, ModelChanged
from csrn_client.schemas import ClassCount, NewSession
from model.support_set import Example
from tests.support.stores import NUMBERS, example, session

SHA = "0" * 64


EXAMPLES = [example("1", "笑", image="1"), example("x:2", "a b"), example("3", "笑", image="3")]


def read(data: bytes, weights_sha256: str = SHA) -> tuple[NewSession, list[Example], list[str]]:
    return read_archive(data, weights_sha256=weights_sha256, numbers_per_face=NUMBERS)


@pytest.mark.parametrize(("examples", "ttl_s"), [(EXAMPLES, 60), (EXAMPLES, None), ([], 60)])
def test_an_exported_session_is_read_back(examples: list[Example], ttl_s: float | None) -> None:
    new, found, _ = read(export_session(session("s"), examples, ttl_s=ttl_s))
    assert (new.name, new.metadata, new.ttl_s) == ("n", {"k": "v", "n": 1}, ttl_s)
    assert [(kept.example_id, kept.label) for kept in found] == [(e.example_id, e.label) for e in examples]
    for kept, original in zip(found, examples, strict=True):
        assert kept.features.dtype == np.float16
        assert np.array_equal(kept.features, original.features)
        assert kept.image_sha256 == original.image_sha256


def test_disabled_classes_stay_disabled() -> None:
    exported = session("s")
    exported.classes = [
        ClassCount(label="笑", examples=2, enabled=False),
        ClassCount(label="a b", examples=1, enabled=True),
    ]
    assert read(export_session(exported, EXAMPLES, ttl_s=None))[2] == ["笑"]


def test_a_file_of_the_first_release_is_read() -> None:
    def without_later_members(contents: dict[str, Any]) -> None:
        del contents["disabled"]
        contents["format"] = "csrn-session-1"
        for named in contents["examples"]:
            del named["image_sha256"]

    _, found, disabled = read(changed(without_later_members))
    assert (len(found), {kept.image_sha256 for kept in found}, disabled) == (3, {None}, [])


def test_a_full_session_with_the_longest_names_can_be_read() -> None:
    full = [
        example(f"{index:0128}", chr(0x1F600 + index % 64) * 64, image=str(index)) for index in range(512)
    ]
    assert len(read(export_session(session("s"), full, ttl_s=None))[1]) == 512


def test_releases_that_know_no_disabled_classes_refuse_the_file() -> None:
    formats: list[str] = []
    changed(lambda contents: formats.append(contents["format"]))
    assert formats == ["csrn-session-2"]


def test_an_unknown_member_is_named() -> None:
    with pytest.raises(ArchiveInvalid, match=r"session\.other: an exported session has no such member"):
        read(changed(lambda contents: contents["session"].update(other=1)))


def test_other_weights_are_reported_before_a_wrong_shape() -> None:
    with pytest.raises(ModelChanged):
        read_archive(
            export_session(session("s"), EXAMPLES, ttl_s=None), weights_sha256="1" * 64, numbers_per_face=729
        )


def changed(change: Callable[[dict[str, Any]], object], features: Any = None) -> bytes:
    """An exported file with changed contents."""
    data = export_session(session("s"), EXAMPLES, ttl_s=None)
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
    "short digest": changed(lambda contents: contents["examples"][0].update(image_sha256="00")),
    "same image twice": changed(
        lambda contents: contents["examples"][1].update(image_sha256=contents["examples"][0]["image_sha256"])
    ),
    "disabled class without examples": changed(lambda contents: contents.update(disabled=["a"])),
    "disabled number": changed(lambda contents: contents.update(disabled=[1])),
    "endless ttl": changed(lambda contents: contents["session"].update(ttl_s=1e300)),
    "nested metadata": changed(lambda contents: contents["session"].update(metadata={"a": {"b": 1}})),
    "fewer features": changed(lambda contents: None, np.zeros((2, NUMBERS), np.float16)),
    "other shape": changed(lambda contents: None, np.zeros((3, NUMBERS + 1), np.float16)),
    "features as maps": changed(lambda contents: None, np.zeros((3, 3, 2, 2, 2), np.float16)),
    "other type": changed(lambda contents: None, np.zeros((3, NUMBERS), np.float32)),
    "not finite": changed(lambda contents: None, np.full((3, NUMBERS), np.nan, np.float16)),
    "truncated": export_session(session("s"), EXAMPLES, ttl_s=None)[:-1],
    "other member": changed(lambda contents: contents.update(other=1)),
    "other member of an example": changed(lambda contents: contents["examples"][0].update(other=1)),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_invalid(data: bytes) -> None:
    with pytest.raises(ArchiveInvalid):
        read(data)
