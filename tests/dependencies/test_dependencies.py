from __future__ import annotations

import tomllib

import pytest

from tests.dependencies.audit import ADVISORIES, differing, unhashed, vulnerable
from tests.dependencies.licences import LIST, licence_of, listed, not_allowed
from tests.dependencies.lock import LOCK, read_lock

TEXT = """# made by hand
a-b==1.2 ; sys_platform == 'linux' \\
    --hash=sha256:00 \\
    --hash=sha256:11
c==3 ; python_full_version < '3' \\
    --hash=sha256:22
d==4
"""


def test_the_lock_is_read_with_its_hashes_and_markers() -> None:
    locked = read_lock(TEXT)
    assert [(p.name, p.version, p.hashes, p.for_this_python) for p in locked] == [
        ("a-b", "1.2", 2, True),
        ("c", "3", 1, False),
        ("d", "4", 0, True),
    ]
    with pytest.raises(ValueError, match="not locked"):
        read_lock("a>=1")


def test_the_audit_sees_what_is_unhashed_missing_other_or_vulnerable() -> None:
    locked = read_lock(TEXT)
    assert unhashed(locked) == ["d 4 has no hash"]
    assert differing(locked, {"a-b": "1.2", "d": "5"}) == ["d is locked at 4, installed is 5"]
    assert differing(locked, {"d": "4"}) == ["a-b is locked at 1.2, installed is none"]
    advisory = {"id": "X-1", "package": "a-b", "affected": "<1.3", "about": "a hole"}
    assert vulnerable(locked, [advisory]) == ["a-b 1.2: X-1, a hole"]
    assert vulnerable(locked, [{**advisory, "affected": "<1.2"}]) == []
    assert vulnerable(locked, [{**advisory, "harmless_because": "it is not called"}]) == []


def test_what_is_locked_has_hashes_and_no_known_vulnerability() -> None:
    locked = read_lock(LOCK.read_text())
    assert len(locked) > 50
    assert unhashed(locked) == []
    assert vulnerable(locked, tomllib.loads(ADVISORIES.read_text())["advisory"]) == []


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ({"License-Expression": "MIT AND PSF-2.0", "License": "x"}, "MIT AND PSF-2.0"),
        ({"License": "long\ntext", "Classifier": "Other\nLicense :: OSI Approved :: MIT License"}, "MIT"),
        ({"License": "Apache 2.0"}, "Apache-2.0"),
        ({"License": "ask us"}, "ask us"),
        ({}, "unknown"),
        (None, "ISC"),
    ],
)
def test_a_licence_is_read_from_any_kind_of_metadata(metadata: dict[str, str] | None, licence: str) -> None:
    assert licence_of("x", metadata, {"x": "ISC"}) == licence


def test_a_licence_outside_the_allowed_ones_is_told() -> None:
    licences = {"a": "MIT", "b": "GPL-3.0-only", "c": "MIT OR GPL-2.0-only", "d": "MIT AND AGPL-3.0-only"}
    assert [told.partition(":")[0] for told in not_allowed(licences)] == ["b", "d"]


def test_every_locked_package_is_listed_with_an_allowed_licence() -> None:
    licences = listed(LIST.read_text())
    assert licences.keys() == {package.name for package in read_lock(LOCK.read_text())}
    assert not_allowed(licences) == []
