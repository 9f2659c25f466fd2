"""What the routes share: one object, kept as the application's state."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from app.access.api_keys import ApiKeys
from app.access.concurrency import ConcurrencyLimit
from app.access.rate_limit import RateLimit
from app.api.readiness import Readiness
from app.inference.engine import Engine
from app.inference.support_cache import SupportCache
from app.sessions.store import SessionStore
from app.settings import Settings
from app.telemetry.metrics import Metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServiceState:
    """The parts of a running service."""

    settings: Settings
    engine: Engine
    store: SessionStore
    readiness: Readiness
    supports: SupportCache
    metrics: Metrics
    keys: ApiKeys
    rate_limit: RateLimit
    requests: ConcurrencyLimit
    body_bytes: ConcurrencyLimit
    streams: ConcurrencyLimit
    exports: ConcurrencyLimit

    @property
    def loopback_only(self) -> bool:
        """Whether the service answers only requests that name this machine: it has no keys."""
        return not (self.keys.required or self.settings.allow_anonymous)


async def _service_state(connection: HTTPConnection) -> ServiceState:
    state: ServiceState = connection.app.state
    return state


Service = Annotated[ServiceState, Depends(_service_state)]
"""Parameter of a route: the parts of the service"""
