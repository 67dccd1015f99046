"""Presence without any framework in the page: one HTML file, one cookie.

uvicorn examples.plain_html.app:app

Open http://127.0.0.1:8000 in two browsers, log in under two names, and reload one of them: the other sees nothing.
"""

import os
import secrets
from pathlib import Path
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from stillhere.embed import Identity, Presence, Request, identity

COOKIE = "example_session"
PAGE = Path(__file__).parent / "index.html"

sessions: dict[str, str] = {}
"""Who is logged in: cookie to name. Your application has a better log-in than asking for a name."""


def who_is_this(request: Request) -> Identity | None:
    """The log-in of this application, asked at every upgrade."""
    name = sessions.get(request.cookies.get(COOKIE, ""))
    return None if name is None else identity(name, watch="*")


presence = Presence(
    store=os.environ.get("PRESENCE_STORE", "sqlite:///presence.db"),
    authenticate=who_is_this,
)


async def page(request: HttpRequest) -> Response:
    """The one page."""
    return FileResponse(PAGE)


async def log_in(request: HttpRequest) -> Response:
    """Take a name, and give a cookie."""
    form = parse_qs((await request.body()).decode())
    key = secrets.token_urlsafe(24)
    sessions[key] = form["name"][0]
    answer = RedirectResponse("/", status_code=303)
    answer.set_cookie(COOKIE, key, httponly=True, samesite="lax")
    return answer


async def log_out(request: HttpRequest) -> Response:
    """Forget the cookie, and end the connections of its user on all devices."""
    name = sessions.pop(request.cookies.get(COOKIE, ""), None)
    if name is not None:
        await presence.disconnect(name, "logged out")
    return RedirectResponse("/", status_code=303)


app = Starlette(
    routes=[
        Route("/", page),
        Route("/login", log_in, methods=["POST"]),
        Route("/logout", log_out, methods=["POST"]),
        Mount("/presence", presence.app),
    ],
    lifespan=presence.lifespan,
)
