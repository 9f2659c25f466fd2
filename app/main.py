"""Puts the parts together: settings in, FastAPI application out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable

import torch
from fastapi import FastAPI

from app import VERSION
from app.access.api_keys import MIN_KEY_LENGTH, ApiKeys
from app.access.open_streams import OpenStreams
from app.access.rate_limit import RateLimit
from app.access.requests_in_flight import RequestsInFlight
from app.api.disconnect import CancelOnDisconnect
from app.api.encoded_paths import EncodedPaths
from app.api.faults import Faults
from app.api.permissions import Permissions
from app.api.problems import PROBLEM_RESPONSES, add_error_handlers, describe_problems
from app.api.routes import api_docs, classify, examples, page, sessions, stream, system
from app.inference.device import choose_device, choose_precision, default_support_cache_bytes
from app.inference.engine import Engine
from app.inference.observer import Observer
from app.inference.support_cache import SupportCache
from app.inference.upkeep import keep_up
from app.inference.watchdog import end_when_broken
from app.sessions.changes import Quotas
from app.sessions.store import SessionStore, open_store
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.telemetry.requests import Requests
from app.telemetry.routes import RouteTemplates
from app.telemetry.tracing import Tracing, start_tracing
from model.checkpoint import load_checkpoint

logger = logging.getLogger("csrn")

MAX_FIELD_BYTES = 4096
"""Of a form's text: a label of 64 characters is the longest that is taken"""


def create_app(
    settings: Settings | None = None, *, exit_process: Callable[[int], None] = os._exit
) -> FastAPI:
    """The service, with its weights and its store open; both close when the application ends.

    exit_process: called with an exit code when a worker thread has failed.

    Raises: CheckpointInvalid; StoreUnavailable; DeviceMissing; TracingImpossible.
    """
    settings = settings or Settings()
    metrics, tracing = Metrics(), start_tracing()
    engine = create_engine(settings, tracing.observing(metrics.observer) if tracing else metrics.observer)
    store = create_store(settings)
    supports = create_support_cache(settings, store, engine)
    keys = ApiKeys(settings.api_keys.get_secret_value())
    for name in keys.short:
        logger.warning(
            "a key of %s has fewer than %d characters: csrn key makes better ones", name, MIN_KEY_LENGTH
        )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await engine.warm_up()
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
            if tracing:
                await asyncio.to_thread(tracing.close)

    app = FastAPI(
        title="CSRN Serve",
        version=VERSION,
        description="Few-shot facial expression classification. Scores are relation scores, "
        "not probabilities; they tell of expressions, not of feelings.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        responses=PROBLEM_RESPONSES,
        docs_url=None,
        max_body_size=settings.max_body_bytes,
        form_limits={
            "max_files": settings.max_images,
            # A label and an example id for each image, and the options
            "max_fields": 2 * settings.max_images + 8,
            "max_part_size": MAX_FIELD_BYTES,
        },
        # Its own traces would tell paths, which hold labels; app.telemetry's do not.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.settings, app.state.api_keys = settings, keys
    app.state.engine, app.state.store, app.state.metrics = engine, store, metrics
    app.state.supports = supports
    app.state.rate_limit = RateLimit(settings.rate_limit)
    app.state.streams = OpenStreams(most=settings.max_streams, most_per_key=settings.max_streams_per_key)
    app.state.loopback_only = not (keys.required or settings.allow_anonymous)
    app.state.draining = asyncio.Event()
    app.state.export_places = asyncio.Semaphore(sessions.EXPORTS_AT_ONCE)
    add_error_handlers(app)
    describe_problems(app)
    routers = (
        page.router,
        api_docs.router,
        sessions.router,
        examples.router,
        classify.router,
        stream.router,
        system.router,
    )
    for router in routers:
        app.include_router(router)
    page.mount_page_files(app)
    api_docs.mount_docs_files(app)
    templates = RouteTemplates([*app.routes, *(route for router in routers for route in router.routes)])
    _add_middleware(app, tracing, templates)
    return app


def _add_middleware(app: FastAPI, tracing: Tracing | None, templates: RouteTemplates) -> None:
    """From the innermost to the outermost."""
    settings, keys = app.state.settings, app.state.api_keys
    app.add_middleware(CancelOnDisconnect)
    app.add_middleware(
        Permissions,
        keys=keys,
        loopback_only=app.state.loopback_only,
        rate_limit=app.state.rate_limit,
        requests=RequestsInFlight(most=settings.max_requests, most_per_key=settings.max_requests_per_key),
    )
    app.add_middleware(Faults)
    app.add_middleware(Requests, metrics=app.state.metrics, tracing=tracing, templates=templates)
    app.add_middleware(EncodedPaths)


def create_store(settings: Settings) -> SessionStore:
    """The session store of these settings. Raises: StoreUnavailable."""
    return open_store(
        settings.store,
        quotas=Quotas(
            sessions=settings.max_sessions,
            bytes=settings.max_bytes_per_key,
            classes=settings.max_classes,
            examples=settings.max_examples,
        ),
    )


def create_engine(settings: Settings, observer: Observer = Observer()) -> Engine:
    """The engine of these settings. Raises: CheckpointInvalid; DeviceMissing."""
    device = choose_device(settings.device)
    torch.set_num_threads(settings.network_threads)
    return Engine(
        load_checkpoint(settings.weights, device=device),
        encoder_dtype=choose_precision(settings.precision, device),
        face_threads=settings.face_threads,
        max_pixels=settings.max_pixels,
        max_queued_images=settings.max_queued_images,
        max_batch_faces=settings.max_batch_faces,
        stall_s=settings.stall_s,
        observer=observer,
    )


def create_support_cache(settings: Settings, store: SessionStore, engine: Engine) -> SupportCache:
    """The support sets that these settings keep on the device."""
    size = settings.support_cache_bytes
    return SupportCache(
        store, engine, max_bytes=default_support_cache_bytes(engine.device) if size is None else size
    )
