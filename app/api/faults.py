"""Answers what nobody expected, and logs it."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response
from model.errors import CsrnError

logger = logging.getLogger("csrn")


class Faults:
    """ASGI middleware: a fault is logged with its traceback and answered with 500; its text stays in the log.

    A middleware and no exception handler: handlers of Exception run outside of every middleware, so that
    neither its answer would carry a request id nor would it be counted, and the server logs it again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if started:
                raise  # the server logs it and breaks off the answer
            logger.error("a request failed", exc_info=error)
            await problem_response(CsrnError())(scope, receive, send)
