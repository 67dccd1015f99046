"""For Django: its ASGI application beside the presence, and its log-in as ``authenticate``.

::

    presence = Presence(store="sqlite:///presence.db", authenticate=django_session(watch="*"))
    application = with_presence(get_asgi_application(), presence)

Views ask ``presence.sync``. Django's own application serves neither WebSockets nor the lifespan, so both go to the
presence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from django.conf import settings  # type: ignore[import-untyped]
from django.contrib.auth import get_user  # type: ignore[import-untyped]
from django.db import close_old_connections  # type: ignore[import-untyped]
from django.http import HttpRequest  # type: ignore[import-untyped]

from stillhere.embed import Identity, Presence, Request, identity
from stillhere.transport.asgi import Receive, Scope, Send
from stillhere.transport.serve import App

_SESSION_CHARACTERS = 16


def with_presence(django: App, presence: Presence, prefix: str = "/presence") -> App:
    """One ASGI application of two.

    Args:
        django: what ``get_asgi_application()`` returned.
        presence: started and stopped with the server's lifespan.
        prefix: below which the presence is served: ``/presence/ws`` and ``/presence/v1``.

    Raises:
        ValueError: a prefix without a slash at its beginning, or with one at its end.
    """
    if not prefix.startswith("/") or prefix.endswith("/"):
        raise ValueError(f"the prefix is {prefix!r}; it must begin with a slash and not end with one")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await presence.app(scope, receive, send)
            return
        root = scope.get("root_path", "")
        path = scope["path"].removeprefix(root)
        if path == prefix or path.startswith(f"{prefix}/"):
            await presence.app({**scope, "root_path": root + prefix}, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})  # nothing of Django's; answered with 403
        else:
            await django(scope, receive, send)

    return application


def django_session(
    *,
    user_id: Callable[[Any], str] | None = None,
    info: Callable[[Any], Mapping[str, Any]] | None = None,
    watch: str | Iterable[str] | None = None,
    rooms: str | Iterable[str] | None = None,
) -> Callable[[Request], Identity | None]:
    """An ``authenticate`` that lets in whoever is logged in with Django's session cookie.

    The connection ends when the session does. That the session's user still has the same password is checked, as
    Django does for every request.

    Args:
        user_id: from a user to the id under which the presence knows it; the user name if None.
        info: from a user to what watchers are shown.
        watch: whom everybody may watch; see :func:`stillhere.embed.identity`.
        rooms: which rooms everybody may join.
    """

    def authenticate(request: Request) -> Identity | None:
        key = request.cookies.get(settings.SESSION_COOKIE_NAME)
        if not key:
            return None
        close_old_connections()  # this thread is none of those that Django looks after
        try:
            session = import_module(settings.SESSION_ENGINE).SessionStore(key)
            http = HttpRequest()
            http.session = session
            user = get_user(http)
            if not user.is_authenticated:
                return None
            return identity(
                user.get_username() if user_id is None else user_id(user),
                session=hashlib.sha256(str(key).encode()).hexdigest()[:_SESSION_CHARACTERS],
                info=None if info is None else info(user),
                watch=watch,
                rooms=rooms,
                expires_at=session.get_expiry_date().timestamp(),
            )
        finally:
            close_old_connections()

    return authenticate
