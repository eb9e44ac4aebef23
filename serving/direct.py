"""The shortest way to a route that needs nothing of the framework but to be found."""

from collections.abc import Awaitable, Callable, Sequence

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.problems import Problem

Check = Callable[[Request], Awaitable[object]]


class Direct:
    """ASGI middleware, the innermost: POST routes of a router that take the request and give a response
    are called at once. The framework's own way to them (exit stacks, dependencies, a scan of all
    routes) gives the same answer and takes a third of a decision's time."""

    def __init__(self, app: ASGIApp, router: APIRouter, checks: Sequence[Check] = ()) -> None:
        """checks: called first, in turn; each may raise a problem."""
        self._app, self._checks = app, tuple(checks)
        self._routes = {
            route.path: route
            for route in router.routes
            if isinstance(route, APIRoute) and route.methods == {"POST"} and "{" not in route.path
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        route = None
        if scope["type"] == "http" and scope["method"] == "POST":
            route = self._routes.get(scope["path"])
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive)
        try:
            for check in self._checks:
                await check(request)
            response = await route.endpoint(request)
        except Problem as problem:
            response = problem.response()
        await response(scope, receive, send)
