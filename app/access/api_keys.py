"""API keys: each key has a name, and sessions belong to names."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from starlette.datastructures import Headers

from app.access.errors import KeysInvalid

LOCAL_OWNER = "local"
"""Owner of all sessions of a service without keys. If keys are added, the key of this name owns them"""
KEY_BYTES = 32
MIN_KEY_LENGTH = 16
"""Shorter keys can be guessed, so the service logs a warning about them at its start"""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")
_HASH = re.compile(r"sha[-_]?[0-9]+ *[:=] *", re.IGNORECASE)
"""The beginning of a hash, also of an unsupported kind or with a typing error"""
NAME_RULE = "a name has 1 to 64 of A-Z a-z 0-9 . _ - and begins with a letter or digit"


class ApiKeys:
    """The configured keys. Only their hashes are kept."""

    def __init__(self, configured: str) -> None:
        """configured: entries NAME:KEY or NAME:sha256:HEX, separated by commas or line ends.

        An entry that is only KEY gets a name from its hash. Several keys may have the same name, and then own
        the same sessions: so a new key can replace an old one. Raises: KeysInvalid.
        """
        self._owner_by_hash: dict[bytes, str] = {}
        self.short: list[str] = []
        """Names of the keys that are too short"""
        entries = filter(None, map(str.strip, re.split(r"[,\r\n]", configured)))
        for number, entry in enumerate(entries, start=1):
            owner, digest, length = _read_entry(entry, number)
            if self._owner_by_hash.get(digest, owner) != owner:
                raise KeysInvalid(f"CSRN_API_KEYS: entry {number} has the key of another name")
            self._owner_by_hash[digest] = owner
            if length is not None and length < MIN_KEY_LENGTH:
                self.short.append(owner)

    @property
    def required(self) -> bool:
        return bool(self._owner_by_hash)

    def owner(self, key: str | None) -> str | None:
        """The name of the key, or None if it is not configured. Takes the same time for every key."""
        if not self.required:
            return LOCAL_OWNER
        digest, owner = _digest(key or ""), None
        for known, name in self._owner_by_hash.items():
            if hmac.compare_digest(known, digest):
                owner = name
        return owner


def bearer_key(headers: Headers) -> str | None:
    """The key in a request's Authorization header, if there is one."""
    # Starlette decodes headers as Latin-1, but a key may be any text.
    sent = headers.get("authorization", "").encode("latin-1").decode(errors="replace")
    kind, _, key = sent.partition(" ")
    return key.strip() if kind.lower() == "bearer" else None


def new_key(name: str) -> tuple[str, str]:
    """A new key, and its entry for CSRN_API_KEYS, which holds only a hash. Raises: KeysInvalid."""
    if not _NAME.fullmatch(name):
        raise KeysInvalid(NAME_RULE)
    key = f"csrn_{secrets.token_urlsafe(KEY_BYTES)}"
    return key, f"{name}:sha256:{_digest(key).hex()}"


def _read_entry(entry: str, number: int) -> tuple[str, bytes, int | None]:
    """Name, digest and, unless the entry holds a hash, length of a key. Raises: KeysInvalid."""
    name, separator, key = (part.strip() for part in entry.partition(":"))
    if _HASH.match(entry):
        raise KeysInvalid(f"CSRN_API_KEYS: entry {number} has a hash and no name: NAME:sha256:HEX")
    if not separator:
        return _digest(entry).hex()[:16], _digest(entry), len(entry)
    if not _NAME.fullmatch(name):
        raise KeysInvalid(f"CSRN_API_KEYS: entry {number} has no valid name: {NAME_RULE}")
    if not key:
        raise KeysInvalid(f"CSRN_API_KEYS: entry {number} has no key after its name")
    if (hashed := _HASH.match(key)) is None:
        return name, _digest(key), len(key)
    kind, digits = hashed.group().rstrip().casefold(), key[hashed.end() :]
    if kind != "sha256:":
        raise KeysInvalid(f"CSRN_API_KEYS: entry {number} is no hash of the form NAME:sha256:HEX")
    if not _DIGEST.fullmatch(digits):
        raise KeysInvalid(f"CSRN_API_KEYS: entry {number} needs 64 hexadecimal digits after sha256:")
    return name, bytes.fromhex(digits), None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
