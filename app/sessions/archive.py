"""A session as one safetensors file, for export and import."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import safetensors
import safetensors.numpy

from app.sessions.errors import ArchiveInvalid, ModelChanged
from csrn_client import field_rules
from csrn_client.schemas import NewSession, Session
from model.support_set import Example, Features

ENTRY = "session"
"""Key of the file's metadata, whose value is the JSON of _Contents"""
TENSOR = "features"
"""Name of the tensor: (examples, numbers) float16, in the order of the listed examples"""
MAX_HEADER_BYTES = 2**20
"""Several times the size of a full session with the longest labels and ids"""


class _ExampleName(pydantic.BaseModel, extra="forbid"):
    id: field_rules.ExampleId
    label: field_rules.Label
    image_sha256: Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")] | None = None


class _Contents(pydantic.BaseModel, extra="forbid"):
    """A session without its features."""

    format: Literal["csrn-session-1", "csrn-session-2"] = "csrn-session-2"
    """The first release, which writes 1, ignores members that it does not know, such as `disabled`"""
    session: NewSession
    """ttl_s is the one that was set last; it starts again with the import"""
    weights_sha256: str
    examples: Annotated[list[_ExampleName], pydantic.FailFast()]
    disabled: Annotated[list[field_rules.Label], pydantic.FailFast()] = []
    """Labels of the classes that are not scored"""


def export_session(session: Session, examples: Sequence[Example], *, ttl_s: float | None) -> bytes:
    """The file of a session, all its examples, and the time to live that was set last."""
    contents = _Contents(
        session=NewSession(name=session.name, ttl_s=ttl_s, metadata=session.metadata),
        weights_sha256=session.weights_sha256,
        examples=[
            _ExampleName(
                id=example.example_id,
                label=example.label,
                image_sha256=example.image_sha256 and example.image_sha256.hex(),
            )
            for example in examples
        ],
        disabled=[known.label for known in session.classes if not known.enabled],
    )
    tensors = {TENSOR: np.stack([example.features for example in examples])} if examples else {}
    data: bytes = safetensors.numpy.save(tensors, metadata={ENTRY: contents.model_dump_json()})
    return data


def read_archive(
    data: bytes, *, weights_sha256: str, numbers_per_face: int
) -> tuple[NewSession, list[Example], list[str]]:
    """The session in a file: its settings, its examples and the labels of its disabled classes.

    Checks the file like a request, because it may come from anyone.

    Args: weights_sha256 and numbers_per_face describe the weights that the service uses.
    Raises: ArchiveInvalid; ModelChanged.
    """
    contents, tensors = _parse(data)
    if contents.weights_sha256 != weights_sha256:
        raise ModelChanged("the file was exported from a service with other weights")
    ids = [example.id for example in contents.examples]
    if len(set(ids)) < len(ids):
        raise ArchiveInvalid("two examples have the same id")
    digests = [example.image_sha256 for example in contents.examples if example.image_sha256]
    if len(set(digests)) < len(digests):
        raise ArchiveInvalid("two examples have the same image")
    if not set(contents.disabled) <= {example.label for example in contents.examples}:
        raise ArchiveInvalid("a disabled class has no examples")
    features = _features(tensors, (len(ids), numbers_per_face))
    examples = [
        Example(
            example_id=example.id,
            label=example.label,
            features=of_example,
            image_sha256=None if example.image_sha256 is None else bytes.fromhex(example.image_sha256),
        )
        for example, of_example in zip(contents.examples, features, strict=True)
    ]
    return contents.session, examples, contents.disabled


def _parse(data: bytes) -> tuple[_Contents, dict[str, dict[str, Any]]]:
    header_bytes = int.from_bytes(data[:8], "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise ArchiveInvalid("it is not a safetensors file of an exported session")
    try:
        tensors = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
        header = json.loads(data[8 : 8 + header_bytes])
    except (safetensors.SafetensorError, ValueError, RecursionError):
        raise ArchiveInvalid("it is not a safetensors file, or is damaged") from None
    try:
        return _Contents.model_validate_json(header["__metadata__"][ENTRY]), tensors
    except (KeyError, TypeError):
        raise ArchiveInvalid("it is a safetensors file, but not of an exported session") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        detail = "an exported session has no such member" if unknown else first["msg"]
        raise ArchiveInvalid(f"{place}: {detail.removeprefix('Value error, ')}") from None


def _features(tensors: dict[str, dict[str, Any]], shape: tuple[int, int]) -> Features:
    if shape[0] == 0:
        return np.empty(shape, dtype=np.float16)
    tensor = tensors.get(TENSOR, {})
    if tensor.get("dtype") != "F16" or tuple(tensor["shape"]) != shape:
        raise ArchiveInvalid("the shape or type of its features is wrong")
    features = np.frombuffer(tensor["data"], dtype=np.float16).reshape(shape)
    if not np.isfinite(features).all():
        raise ArchiveInvalid("its features contain values that are not finite")
    return features
