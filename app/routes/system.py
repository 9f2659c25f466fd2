"""What serves, and whether it can."""

from __future__ import annotations

from fastapi import APIRouter, Request

from app.errors import ApiError
from app.routes.context import EngineDep, StoreDep
from app.schemas import Model, Status
from app.security import Owner

router = APIRouter(tags=["system"])


@router.get("/v1/model")
async def get_model(_owner: Owner, engine: EngineDep) -> Model:
    """The weights that are served, and what they run on."""
    checkpoint = engine.checkpoint
    return Model(
        encoder=checkpoint.config.encoder,
        patch_size=checkpoint.config.patch_size_px,
        part_weights=checkpoint.config.part_weights.by_name(),
        unknown_below=checkpoint.config.unknown_below,
        weights_sha256=checkpoint.sha256,
        device=engine.device,
        trained_on=checkpoint.provenance.trained_on,
        evaluation=checkpoint.provenance.evaluation,
    )


@router.get("/livez")
async def livez() -> Status:
    """The process answers."""
    return Status(status="alive")


@router.get("/readyz")
async def readyz(request: Request, engine: EngineDep, store: StoreDep) -> Status:
    """The weights are loaded, all worker threads are at work, the store answers, nothing is ending."""
    if request.app.state.draining.is_set():
        raise ApiError("not_ready", "the service is shutting down")
    if (fault := engine.fault) is not None:
        raise ApiError("not_ready", fault)
    await store.check()
    return Status(status="ready")
