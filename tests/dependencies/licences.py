"""make licences: docs/licences.md, from the lock and what the installed packages say of themselves.

    python -m tests.dependencies.licences            write it
    python -m tests.dependencies.licences --check    fail where it is out of date, or a licence is not allowed

Names and versions come from the lock, so that the list does not depend on the machine. The licence of a
package that is not installed here (it is for another Python) is taken from the list as it was.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.utils import canonicalize_name

from tests.dependencies.lock import LOCK, Locked, read_lock

LIST = Path(__file__).parents[2] / "docs" / "licences.md"
NVIDIA = "LicenseRef-NVIDIA-Proprietary"
PERMISSIVE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "CC0-1.0", "ISC", "MIT", "MIT-CMU", "PSF-2.0", "Zlib",
}  # fmt: skip
ALLOWED = PERMISSIVE | {"LGPL-3.0-only", "MPL-2.0", NVIDIA}
BY_WORDS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD-2-Clause": "BSD-2-Clause",
    "BSD-3-Clause": "BSD-3-Clause",
    "MIT": "MIT",
    "Apache-2.0": "Apache-2.0",
    "MPL-2.0": "MPL-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "NVIDIA Proprietary Software": NVIDIA,
    "Python Software Foundation License": "PSF-2.0",
}
"""What older metadata calls a licence. Which BSD it is was read in the licence files: three clauses."""
BY_FILE = {
    "async-timeout": "Apache-2.0",  # Not installed where Python has asyncio.timeout.
    "axe-playwright-python": "MIT",
    "cuda-toolkit": NVIDIA,
    "uvloop": "MIT OR Apache-2.0",
}
"""Read in the package's licence file, where its metadata says nothing or too little"""
FIELDS = ("License-Expression", "License", "Classifier")
OPENBLAS = "its wheel carries OpenBLAS with libgfortran (GPL-3.0 with the GCC runtime exception)"
NOTES = {
    "hypothesis": "tests only",
    "numpy": OPENBLAS,
    "opencv-python-headless": "its wheel carries FFmpeg (LGPL-2.1, linked dynamically), unused here",
    "psycopg": "imported unchanged, so that anyone can replace it",
    "psycopg-binary": "its wheel carries libpq, OpenSSL, Kerberos and OpenLDAP, and keyutils (LGPL-2.1)",
    "scipy": OPENBLAS,
    "torch": "its CUDA build pulls in the nvidia-* packages",
}
HEAD = f"""# Licences of the dependencies

Of every package in `requirements.lock`, by `make licences`; `make check` fails where this list is out of
date or a licence is none of: {", ".join(f"`{licence}`" for licence in sorted(ALLOWED))}.

Worth knowing before you pass the service on, as an image for instance:

- The `nvidia-*` and `cuda-toolkit` packages are **proprietary** (`{NVIDIA}`): the CUDA libraries
  that torch runs on a GPU with. Passing them on within an application is bound to NVIDIA's terms.
- No package is under the GPL or AGPL; psycopg is under the LGPL. Some wheels carry libraries under the
  LGPL, or the GPL with an exception for such use; they are named below.
- `MPL-2.0` asks that changes to those packages' own files are published; we change none.

| package | version | licence | note |
|---|---|---|---|
"""


def licence_of(name: str, metadata: Mapping[str, str] | None, known: Mapping[str, str]) -> str:
    """The SPDX expression for a package, or what it calls its licence where that is not known.

    Args: metadata, of the installed package, None where there is none; known, by an earlier list.
    """
    if name in BY_FILE:
        return BY_FILE[name]
    if metadata is None:
        return known.get(name, "unknown")
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = re.findall(r"^License :: .*:: (.*)$", metadata.get("Classifier", ""), re.MULTILINE)
    field = metadata.get("License", "unknown").partition("\n")[0]
    words = classifiers if classifiers and field not in BY_WORDS else [field]
    return " AND ".join(BY_WORDS.get(word, word) for word in words)


def installed_metadata() -> dict[str, dict[str, str]]:
    """Of each installed package; fields that occur several times are joined by lines."""
    found: dict[str, dict[str, str]] = {}
    for package in importlib.metadata.distributions():
        fields = package.metadata
        found[canonicalize_name(package.name)] = {
            field: "\n".join(fields.get_all(field) or []) for field in FIELDS if field in fields
        }
    return found


def listed(text: str) -> dict[str, str]:
    """Licences by package of a list that was written."""
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \|", text, re.MULTILINE)
    return {name: licence for name, licence in rows if name != "package"}


def not_allowed(licences: Mapping[str, str]) -> list[str]:
    """Packages of whose licence a needed part is not allowed; of alternatives one is enough."""
    return [
        f"{name}: {licence} is not allowed"
        for name, licence in licences.items()
        if not any(
            all(term in ALLOWED for term in re.split(r" AND ", choice))
            for choice in re.split(r" OR ", licence.replace("(", "").replace(")", ""))
        )
    ]


def written(locked: Iterable[Locked], licences: Mapping[str, str]) -> str:
    rows = [
        f"| {package.name} | {package.version} | {licences[package.name]} | {NOTES.get(package.name, '')} |"
        for package in locked
    ]
    return HEAD + "\n".join(rows) + "\n"


def main(arguments: list[str]) -> int:
    locked = read_lock(LOCK.read_text())
    before = LIST.read_text() if LIST.exists() else ""
    installed, known = installed_metadata(), listed(before)
    check = arguments == ["--check"]
    # Versions for other Pythons may word their licence differently: a list that is checked is not read anew.
    licences = {
        package.name: (check and known.get(package.name))
        or licence_of(package.name, installed.get(package.name), known)
        for package in locked
    }
    text, faults = written(locked, licences), not_allowed(licences)
    if check:
        if text != before:
            faults.append("docs/licences.md is out of date: run make licences")
    else:
        LIST.write_text(text)
        print(f"wrote {LIST.name}: {len(locked)} packages")
    for fault in faults:
        print(fault, file=sys.stderr)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
