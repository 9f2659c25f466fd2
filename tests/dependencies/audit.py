"""make audit: what can be said of the dependencies without the network.

Every package of requirements.lock has hashes; what is installed is what is locked; and no locked version
is one of which advisories.toml says that it is vulnerable, unless the list says why that does no harm
here. No advisory database is fetched: where there is a network, run `pip-audit -r requirements.lock
--no-deps --disable-pip` too, which also knows what was found since the list was written.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.dependencies.lock import LOCK, Locked, read_lock

ADVISORIES = Path(__file__).with_name("advisories.toml")
STALE_AFTER_DAYS = 90


def unhashed(locked: Iterable[Locked]) -> list[str]:
    return [f"{package.name} {package.version} has no hash" for package in locked if not package.hashes]


def differing(locked: Iterable[Locked], installed: Mapping[str, str]) -> list[str]:
    """Packages for this Python that are missing, or installed in another version than is locked."""
    return [
        f"{package.name} is locked at {package.version}, installed is {installed.get(package.name, 'none')}"
        for package in locked
        if package.for_this_python and installed.get(package.name) != package.version
    ]


def vulnerable(locked: Iterable[Locked], advisories: Sequence[Mapping[str, Any]]) -> list[str]:
    """Locked versions that an advisory is about and that it gives no reason to keep."""
    return [
        f"{package.name} {package.version}: {advisory['id']}, {advisory['about']}"
        for package in locked
        for advisory in advisories
        if advisory["package"] == package.name
        and SpecifierSet(advisory["affected"]).contains(package.version, prereleases=True)
        and not advisory.get("harmless_because")
    ]


def installed_versions() -> dict[str, str]:
    return {canonicalize_name(found.name): found.version for found in importlib.metadata.distributions()}


def main() -> int:
    locked, installed = read_lock(LOCK.read_text()), installed_versions()
    listed = tomllib.loads(ADVISORIES.read_text())
    faults = unhashed(locked) + differing(locked, installed) + vulnerable(locked, listed["advisory"])
    unlocked = sorted(installed.keys() - {package.name for package in locked} - {"csrn-serve", "pip"})
    age = (datetime.date.today() - listed["checked"]).days
    print(f"{len(locked)} locked packages, {len(listed['advisory'])} advisories known on {listed['checked']}")
    if unlocked:
        print(f"note: installed but not locked: {', '.join(unlocked)}")
    if age > STALE_AFTER_DAYS:
        print(f"note: the list of advisories is {age} days old: run pip-audit where there is a network")
    for fault in faults:
        print(fault, file=sys.stderr)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
