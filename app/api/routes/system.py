"""What serves, and whether it can."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from app.access.api_keys import Owner
from app.api.dependencies import EngineDep, StoreDep, SupportsDep
from app.api.errors import NotReady
from app.inference.engine import Engine
from app.sessions.errors import StoreUnavailable
from app.sessions.store import SessionStore
from app.telemetry.metrics import Metrics
from app.telemetry.state import MEDIA_TYPE, State, exposition
from csrn_client.schemas import Model

router = APIRouter(tags=["system"])
STORE_LIMIT_S = 1.0
"""How long /metrics waits for the store"""


class Status(BaseModel):
    status: str


@router.get("/v1/model")
async def get_model(_owner: Owner, engine: EngineDep) -> Model:
    """The weights that are served, and what they run on."""
    checkpoint = engine.checkpoint
    return Model(
        encoder=checkpoint.config.encoder,
        patch_layout=checkpoint.config.patches,
        patch_size=checkpoint.config.layout.size_px,
        part_weights=checkpoint.config.part_weights.by_name(),
        weights_sha256=checkpoint.sha256,
        device=engine.device,
        trained_on=checkpoint.provenance.trained_on,
        evaluation=checkpoint.provenance.evaluation,
    )


@router.get("/livez")
async def livez(engine: EngineDep) -> Status:
    """The process answers, and its worker threads work. If not, it ends by itself within seconds."""
    _require_alive(engine)
    return Status(status="alive")


@router.get("/readyz")
async def readyz(request: Request, engine: EngineDep, store: StoreDep) -> Status:
    """The weights are loaded, all worker threads are at work, the store answers, nothing is ending.

    507 `storage_full`: nothing more can be stored, but sessions are still served and can be deleted.
    """
    await _require_ready(request, engine, store)
    return Status(status="ready")


async def _require_ready(request: Request, engine: Engine, store: SessionStore) -> None:
    """Raises: NotReady; StoreUnavailable."""
    if request.app.state.draining.is_set():
        raise NotReady("the service is shutting down")
    _require_alive(engine)
    await store.check()


def _require_alive(engine: Engine) -> None:
    """Raises: NotReady."""
    if (fault := engine.fault) is not None:
        raise NotReady(fault)


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Prometheus text", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
)
async def get_metrics(
    request: Request, engine: EngineDep, store: StoreDep, supports: SupportsDep
) -> Response:
    """What happened and what is, for Prometheus. The store may be away: csrn_ready says so."""
    metrics: Metrics = request.app.state.metrics
    sessions, ready = await _sessions_and_readiness(request, engine, store)
    state = State(
        ready=ready,
        requests_in_flight=metrics.requests_in_flight,
        queued_work=engine.queued_work,
        sessions=sessions,
        support_cache_bytes=supports.size_bytes,
        support_cache_sets=len(supports),
        support_cache_misses=supports.misses,
        device_memory_bytes=engine.device_memory_bytes,
        streams_open=request.app.state.streams.count,
    )
    return Response(exposition(metrics.registry, state), media_type=MEDIA_TYPE)


async def _sessions_and_readiness(
    request: Request, engine: Engine, store: SessionStore
) -> tuple[int | None, bool]:
    sessions = None
    try:
        async with asyncio.timeout(STORE_LIMIT_S):
            sessions = await store.count()
            await _require_ready(request, engine, store)
    except (StoreUnavailable, NotReady, TimeoutError):
        return sessions, False
    return sessions, True
