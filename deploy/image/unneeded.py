"""Prints the installed packages that only development needs.

python unneeded.py PYPROJECT.TOML [EXTRA...] looks at the packages of its own Python, and keeps the extras.
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed_by(requirements: list[str], installed: dict[str, Distribution]) -> set[str]:
    """Names of the installed packages that the requirements depend on, directly or indirectly."""
    needed: set[str] = set()
    seen: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if str(requirement) in seen or name not in installed:
            continue
        seen.add(str(requirement))
        needed.add(name)
        for text in installed[name].requires or ():
            child = Requirement(text)
            extras = requirement.extras or {""}
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(child)
    return needed


if __name__ == "__main__":
    project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
    installed = {canonicalize_name(found.name): found for found in distributions()}
    extras = [text for extra in sys.argv[2:] for text in project["optional-dependencies"][extra]]
    needed = needed_by([*project["dependencies"], *extras], installed)
    print(*sorted(installed.keys() - needed), sep="\n")
