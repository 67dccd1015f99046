"""A chat with badges: FastAPI, its own WebSocket for the messages, and Stillhere for who is here.

uvicorn examples.fastapi_chat.app:app

Open http://127.0.0.1:8000 in two browsers and log in under two names. The badges come from the presence; the lines
"… has left" come from ``presence.on_transition``, so that a reload writes none.
"""

import os
import secrets
from pathlib import Path
from typing import Annotated, Any

from fastapi import Cookie, FastAPI, HTTPException, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from stillhere.embed import Change, Identity, Presence, Request, Transition, identity
from stillhere.embed.fastapi import CurrentPresence

COOKIE = "chat_session"
ROOM = "chat"
PAGE = Path(__file__).parent / "index.html"

sessions: dict[str, str] = {}
"""Who is logged in: cookie to name. Your application has a better log-in than asking for a name."""

listeners: set[WebSocket] = set()
"""The chat's own sockets."""


async def who_is_this(request: Request) -> Identity | None:
    """The log-in of this application, asked at every upgrade to the presence."""
    name = sessions.get(request.cookies.get(COOKIE, ""))
    return None if name is None else identity(name, info={"name": name.title()})


def may_watch(who: Identity, user: str) -> bool:
    """Everybody who chats may see everybody else who does."""
    return user in sessions.values()


def may_join(who: Identity, room: str) -> bool:
    """There is one room."""
    return room == ROOM


presence = Presence(
    store=os.environ.get("PRESENCE_STORE", "sqlite:///presence.db"),
    authenticate=who_is_this,
    may_watch=may_watch,
    may_join=may_join,
)
app = FastAPI(title="Chat", lifespan=presence.lifespan)
app.mount("/presence", presence.app)


@presence.on_transition
async def tell(transition: Transition) -> None:
    """Write into the chat who came and who left; whoever reloads did neither."""
    if transition.change in (Change.JOINED, Change.LEFT):
        what = "is here" if transition.change is Change.JOINED else "has left"
        await broadcast({"by": "", "text": f"{transition.user} {what}"})


async def broadcast(message: dict[str, Any]) -> None:
    """Send to every chat socket; one that is gone is the affair of its own endpoint."""
    for listener in list(listeners):
        try:
            await listener.send_json(message)
        except (RuntimeError, WebSocketDisconnect):
            listeners.discard(listener)


class Login(BaseModel):
    """Who somebody wants to be."""

    name: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^\w+$")]


class Online(BaseModel):
    """Who is in the chat."""

    members: dict[str, str]


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """The one page."""
    return FileResponse(PAGE)


@app.post("/login", status_code=204)
async def log_in(login: Login, response: Response) -> None:
    """Take a name, and give a cookie."""
    key = secrets.token_urlsafe(24)
    sessions[key] = login.name
    response.set_cookie(COOKIE, key, httponly=True, samesite="lax")


@app.get("/online")
async def online(presence: CurrentPresence) -> Online:
    """Who is in the chat, asked in the same process."""
    room = await presence.room(ROOM)
    return Online(members={member.user: member.status.value for member in room.members})


@app.post("/kick/{user}")
async def kick(
    user: str, presence: CurrentPresence, chat_session: Annotated[str | None, Cookie()] = None
) -> dict[str, int]:
    """Put somebody out: offline at once, on all devices."""
    if sessions.get(chat_session or "") is None:
        raise HTTPException(401, "log in first")
    return {"connections": await presence.disconnect(user, "kicked")}


@app.websocket("/chat")
async def chat(websocket: WebSocket) -> None:
    """The messages; presence has nothing to do with it."""
    name = sessions.get(websocket.cookies.get(COOKIE, ""))
    if name is None or websocket.headers.get("origin", "").split("//")[-1] != websocket.headers.get("host"):
        await websocket.close(1008)
        return
    await websocket.accept()
    listeners.add(websocket)
    try:
        while True:
            text = await websocket.receive_text()
            await broadcast({"by": name, "text": text[:500]})
    except WebSocketDisconnect:
        pass
    finally:
        listeners.discard(websocket)
