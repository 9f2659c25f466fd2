"""Puts the parts together: settings in, FastAPI application out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable

import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from app import VERSION
from app.access.api_keys import MIN_KEY_LENGTH, ApiKeys
from app.access.charge_requests import ChargeRequests
from app.access.open_streams import OpenStreams
from app.access.origins import RefuseForeignPages
from app.access.rate_limit import RateLimit, RateLimited, rate_problem
from app.access.require_key import RequireKey
from app.api.disconnect import CancelOnDisconnect
from app.api.encoded_paths import EncodedPaths
from app.api.errors import (
    PROBLEM_RESPONSES,
    ApiError,
    add_error_handlers,
    describe_problems,
    problem_response,
)
from app.api.faults import Faults
from app.api.routes import api_docs, classify, examples, page, sessions, stream, system
from app.inference.device import choose_device, choose_precision, default_support_cache_bytes
from app.inference.engine import DeviceFull, Engine, NoClasses
from app.inference.observer import Observer
from app.inference.upkeep import keep_up
from app.inference.watchdog import end_when_broken
from app.inference.work_queue import QueueFull, WorkLost
from app.sessions import session as stored
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
            asyncio.create_task(keep_up(store, engine.supports, every_s=settings.upkeep_every_s)),
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
    app.state.rate_limit = RateLimit(settings.rate_limit)
    app.state.streams = OpenStreams(most=settings.max_streams, most_per_key=settings.max_streams_per_key)
    app.state.loopback_only = not (keys.required or settings.allow_anonymous)
    app.state.export_places = asyncio.Semaphore(sessions.EXPORTS_AT_ONCE)
    add_error_handlers(app)
    _add_domain_error_handlers(app, settings)
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
        app.include_router(router, max_body_size=settings.max_body_bytes)
    page.mount_page_files(app)
    api_docs.mount_docs_files(app)
    templates = RouteTemplates([*app.routes, *(route for router in routers for route in router.routes)])
    _add_middleware(app, tracing, templates)
    return app


def _add_middleware(app: FastAPI, tracing: Tracing | None, templates: RouteTemplates) -> None:
    """From the innermost to the outermost."""
    keys = app.state.api_keys
    app.add_middleware(CancelOnDisconnect)
    app.add_middleware(ChargeRequests, rate_limit=app.state.rate_limit)
    app.add_middleware(RequireKey, keys=keys)
    if not keys.required:
        app.add_middleware(RefuseForeignPages, loopback_only=app.state.loopback_only)
    app.add_middleware(Faults)
    app.add_middleware(Requests, metrics=app.state.metrics, tracing=tracing, templates=templates)
    app.add_middleware(EncodedPaths)


def create_store(settings: Settings) -> SessionStore:
    """The session store of these settings. Raises: StoreUnavailable."""
    return open_store(
        settings.store,
        quotas=stored.Quotas(
            sessions=settings.max_sessions,
            bytes=settings.max_bytes_per_key,
            classes=settings.max_classes,
            examples=settings.max_examples,
        ),
    )


def create_engine(settings: Settings, observer: Observer = Observer()) -> Engine:
    """The engine of these settings. Raises: CheckpointInvalid; DeviceMissing."""
    device, cache_bytes = choose_device(settings.device), settings.support_cache_bytes
    torch.set_num_threads(settings.network_threads)
    return Engine(
        load_checkpoint(settings.weights, device=device),
        encoder_dtype=choose_precision(settings.precision, device),
        face_threads=settings.face_threads,
        max_pixels=settings.max_pixels,
        max_queued_images=settings.max_queued_images,
        max_batch_faces=settings.max_batch_faces,
        support_cache_bytes=default_support_cache_bytes(device) if cache_bytes is None else cache_bytes,
        stall_s=settings.stall_s,
        observer=observer,
    )


def _domain_problems(settings: Settings) -> dict[type[Exception], tuple[str, str]]:
    """Code and detail of what routes need not catch; {} stands for what the exception carries."""
    return {
        QueueFull: ("overloaded", "too much is queued: try again shortly"),
        DeviceFull: ("overloaded", "the device has no memory left for this: try again, or send less"),
        WorkLost: ("internal_error", "a worker thread has failed and the service restarts: try again"),
        NoClasses: ("no_classes", "the session has no classes: add examples first"),
        stored.SessionNotFound: ("session_not_found", "it does not exist, or has expired"),
        stored.ClassNotFound: ("class_not_found", "the session has no class of that label"),
        stored.ExampleNotFound: ("example_not_found", "the class has no example of that id"),
        stored.ExampleExists: ("example_exists", "{} is taken: example ids are unique within a session"),
        stored.SessionLimit: (
            "session_limit",
            f"a key has at most {settings.max_sessions} sessions: delete some that are not needed",
        ),
        stored.ByteLimit: (
            "byte_limit",
            f"the sessions of a key hold at most {settings.max_bytes_per_key} bytes: nothing was changed",
        ),
        stored.ClassLimit: (
            "class_limit",
            f"a session has at most {settings.max_classes} classes: nothing was changed",
        ),
        stored.ExampleLimit: (
            "example_limit",
            f"a session has at most {settings.max_examples} examples: nothing was changed",
        ),
        stored.StoreUnavailable: ("not_ready", "the session store cannot be reached"),
        stored.SchemaUnknown: ("not_ready", "the session store cannot be used"),
        stored.StoreFull: ("storage_full", "nothing can be stored until sessions are deleted or expire"),
    }


def _add_domain_error_handlers(app: FastAPI, settings: Settings) -> None:
    problems = _domain_problems(settings)

    async def answer(_: Request, error: Exception) -> JSONResponse:
        if isinstance(error, stored.StoreUnavailable):
            logger.error("session store: %s", error)
        code, detail = problems[type(error)]
        return problem_response(ApiError(code, detail.format(*error.args)))

    for kind in problems:
        app.add_exception_handler(kind, answer)

    @app.exception_handler(RateLimited)
    async def on_rate_limited(_: Request, error: RateLimited) -> JSONResponse:
        return problem_response(rate_problem(error))
