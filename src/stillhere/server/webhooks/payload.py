"""What is posted: ``{"type", "timestamp", "data"}``, as Standard Webhooks has it.

The id of a message is made of its place in the log: whatever happens, the same transition has the same id, so that a
receiver can drop what it has seen.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import msgspec

from stillhere.core.events import Change, Transition
from stillhere.store.contract import Cursor
from stillhere.wire.frames import member, ms, user_presence
from stillhere.wire.messages import Member, UserPresence

EventName = Literal["online", "offline", "updated", "joined", "left", "member_updated"]
"""What a hook may ask for, as the settings name it."""

EVENTS: Mapping[EventName, Change] = {
    "online": Change.ONLINE,
    "offline": Change.OFFLINE,
    "updated": Change.UPDATED,
    "joined": Change.JOINED,
    "left": Change.LEFT,
    "member_updated": Change.MEMBER,
}

TYPES: Mapping[Change, str] = {
    Change.ONLINE: "presence.online",
    Change.OFFLINE: "presence.offline",
    Change.UPDATED: "presence.updated",
    Change.JOINED: "room.joined",
    Change.LEFT: "room.left",
    Change.MEMBER: "room.updated",
}
GAP = "log.gap"
TRIAL = "webhook.test"


class TransitionData(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    """The ``data`` of a change that watchers can see."""

    user: str
    change: str
    version: int
    epoch: str
    at: int
    cause: str
    cursor: str
    """The place in the log, as in ``/v1/events``."""
    partition: int = 0
    room: str | None = None
    presence: UserPresence | None = None
    member: Member | None = None


class GapData(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    """The log no longer reached back to where the hook was: ask ``/v1/users`` for what is so now."""

    cursor: str
    """Where it goes on."""
    partition: int = 0


class TrialData(msgspec.Struct, rename="camel", frozen=True):
    """A test that somebody asked for."""

    node: str


class Message(msgspec.Struct, frozen=True):
    """One message; its bytes are the same at every attempt."""

    id: str
    type: str
    body: bytes


class _Envelope(msgspec.Struct, frozen=True):
    type: str
    timestamp: str
    data: msgspec.Struct


def transition_message(entry: Transition, epoch: int, partition: int) -> Message:
    """A change.

    Args:
        entry: from the log.
        epoch: of the page that it was read in.
        partition: of the log.
    """
    data = TransitionData(
        user=entry.user,
        change=entry.change.value,
        version=entry.version,
        epoch=str(epoch),
        at=ms(entry.at),
        cause=entry.cause,
        cursor=str(Cursor(epoch, entry.version)),
        partition=partition,
        room=entry.room,
        presence=None if entry.shown is None else user_presence(entry.user, entry.shown, str(epoch)),
        member=None if entry.member is None else member(entry.user, entry.member, str(epoch)),
    )
    # not the epoch: that of a file is another one after each start, and the change is not
    return _message(f"msg_{partition}-{entry.version}-{ms(entry.at)}", TYPES[entry.change], entry.at, data)


def gap_message(cursor: Cursor, partition: int, now: float) -> Message:
    """Changes were missed.

    Args:
        cursor: where the log goes on.
        partition: of the log.
        now: Unix seconds.
    """
    return _message(f"msg_{partition}-gap-{cursor}", GAP, now, GapData(str(cursor), partition))


def trial_message(node: str, now: float) -> Message:
    """For whoever sets up an endpoint.

    Args:
        node: that sends it.
        now: Unix seconds.
    """
    return _message(f"msg_test-{secrets.token_hex(8)}", TRIAL, now, TrialData(node))


def _message(id: str, type: str, at: float, data: msgspec.Struct) -> Message:
    stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Message(id, type, msgspec.json.encode(_Envelope(type, stamp, data)))
