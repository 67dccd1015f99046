"""The smallest application with presence inside. Run it with any ASGI server:

uvicorn examples.starlette_app:app

Log in with a token made by ``stillhere token`` (or PyJWT) from the same secret, connect to
``ws://127.0.0.1:8000/presence/ws``, and ask ``http://127.0.0.1:8000/is-online/alice``.
"""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from stillhere.embed import Presence

presence = Presence(
    secret=os.environ.get("PRESENCE_SECRET", "an example; take 32 random bytes"),
    store=os.environ.get("PRESENCE_STORE", "sqlite:///presence.db"),
)


async def is_online(request: Request) -> JSONResponse:
    user = request.path_params["user"]
    return JSONResponse({"user": user, "status": await presence.status(user)})


app = Starlette(
    routes=[Route("/is-online/{user}", is_online), Mount("/presence", presence.app)],
    lifespan=presence.lifespan,
)
