"""The weights that the service uses, its health and its metrics."""

from __future__ import annotations

import asyncio
import contextlib

from fastapi import APIRouter, Response

from app.api.dependencies import Owner
from app.api.errors import NotReady
from app.api.readiness import STORE_LIMIT_S
from app.api.state import Service
from app.sessions.errors import StoreUnavailable
from app.telemetry.metrics import MEDIA_TYPE
from csrn_client.schemas import Documented, Model

router = APIRouter(tags=["system"])


class Status(Documented):
    """The health of the service."""

    status: str
    """`alive`, `ready`, or `store_unavailable` during a short outage of the store"""


@router.get("/v1/model")
async def get_model(_owner: Owner, service: Service) -> Model:
    """The weights that the service uses, and the device that they run on."""
    checkpoint = service.engine.checkpoint
    return Model(
        encoder=checkpoint.config.encoder,
        patch_layout=checkpoint.config.patches,
        patch_size=checkpoint.config.layout.size_px,
        part_weights=checkpoint.config.part_weights.by_name(),
        weights_sha256=checkpoint.sha256,
        device=service.engine.device,
        trained_on=checkpoint.provenance.trained_on,
    )


@router.get("/livez")
async def livez(service: Service) -> Status:
    """The worker threads work. If this fails, the process ends by itself within seconds."""
    if (fault := service.engine.fault) is not None:
        raise NotReady(fault)
    return Status(status="alive")


@router.get("/readyz")
async def readyz(service: Service) -> Status:
    """The worker threads work, and the store answers and has room.

    During a short outage of the store, the status is `store_unavailable` and the service is still ready.
    507 `storage_full`: the store is full, but sessions can still be used and deleted.
    """
    await livez(service)
    return Status(status=await service.readiness.check())


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Prometheus text", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
)
async def get_metrics(service: Service) -> Response:
    """The metrics of this replica for Prometheus. csrn_ready is also 0 during a short outage of the store."""
    sessions, ready = None, False
    with contextlib.suppress(StoreUnavailable, NotReady, TimeoutError):
        async with asyncio.timeout(STORE_LIMIT_S):
            sessions = await service.store.count()
            await livez(service)
            await service.store.check()
            ready = True
    return Response(service.metrics.exposition(ready=ready, sessions=sessions), media_type=MEDIA_TYPE)
