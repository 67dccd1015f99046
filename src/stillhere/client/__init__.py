"""The Python client: be present and see who is (:func:`connect`), or ask a server (:class:`Api`, :class:`AsyncApi`).

It needs the extra ``client``.
"""

from __future__ import annotations

from stillhere.client.answers import Gap, Transition
from stillhere.client.api import Api, AsyncApi
from stillhere.client.errors import ApiError, ClientError, Refused, RequestRefused, Unauthorized, Unreachable
from stillhere.client.live import Client, connect
from stillhere.client.rooms import Room
from stillhere.client.views import (
    ConnectionStatus,
    MemberView,
    PresenceChange,
    RoomChange,
    RoomView,
    SelfView,
    Snapshot,
    UserView,
)
from stillhere.core.words import Availability, Status

__all__ = [
    "Api",
    "ApiError",
    "AsyncApi",
    "Availability",
    "Client",
    "ClientError",
    "ConnectionStatus",
    "Gap",
    "MemberView",
    "PresenceChange",
    "Refused",
    "RequestRefused",
    "Room",
    "RoomChange",
    "RoomView",
    "SelfView",
    "Snapshot",
    "Status",
    "Transition",
    "Unauthorized",
    "Unreachable",
    "UserView",
    "connect",
]
