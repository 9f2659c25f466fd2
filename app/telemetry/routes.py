"""The route template of a request: its path without what its client put in."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import Scope

UNKNOWN = "unknown"
"""Of every path that no route has"""
FOR_WATCHERS = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked every few seconds by machines: not worth a line or a trace each, but answered when all is busy"""


class RouteTemplates:
    """Such as /v1/sessions/{session_id}/classify: few, and free of ids and labels."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._routes = [route for route in routes if isinstance(route, Route | WebSocketRoute | Mount)]

    def of(self, scope: Scope) -> str:
        """Also where a middleware has answered, so that no route was chosen."""
        chosen = scope.get("route")
        if isinstance(chosen, Route | WebSocketRoute):
            return chosen.path_format
        for route in self._routes:
            if route.path_regex.match(scope["path"]):
                return route.path_format
        return UNKNOWN
