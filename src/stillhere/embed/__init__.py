"""Stillhere inside an application of your own, on any ASGI server.

::

    presence = Presence(store="sqlite:///presence.db", authenticate=who_is_this)
    app = Starlette(lifespan=presence.lifespan)
    app.mount("/presence", presence.app)

WebSockets are then at ``/presence/ws`` and the HTTP API at ``/presence/v1``. ``docs/embedding.md`` has guides for
Starlette, FastAPI, Django, other servers, sync code and tests.
"""

from __future__ import annotations

from starlette.requests import HTTPConnection

from stillhere.core.events import Change
from stillhere.core.words import Status
from stillhere.embed.errors import HostFailed, NotAuthenticated, NotRunning, TooSlow
from stillhere.embed.presence import Clock, Presence, Room, RoomMember
from stillhere.embed.request import Request, identity
from stillhere.embed.sync import SyncPresence
from stillhere.embed.transitions import Gap, Transition
from stillhere.server.auth import Identity
from stillhere.server.settings import SettingsError
from stillhere.store.contract import StoreError, StoreRefused, StoreUnavailable

__all__ = [
    "Change",
    "Clock",
    "Gap",
    "HostFailed",
    "Identity",
    "NotAuthenticated",
    "NotRunning",
    "Presence",
    "Request",
    "Room",
    "RoomMember",
    "SettingsError",
    "Status",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "SyncPresence",
    "TooSlow",
    "Transition",
    "get_presence",
    "identity",
]


def get_presence(connection: HTTPConnection) -> Presence:
    """The presence of the application that serves this request: for ``Depends(get_presence)``, and for Starlette.

    Raises:
        NotRunning: :meth:`Presence.lifespan` did not run with this application.
    """
    presence = getattr(connection.app.state, "presence", None)
    if not isinstance(presence, Presence):
        raise NotRunning("this application has no presence: make it with lifespan=presence.lifespan")
    return presence
