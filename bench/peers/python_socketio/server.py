"""The job on python-socketio: a JWT in the connect handler, its rooms, acknowledgements, one emit per change.

It runs as its documentation says for ASGI, on uvicorn with uvloop, WebSocket only. Engine.IO has a heartbeat of its
own, so that of WebSocket is off; nothing is compressed.

    python server.py PORT SECRET
"""

from __future__ import annotations

import sys
import time
from typing import Any

import jwt
import socketio  # type: ignore[import-not-found]  # it is in an environment of its own
import uvicorn

_port, _secret = sys.argv[1:3]
server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"], http_compression=False)
_users: dict[str, dict[str, Any]] = {}
"""Of each connection, by its id: who it is, and which rooms it is in."""
_rooms: dict[str, set[str]] = {}
_version = 0


def _stamp() -> int:
    global _version
    _version += 1
    return _version


def _member(sid: str) -> dict[str, Any]:
    user = _users[sid]
    return {
        "user": user["user"],
        "status": user["status"],
        "epoch": "1",
        "version": _stamp(),
        "joinedAt": user["opened_at"],
        "metas": [{"connectionId": sid, "meta": {}}],
    }


async def _connect(sid: str, environ: dict[str, Any], auth: dict[str, str] | None) -> None:
    try:
        claims = jwt.decode((auth or {})["token"], _secret, algorithms=["HS256"])
    except (KeyError, jwt.InvalidTokenError):
        raise socketio.exceptions.ConnectionRefusedError("unauthorized") from None
    _users[sid] = {
        "user": claims["sub"],
        "status": "online",
        "opened_at": int(time.time() * 1000),
        "rooms": set(),
    }


async def _join(sid: str, room: str) -> dict[str, Any]:
    await server.enter_room(sid, room)
    members = _rooms.setdefault(room, set())
    members.add(sid)
    _users[sid]["rooms"].add(room)
    joined = {"type": "room", "room": room, "joins": [_member(sid)]}
    roster = {"type": "room", "room": room, "members": [_member(there) for there in members]}
    await server.emit("room", joined, room=room, skip_sid=sid)
    return roster


async def _watch(sid: str, users: list[str]) -> dict[str, Any]:
    for user in users:
        await server.enter_room(sid, f"watch:{user}")
    return {"type": "snapshot", "users": [{"user": user, "status": "online"} for user in users], "complete": True}


async def _state(sid: str, availability: str) -> dict[str, Any]:
    user = _users[sid]
    user["status"] = "online" if availability == "active" else availability
    for room in user["rooms"]:
        await server.emit("room", {"type": "room", "room": room, "updates": [_member(sid)]}, room=room)
    change = {
        "user": user["user"],
        "status": user["status"],
        "epoch": "1",
        "version": _stamp(),
        "changedAt": int(time.time() * 1000),
    }
    await server.emit("presence", {"type": "presence", "changes": [change]}, room=f"watch:{user['user']}")
    return {"type": "ok"}


async def _disconnect(sid: str, reason: str) -> None:
    for room in _users[sid]["rooms"]:
        members = _rooms[room]
        members.discard(sid)
        if members:
            gone = {"type": "room", "room": room, "leaves": [_member(sid)]}
            await server.emit("room", gone, room=room, skip_sid=sid)
        else:
            del _rooms[room]
    del _users[sid]


if __name__ == "__main__":
    server.on("connect", _connect)
    server.on("join", _join)
    server.on("watch", _watch)
    server.on("state", _state)
    server.on("disconnect", _disconnect)
    uvicorn.run(
        socketio.ASGIApp(server),
        host="127.0.0.1",
        port=int(_port),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        backlog=4096,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
    )
