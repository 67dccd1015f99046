"""The job on Django Channels: a JWT in ``connect``, groups, one ``group_send`` per change.

The messages are those of the peer ``ws``. Groups do not say who is in them, so rooms also have a set of members. It
runs on uvicorn with uvloop; nothing is compressed. The layer keeps 100 messages for a consumer unless told otherwise
and drops the rest, which a crowd meets at once; it is told otherwise.

    python server.py PORT SECRET memory
    python server.py PORT SECRET redis DIRECTORY

With ``redis`` the layer is that of channels_redis on publish and subscribe, and a Redis server is started beside it,
on a socket in the directory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import django  # type: ignore[import-untyped]
import jwt
import uvicorn
from channels.generic.websocket import AsyncWebsocketConsumer  # type: ignore[import-untyped]
from django.conf import settings  # type: ignore[import-untyped]

CAPACITY = 1_000_000
"""Messages that wait for one consumer."""

_REDIS_START = 10.0
"""Seconds that Redis may take to listen."""

_port, _secret = sys.argv[1:3]
_rooms: dict[str, set[Presence]] = {}
_version = 0


def _stamp() -> int:
    global _version
    _version += 1
    return _version


def _group(kind: str, name: str) -> str:
    """Groups allow letters, digits, hyphens and periods."""
    return f"{kind}.{name.replace(' ', '.')}"


class Presence(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels ships no types
    """One connection of one user."""

    async def connect(self) -> None:
        """Verify the token and welcome its user."""
        bearer = next((text for text in self.scope["subprotocols"] if text.startswith("bearer.")), "")
        try:
            claims = jwt.decode(bearer.removeprefix("bearer."), _secret, algorithms=["HS256"])
        except jwt.InvalidTokenError:
            await self.close()
            return
        self.user: str = claims["sub"]
        self.status = "online"
        self.id = f"c_{uuid.uuid4()}"
        self.opened_at = int(time.time() * 1000)
        self.rooms: set[str] = set()
        await self.accept("stillhere.v1")
        await self._say(type="welcome", connectionId=self.id, user=self.user, serverAt=self.opened_at)

    async def disconnect(self, code: int) -> None:
        """Leave all rooms."""
        for room in getattr(self, "rooms", ()):
            members = _rooms[room]
            members.discard(self)
            await self.channel_layer.group_discard(_group("room", room), self.channel_name)
            if members:
                await self._tell(_group("room", room), type="room", room=room, leaves=[self._member()])
            else:
                del _rooms[room]

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Do what a message asks for."""
        message = json.loads(text_data or "{}")
        match message.get("type"):
            case "join":
                await self._join(message["id"], message["room"])
            case "watch":
                await self._watch(message["id"], message["users"])
            case "state":
                await self._state(message["id"], message["availability"])

    async def told(self, event: dict[str, Any]) -> None:
        """Pass on what a group was told."""
        if event.get("but") != self.channel_name:
            await self.send(text_data=event["text"])

    async def _join(self, id: int, room: str) -> None:
        group = _group("room", room)
        await self.channel_layer.group_add(group, self.channel_name)
        members = _rooms.setdefault(room, set())
        members.add(self)
        self.rooms.add(room)
        await self._say(type="room", id=id, room=room, members=[there._member() for there in members])
        await self._tell(group, but=self.channel_name, type="room", room=room, joins=[self._member()])

    async def _watch(self, id: int, users: list[str]) -> None:
        for user in users:
            await self.channel_layer.group_add(_group("user", user), self.channel_name)
        await self._say(
            type="snapshot", id=id, users=[{"user": user, "status": "online"} for user in users], complete=True
        )

    async def _state(self, id: int, availability: str) -> None:
        self.status = "online" if availability == "active" else availability
        for room in self.rooms:
            await self._tell(_group("room", room), type="room", room=room, updates=[self._member()])
        change = {
            "user": self.user,
            "status": self.status,
            "epoch": "1",
            "version": _stamp(),
            "changedAt": int(time.time() * 1000),
        }
        await self._tell(_group("user", self.user), type="presence", changes=[change])
        await self._say(type="ok", id=id)

    def _member(self) -> dict[str, Any]:
        return {
            "user": self.user,
            "status": self.status,
            "epoch": "1",
            "version": _stamp(),
            "joinedAt": self.opened_at,
            "metas": [{"connectionId": self.id, "meta": {}}],
        }

    async def _say(self, **message: object) -> None:
        await self.send(text_data=json.dumps(message, separators=(",", ":")))

    async def _tell(self, group: str, but: str | None = None, **message: object) -> None:
        """One message to a group, turned into text once."""
        text = json.dumps(message, separators=(",", ":"))
        await self.channel_layer.group_send(group, {"type": "told", "text": text, "but": but})


def _layer(kind: str, directory: str) -> dict[str, Any]:
    if kind == "memory":
        return {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": CAPACITY}}
    path = Path(directory) / "redis.sock"
    options = {"port": "0", "unixsocket": str(path), "save": "", "appendonly": "no", "loglevel": "warning"}
    flags = [word for key, value in options.items() for word in (f"--{key}", value)]
    subprocess.Popen(["redis-server", *flags, "--dir", directory], stdin=subprocess.DEVNULL)
    end = time.monotonic() + _REDIS_START
    while not path.exists():
        if time.monotonic() > end:
            raise SystemExit(f"redis-server does not listen on {path} after {_REDIS_START:g} s")
        time.sleep(0.05)
    return {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [f"unix://{path}"]},
    }


if __name__ == "__main__":
    settings.configure(
        SECRET_KEY=_secret,
        DEBUG=False,
        ALLOWED_HOSTS=["127.0.0.1"],
        INSTALLED_APPS=["channels"],
        CHANNEL_LAYERS={"default": _layer(sys.argv[3], "".join(sys.argv[4:5]))},
    )
    django.setup()
    uvicorn.run(
        Presence.as_asgi(),
        host="127.0.0.1",
        port=int(_port),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        backlog=4096,
        ws_per_message_deflate=False,
    )
