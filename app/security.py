"""API keys: who asks, as the owner of sessions."""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.errors import ApiError

LOCAL_OWNER = "local"
"""Owner of every session where no keys are configured."""


class ApiKeys:
    """The configured keys, kept as hashes only."""

    def __init__(self, configured: str) -> None:
        """configured: comma-separated NAME:KEY, or KEY alone, which is its own name by its hash."""
        self._owner_by_hash: dict[bytes, str] = {}
        for entry in filter(None, (part.strip() for part in configured.split(","))):
            name, separator, key = entry.rpartition(":")
            digest = _digest(key)
            self._owner_by_hash[digest] = name if separator and name else digest.hex()[:16]

    @property
    def required(self) -> bool:
        return bool(self._owner_by_hash)

    def owner(self, key: str | None) -> str | None:
        """The name of the key, or None if it is not one. Takes as long for any key."""
        if not self.required:
            return LOCAL_OWNER
        digest, owner = _digest(key or ""), None
        for known, name in self._owner_by_hash.items():
            if hmac.compare_digest(known, digest):
                owner = name
        return owner


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


_bearer = HTTPBearer(auto_error=False, description="Needed where CSRN_API_KEYS is set")


def require_owner(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> str:
    """The owner that the request's key stands for."""
    keys: ApiKeys = request.app.state.api_keys
    owner = keys.owner(credentials.credentials if credentials else None)
    if owner is None:
        raise ApiError("unauthorized", "send Authorization: Bearer KEY with a configured key")
    return owner


Owner = Annotated[str, Depends(require_owner)]
