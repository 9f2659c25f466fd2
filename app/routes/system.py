"""What serves, and whether it can."""

from __future__ import annotations

from fastapi import APIRouter

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
async def readyz(engine: EngineDep, store: StoreDep) -> Status:
    """The store answers and the device thread is there."""
    if not engine.alive:
        raise ApiError("not_ready", "the device thread is gone")
    await store.check()
    return Status(status="ready")
