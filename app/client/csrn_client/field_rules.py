"""The values that a request can set, with their limits: names, labels, example ids and metadata."""

from __future__ import annotations

import json
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

MAX_LABEL_CHARACTERS = 64
MAX_TTL_S = 10 * 365 * 86400
MAX_METADATA_ENTRIES = 64
MAX_METADATA_BYTES = 16 * 1024


def normalized_label(label: str) -> str:
    """The label in Unicode NFC, without white space at its ends.

    Raises: ValueError unless it has 1 to 64 characters, without control characters and slashes. The labels .
        and .. are refused too, because HTTP clients remove them from an address before they send it.
    """
    categories = {unicodedata.category(character) for character in label}
    if "Cc" in categories:
        raise ValueError("a label has no control characters")
    if "/" in label:
        raise ValueError("a label has no slashes")
    # Bytes that are not UTF-8: Python makes surrogates of them, and servers make U+FFFD.
    if "Cs" in categories or "\ufffd" in label:
        raise ValueError("a label is valid UTF-8")
    label = unicodedata.normalize("NFC", label).strip()
    if not 1 <= len(label) <= MAX_LABEL_CHARACTERS:
        raise ValueError(f"a label has 1 to {MAX_LABEL_CHARACTERS} characters")
    if label in (".", ".."):
        raise ValueError("a label is neither . nor ..")
    return label


def _few_entries(metadata: Any) -> Any:
    # Checked before pydantic looks at the entries: one error for each of millions would fill the memory.
    if isinstance(metadata, dict) and len(metadata) > MAX_METADATA_ENTRIES:
        raise ValueError(f"metadata has at most {MAX_METADATA_ENTRIES} entries")
    return metadata


def _small_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    try:
        written = json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        raise ValueError("metadata holds valid Unicode and finite numbers only") from None
    if len(written) > MAX_METADATA_BYTES:
        raise ValueError(f"metadata takes at most {MAX_METADATA_BYTES} bytes as JSON")
    return metadata


SessionName = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
Label = Annotated[
    str,
    AfterValidator(normalized_label),
    Field(json_schema_extra={"minLength": 1, "maxLength": MAX_LABEL_CHARACTERS, "examples": ["smile"]}),
]
ExampleId = Annotated[
    str,
    Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$", examples=["smile-1"]),
]
Metadata = Annotated[
    dict[str, str | int | float | bool | None],
    BeforeValidator(_few_entries),
    AfterValidator(_small_metadata),
]
