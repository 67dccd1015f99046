"""What surrounds every request: the check of its Host, the headers that keep browsers safe, and the last resort."""

from __future__ import annotations

import logging

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stillhere.http.errors import Refused
from stillhere.server.origins import OriginPolicy

_LOG = logging.getLogger("stillhere.http")

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Of every answer that does not set them itself. There are none for CORS: other sites' pages have no business here."""


class Shell:
    """Middleware; see the module."""

    def __init__(self, app: ASGIApp, policy: OriginPolicy) -> None:
        """Surround an application.

        Args:
            app: what answers.
            policy: which hosts this server is.
        """
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(raw=list(message["headers"]))
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                message = {**message, "headers": headers.raw}
            await send(message)

        host = Headers(scope=scope).get("host")
        try:
            if not self._policy.trusts_host(host):
                refused = Refused(421, f"the Host {(host or '')[:128]!r} is not one of this server's (origins.hosts)")
                await refused.answer()(scope, receive, guarded)
            else:
                await self._app(scope, receive, guarded)
        except ClientDisconnect:
            pass  # nobody is left to be answered
        except Exception:
            _LOG.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise  # so that the server breaks the connection off
            failed = Refused(500, "the server has a fault; its log tells more")
            await failed.answer()(scope, receive, guarded)
