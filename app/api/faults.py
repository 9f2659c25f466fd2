"""Answers errors that no route has answered, as problems."""

from __future__ import annotations

import logging

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import ApiError, problem_response

logger = logging.getLogger("csrn")

TOO_LARGE = "the body has more bytes than a request of this kind may have"


class Faults:
    """ASGI middleware: logs an unexpected exception with its traceback and answers 500 without its text.

    An exception handler cannot do this: handlers of Exception run outside of every middleware, so their
    answers would have no request id and would not be counted, and the server would log the exception again.

    It also turns the plain text with which Starlette refuses a large body into a problem.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = replaced = False

        async def watched(message: Message) -> None:
            nonlocal started, replaced
            if not started and message["status"] == 413 and _is_plain_text(message):
                started = replaced = True
                await problem_response(ApiError("body_too_large", TOO_LARGE))(scope, receive, send)
            started = True
            if not replaced:
                await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if started:
                raise  # the server logs it and breaks off the answer
            logger.error("a request failed", exc_info=error)
            problem = ApiError("internal_error", "the fault has been logged")
            await problem_response(problem)(scope, receive, send)


def _is_plain_text(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type", "").startswith("text/plain")
