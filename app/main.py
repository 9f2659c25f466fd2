"""Assembles the service: makes the FastAPI application of the settings."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
from collections.abc import AsyncIterator, Callable

import torch
from fastapi import Depends, FastAPI
from fastapi.exceptions import WebSocketRequestValidationError
from fastapi.middleware.cors import CORSMiddleware

from app import VERSION
from app.access.api_keys import MIN_KEY_LENGTH, ApiKeys
from app.access.concurrency import ConcurrencyLimit
from app.access.rate_limit import RateLimit
from app.api.api_description import OVERVIEW, TAGS, describe, operation_id
from app.api.cancel_on_disconnect import CancelOnDisconnect
from app.api.dependencies import refuse_unknown_parameters
from app.api.error_handling import METHODS, ErrorHandling, add_error_handlers
from app.api.permissions import Permissions
from app.api.problems import PROBLEM_RESPONSES
from app.api.readiness import Readiness
from app.api.routes import api_docs, classify, examples, page, sessions, stream, system
from app.api.state import ServiceState
from app.inference.device import (
    choose_device,
    choose_precision,
    compute_in_float32,
    default_support_cache_bytes,
    limit_device_memory,
)
from app.inference.engine import Engine
from app.inference.kept_support_sets import KeptSupportSets
from app.inference.support_cache import SupportCache
from app.inference.upkeep import keep_up
from app.inference.watchdog import end_when_broken
from app.sessions.quotas import Quotas
from app.sessions.store import open_store
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.telemetry.request_log import RequestLog
from app.telemetry.tracing import FASTAPI_TELEMETRY
from model.checkpoint import load_checkpoint

logger = logging.getLogger("csrn")

MAX_EXPORTS, MAX_EXPORTS_PER_KEY = 4, 2
"""Exports at once: each holds a whole session in memory until its client has received it"""


def create_app(
    settings: Settings | None = None, *, exit_process: Callable[[int], None] = os._exit
) -> FastAPI:
    """The service with its weights and its store open. Both close when the application ends.

    exit_process: called with an exit code when a worker thread has failed.

    Raises: CheckpointInvalid; StoreUnavailable; DeviceMissing; KeysInvalid.
    """
    settings = settings or Settings()
    metrics = Metrics()
    device = choose_device(settings.device)
    torch.set_num_threads(settings.network_threads)
    compute_in_float32()
    limit_device_memory(device, settings.device_memory_share)
    cache_bytes = settings.support_cache_bytes
    if cache_bytes is None:
        cache_bytes = default_support_cache_bytes(device, settings.device_memory_share)
    kept = KeptSupportSets(max_bytes=cache_bytes)
    engine = Engine(
        load_checkpoint(settings.weights, device=device),
        settings,
        encoder_dtype=choose_precision(settings.precision, device),
        kept=kept,
        observer=metrics,
    )
    quotas = Quotas(
        sessions=settings.max_sessions,
        bytes=settings.max_bytes_per_key,
        classes=settings.max_classes,
        examples=settings.max_examples,
    )
    store = open_store(settings.store, quotas=quotas)
    supports = SupportCache(store, engine.network, kept)
    keys = ApiKeys(settings.api_keys.get_secret_value())
    for name in keys.short:
        logger.warning(
            "a key of %s has fewer than %d characters: make a longer one with csrn key", name, MIN_KEY_LENGTH
        )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await engine.warm_up()
        # With torch loaded, a full garbage collection pauses the process for 300 to 500 ms, because it
        # examines every object. Later collections skip the objects that exist now: they are kept anyway.
        gc.collect()
        gc.freeze()
        logger.info(
            "CSRN Serve %s ready: device %s, weights %s (sha256 %s), store %s, keys %s",
            VERSION,
            engine.device,
            settings.weights.name,
            engine.checkpoint.sha256[:12],
            settings.store.split("://")[0],
            "required" if keys.required else "not required",
        )
        upkeep = [
            asyncio.create_task(keep_up(store, supports, every_s=settings.upkeep_every_s)),
            asyncio.create_task(end_when_broken(engine, exit_process=exit_process)),
        ]
        try:
            yield
        finally:
            for task in upkeep:
                task.cancel()
            engine.close()
            await store.close()
            gc.unfreeze()

    app = FastAPI(
        title="CSRN Serve",
        version=VERSION,
        summary="Teach the service facial expressions with a few images each, then classify others",
        description=OVERVIEW,
        openapi_tags=TAGS,
        generate_unique_id_function=operation_id,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        responses=PROBLEM_RESPONSES,
        docs_url=None,
        servers=[{"url": settings.root_path}] if settings.root_path else None,
        telemetry=FASTAPI_TELEMETRY,
    )
    service = ServiceState(
        settings=settings,
        engine=engine,
        store=store,
        readiness=Readiness(store, outage_s=settings.store_outage_s),
        supports=supports,
        metrics=metrics,
        keys=keys,
        rate_limit=RateLimit(settings.rate_limit),
        requests=ConcurrencyLimit(
            "requests", most=settings.max_requests, most_per_key=settings.max_requests_per_key
        ),
        body_bytes=ConcurrencyLimit(
            "body bytes",
            most=max(settings.max_body_bytes_in_progress, settings.max_body_bytes),
            most_per_key=max(settings.max_body_bytes_in_progress // 4, settings.max_body_bytes),
        ),
        streams=ConcurrencyLimit(
            "streams", most=settings.max_streams, most_per_key=settings.max_streams_per_key
        ),
        exports=ConcurrencyLimit("exports", most=MAX_EXPORTS, most_per_key=MAX_EXPORTS_PER_KEY),
    )
    app.state = service  # type: ignore[assignment]
    add_error_handlers(app)
    app.add_exception_handler(WebSocketRequestValidationError, stream.refuse_parameters)  # type: ignore[arg-type]
    describe(app)
    # Classify and stream come first, because each request is compared with the routes in this order.
    for module in (classify, stream, page, api_docs, sessions, examples, system):
        app.include_router(
            module.router,
            max_body_size=settings.max_body_bytes,
            dependencies=[Depends(refuse_unknown_parameters)],
        )
    page.mount_page_files(app)
    api_docs.mount_docs_files(app)
    # From the innermost to the outermost.
    app.add_middleware(CancelOnDisconnect)
    app.add_middleware(Permissions, service=service)
    app.add_middleware(ErrorHandling)
    if settings.allowed_origins:
        # Outside of ErrorHandling, so that pages of these origins can read errors. All headers are allowed,
        # because no browser adds a key by itself. Credentials such as cookies are not allowed.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=METHODS,
            allow_headers=["*"],
            allow_private_network=True,
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    app.add_middleware(RequestLog, count=metrics.request_ended)
    metrics.watch(engine, supports, service.streams)
    return app
