"""Reads requirements.lock."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).parents[2] / "requirements.lock"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Locked:
    """One line of the lock: a package may have several, for different Pythons."""

    name: str
    version: str
    hashes: int
    for_this_python: bool


def read_lock(text: str) -> list[Locked]:
    """Every requirement, by name and version. Raises: ValueError where one is not locked to a version."""
    found = []
    for entry in re.split(r"\n(?=\S)", text.strip()):
        if entry.startswith("#"):
            continue
        line, *hashes = re.split(r"\s*\\\n\s*", entry)
        requirement = Requirement(line)
        specifiers = list(requirement.specifier)
        if len(specifiers) != 1 or specifiers[0].operator != "==":
            raise ValueError(f"{line} is not locked to one version")
        found.append(
            Locked(
                name=canonicalize_name(requirement.name),
                version=specifiers[0].version,
                hashes=sum(text.startswith("--hash=sha256:") for text in hashes),
                for_this_python=requirement.marker is None or requirement.marker.evaluate(),
            )
        )
    return sorted(found, key=lambda locked: (locked.name, locked.version))
