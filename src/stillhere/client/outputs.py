"""What the machine wants done, and what it has to tell; drained in order with :meth:`Machine.take`."""

from __future__ import annotations

from dataclasses import dataclass

from stillhere.client.errors import ClientError
from stillhere.client.views import ConnectionStatus, PresenceChange, RoomChange


@dataclass(frozen=True, slots=True)
class NeedToken:
    """Ask the application for a token, and give it to :meth:`Machine.token`.

    Attributes:
        attempt: to be given back with it.
        renew: the last one ends or did not get through, so a cached one will not do.
    """

    attempt: int
    renew: bool


@dataclass(frozen=True, slots=True)
class Open:
    """Open a socket. There is no other: the one before was closed, or has ended.

    Attributes:
        attempt: to be given with everything that is heard on it.
        url: with the query of the connection.
        token: for ``Authorization: Bearer``.
    """

    attempt: int
    url: str
    token: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send a text message on the open socket."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the socket, open or opening; nothing more is heard of it."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The connection stands otherwise."""

    status: ConnectionStatus
    error: ClientError | None


@dataclass(frozen=True, slots=True)
class UsersChanged:
    """Users whom a person would see differently. Never a difference that only a reconnect made."""

    changes: list[PresenceChange]


@dataclass(frozen=True, slots=True)
class RoomChanged:
    """The same for the members of a room."""

    room: str
    changes: list[RoomChange]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something went wrong that the application may want to know; the client goes on by itself."""

    error: ClientError


Effect = NeedToken | Open | Send | Close
Event = StatusChanged | UsersChanged | RoomChanged | Problem
Output = Effect | Event
