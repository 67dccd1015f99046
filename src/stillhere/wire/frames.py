"""Frames put together from parts that were encoded once.

A transition is encoded when it happens; every watcher is sent the same bytes. These functions only join them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from stillhere.core.record import Shown, ShownMember
from stillhere.core.words import Status
from stillhere.wire.messages import Member, MemberMeta, RequestId, UserPresence

FRAME_BYTES = 64 * 1024
"""Longer lists are split, so that no receiver has to hold one huge frame."""


def ms(seconds: float) -> int:
    """Unix seconds to the wire's milliseconds."""
    return round(seconds * 1000)


def user_presence(user: str, shown: Shown, epoch: str, devices: int | None = None) -> UserPresence:
    """The wire's view of what is shown of a user."""
    return UserPresence(
        user,
        shown.status,
        epoch,
        shown.version,
        ms(shown.changed_at),
        None if shown.last_seen_at is None else ms(shown.last_seen_at),
        devices,
        shown.info,
        shown.meta,
    )


def unknown_presence(user: str, epoch: str) -> UserPresence:
    """The answer about a user of whom the server cannot tell at the moment."""
    return UserPresence(user, Status.UNKNOWN, epoch, 0, 0)


def member(user: str, shown: ShownMember, epoch: str) -> Member:
    """The wire's view of a member of a room."""
    return Member(
        user,
        shown.status,
        epoch,
        shown.version,
        ms(shown.joined_at),
        shown.info,
        [MemberMeta(connection, meta) for connection, meta in shown.metas],
    )


def left_member(user: str, version: int, epoch: str) -> Member:
    """The wire's view of one who left."""
    return Member(user, Status.OFFLINE, epoch, version)


def presence_frame(changes: Iterable[bytes]) -> bytes:
    """A ``presence`` message of encoded :class:`UserPresence` parts."""
    return b'{"type":"presence","changes":[' + b",".join(changes) + b"]}"


def snapshot_frame(id: RequestId, users: Iterable[bytes], complete: bool) -> bytes:
    """A ``snapshot`` message of encoded :class:`UserPresence` parts."""
    return b"".join(
        (
            b'{"type":"snapshot"',
            _id(id),
            b',"users":[',
            b",".join(users),
            b'],"complete":true}' if complete else b'],"complete":false}',
        )
    )


def members_frame(name: bytes, id: RequestId, members: bytes) -> bytes:
    """A ``room`` message with the whole state. ``name`` is the encoded room name, ``members`` the joined parts."""
    return b"".join((b'{"type":"room"', _id(id), b',"room":', name, b',"members":[', members, b"]}"))


def count_frame(
    name: bytes,
    statuses: Mapping[Status, int],
    *,
    id: RequestId = None,
    page: Sequence[bytes] | None = None,
    cursor: str | None = None,
) -> bytes:
    """A ``room`` message of a room that is told by its count.

    Args:
        name: the encoded room name.
        statuses: how many members have each; those that nobody has are left out.
        id: of the request that it answers.
        page: encoded :class:`Member` parts, if it is an answer.
        cursor: where the next page begins, if there is one.
    """
    counts = {status.value: number for status, number in statuses.items() if number}
    parts = [b'{"type":"room"', _id(id), b',"room":', name, b',"count":%d' % sum(counts.values())]
    parts += (b',"statuses":', msgspec.json.encode(counts, order="sorted"))
    if page is not None:
        parts += (b',"page":[', b",".join(page), b"]")
    if cursor is not None:
        parts += (b',"cursor":', encode_text(cursor))
    parts.append(b"}")
    return b"".join(parts)


def room_frames(name: bytes, leaves: Sequence[bytes], joins: Sequence[bytes], updates: Sequence[bytes]) -> list[bytes]:
    """``room`` messages with a change, in the order in which they are to be applied."""
    size = sum(map(len, leaves)) + sum(map(len, joins)) + sum(map(len, updates))
    if size <= FRAME_BYTES:
        return [_room_frame(name, leaves, joins, updates)]
    return [
        *(_room_frame(name, part, (), ()) for part in _split(leaves)),
        *(_room_frame(name, (), part, ()) for part in _split(joins)),
        *(_room_frame(name, (), (), part) for part in _split(updates)),
    ]


def _room_frame(name: bytes, leaves: Sequence[bytes], joins: Sequence[bytes], updates: Sequence[bytes]) -> bytes:
    parts = [b'{"type":"room","room":', name]
    for key, members in ((b"leaves", leaves), (b"joins", joins), (b"updates", updates)):
        if members:
            parts += (b',"', key, b'":[', b",".join(members), b"]")
    parts.append(b"}")
    return b"".join(parts)


def _split(parts: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    start, size = 0, 0
    for i, part in enumerate(parts):
        if size + len(part) > FRAME_BYTES and i > start:
            yield parts[start:i]
            start, size = i, 0
        size += len(part)
    if start < len(parts):
        yield parts[start:]


def _id(id: RequestId) -> bytes:
    if id is None:
        return b""
    return b',"id":' + (b"%d" % id if isinstance(id, int) else encode_text(id))


def encode_text(text: str) -> bytes:
    """A JSON string."""
    return msgspec.json.encode(text)
