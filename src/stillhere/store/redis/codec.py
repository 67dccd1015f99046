"""Between the structs of the core and the form that the function library works on.

Lua has no None, no tuples and no difference between an empty list and an empty table, so records are lists with
``false`` for None, and ordered dictionaries are lists of pairs. Words that stand in every record are one letter long.
What an application put into metadata is JSON text, of which the library compares and never reads the values.
"""

from __future__ import annotations

from typing import Any

import msgspec

from stillhere.core.events import (
    Change,
    Contributed,
    Entry,
    Event,
    GraceCancelled,
    GraceExpired,
    GraceStarted,
    Lapsed,
    Notice,
    NoticeKind,
    Returned,
    Transition,
)
from stillhere.core.record import (
    ConnectionSummary,
    Contribution,
    Departure,
    Ending,
    Gone,
    Grace,
    Hold,
    Leave,
    Meta,
    Record,
    Share,
    Shown,
    ShownMember,
)
from stillhere.core.words import (
    Availability,
    Cause,
    ConnectionId,
    Incarnation,
    Phase,
    ReadyState,
    RoomName,
    SessionId,
    Status,
    TabId,
    UserId,
)

_READY = {ReadyState.CONNECTING: "C", ReadyState.OPEN: "O", ReadyState.CLOSING: "L", ReadyState.CLOSED: "X"}
_AVAILABILITY = {
    Availability.ACTIVE: "a",
    Availability.BUSY: "b",
    Availability.AWAY: "w",
    Availability.INVISIBLE: "i",
}
STATUS = {Status.ONLINE: "o", Status.BUSY: "b", Status.AWAY: "w", Status.OFFLINE: "f"}
_CHANGE = {
    Change.ONLINE: "N",
    Change.OFFLINE: "F",
    Change.UPDATED: "U",
    Change.JOINED: "J",
    Change.LEFT: "L",
    Change.MEMBER: "M",
}
_READY_OF = {letter: word for word, letter in _READY.items()}
_AVAILABILITY_OF = {letter: word for word, letter in _AVAILABILITY.items()}
_STATUS_OF = {letter: word for word, letter in STATUS.items()}
_CHANGE_OF = {letter: word for word, letter in _CHANGE.items()}
_PHASE_OF = {"F": Phase.OFFLINE, "N": Phase.ONLINE, "H": Phase.HELD}

_PLAIN: tuple[Any, ...] = ((), False, (), False, False, (), 0, (), (), 0)
"""What a record has beyond its first five fields, where nothing is written."""

_HOLD, _RECOVERING, _FRESH = 3, 2, 4
"""The flags of what a node told: whether anything could expire then, and whether the user was carried before."""

_json = msgspec.json.Encoder(order="deterministic")
_read_json: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_pack = msgspec.msgpack.Encoder()
_unpack: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder()


def pack(value: object) -> bytes:
    """MessagePack, for an argument."""
    return _pack.encode(value)


def unpack(packed: bytes) -> Any:
    """Of a reply.

    Raises:
        msgspec.MsgspecError: it is not MessagePack.
    """
    return _unpack.decode(packed)


# -- to the library -------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    return _json.encode(value).decode()


def _meta(meta: Meta | None) -> list[str] | bool:
    if meta is None:
        return False
    return [text for key in sorted(meta) for text in (key, _text(meta[key]))]


def connection(c: ConnectionSummary) -> list[Any]:
    """As the library has it."""
    rooms: list[str] | bool = False
    if c.rooms is not None:
        rooms = [text for room, meta in c.rooms.items() for text in (room, _text(meta))]
    return [
        c.id,
        c.session,
        c.tab,
        _READY[c.ready],
        c.opened_at,
        False if c.availability is None else _AVAILABILITY[c.availability],
        _meta(c.meta),
        False if c.info is None else _text(c.info),
        rooms,
        c.client,
    ]


def _ending(e: Ending) -> list[Any]:
    last = False if e.last is None else connection(e.last)
    return [e.connection, e.session, e.tab, e.cause.value, e.window, e.ago, e.code, last, e.by, e.reason]


def contribution(told: Contribution) -> list[Any]:
    """As the library takes it."""
    return [
        told.user,
        told.revision,
        [connection(c) for c in told.connections],
        [_ending(e) for e in told.endings],
        [[leave.tab, leave.room] for leave in told.leaves],
    ]


# -- from the library -----------------------------------------------------------------------------------------------


def _some(value: Any) -> float | None:
    return None if value is False else float(value)


def _object(value: Any) -> Meta | None:
    return None if value is False else _read_json.decode(value)


def _meta_of(flat: Any) -> Meta | None:
    if flat is False:
        return None
    return {flat[i]: _read_json.decode(flat[i + 1]) for i in range(0, len(flat), 2)}


def connection_of(c: list[Any]) -> ConnectionSummary:
    """What :func:`connection` made."""
    id, session, tab, ready, opened_at, availability, meta, info, rooms, client = c
    there: dict[RoomName, Meta] | None = None
    if rooms is not False:
        there = {RoomName(rooms[i]): _read_json.decode(rooms[i + 1]) for i in range(0, len(rooms), 2)}
    return ConnectionSummary(
        ConnectionId(id),
        SessionId(session),
        TabId(tab),
        _READY_OF[ready],
        float(opened_at),
        None if availability is False else _AVAILABILITY_OF[availability],
        _meta_of(meta),
        _object(info),
        there,
        client,
    )


def shown_of(shown: list[Any]) -> Shown:
    """What is shown of a user."""
    status, version, changed_at, seen, info, meta = shown
    return Shown(_STATUS_OF[status], version, float(changed_at), _some(seen), _object(info), _meta_of(meta))


def member_of(member: list[Any]) -> ShownMember:
    """What is shown of a user in a room."""
    status, version, joined_at, info, metas = member
    pairs = tuple((ConnectionId(metas[i]), _read_json.decode(metas[i + 1])) for i in range(0, len(metas), 2))
    return ShownMember(_STATUS_OF[status], version, float(joined_at), _object(info), pairs)


def record_of(user: UserId, rec: list[Any]) -> Record:
    """All of a user."""
    phase, shown, shares, epoch, _, *more = rec
    holds, grace, members, seen, hidden, gone, offline_at, departures, ended, noted_at = more or _PLAIN
    return Record(
        user,
        _PHASE_OF[phase],
        shown_of(shown),
        {Incarnation(inc): Share(rev, tuple(map(connection_of, cs))) for inc, rev, cs in shares},
        {TabId(h[0][2]): _hold_of(h) for h in holds},
        None if grace is False else Grace(Cause(grace[0]), float(grace[1]), float(grace[2]), float(grace[3])),
        {RoomName(room): member_of(member) for room, member in members},
        _some(seen),
        _some(hidden),
        tuple(Gone(TabId(t), SessionId(s), Cause(c), float(at), float(window)) for t, s, c, at, window in gone),
        float(offline_at),
        tuple(Departure(SessionId(s), TabId(t), all_, float(at), float(v)) for s, t, all_, at, v in departures),
        epoch,
        tuple(map(ConnectionId, ended)),
        float(noted_at),
    )


def _hold_of(h: list[Any]) -> Hold:
    c, cause, since, window, deadline, latest, *untold = h
    at = float(since), float(window), float(deadline), float(latest)
    return Hold(connection_of(c), Cause(cause), *at, untold == [True])


def _ending_of(e: list[Any]) -> Ending:
    id, session, tab, cause, window, ago, code, last, by, reason = e
    return Ending(
        ConnectionId(id),
        SessionId(session),
        TabId(tab),
        Cause(cause),
        float(window),
        float(ago),
        code,
        None if last is False else connection_of(last),
        by,
        reason,
    )


def decode_kept(user: UserId, packed: bytes) -> Entry:
    """An entry of a user's timeline.

    Raises:
        ValueError, TypeError, KeyError, msgspec.MsgspecError: it is none of ours.
    """
    e = unpack(packed)
    if e[0] == "l":
        return Lapsed(UserId(e[1]), float(e[2]), tuple(map(TabId, e[3])), float(e[4]))
    if e[0] != "d":
        return decode_event(packed)
    _, at, incarnation, clock, epoch, flags, connections, *more = e
    endings, leaves, gone, ended_at = more or ((), (), (), False)
    return Contributed(
        user,
        float(at),
        Incarnation(incarnation),
        tuple(map(connection_of, connections)),
        tuple(map(_ending_of, endings)),
        tuple(Leave(TabId(tab), RoomName(room)) for tab, room in leaves),
        tuple(map(ConnectionId, gone)),
        float(clock),
        flags & _HOLD != 0,
        _some(ended_at),
        flags & _FRESH != 0,
        epoch,
        flags & _HOLD == _RECOVERING,
    )


def decode_event(packed: bytes) -> Event:
    """An event of an answer.

    Raises:
        ValueError, TypeError, KeyError, msgspec.MsgspecError: it is none of ours.
    """
    tag, *e = unpack(packed)
    user = UserId(e[0])
    if tag == "t":
        _, change, version, at, cause, shown, room, member, connections = e
        return Transition(
            user,
            _CHANGE_OF[change],
            version,
            float(at),
            cause,
            None if shown is False else shown_of(shown),
            None if room is False else RoomName(room),
            None if member is False else member_of(member),
            connections,
        )
    if tag == "s":
        return GraceStarted(user, float(e[1]), Cause(e[2]), float(e[3]), float(e[4]))
    if tag == "c":
        return GraceCancelled(user, float(e[1]), Cause(e[2]), float(e[3]), e[4])
    if tag == "x":
        return GraceExpired(user, float(e[1]), Cause(e[2]), float(e[3]))
    if tag == "r":
        return Returned(user, float(e[1]), TabId(e[2]), SessionId(e[3]), Cause(e[4]), float(e[5]), e[6], float(e[7]))
    raise ValueError(f"an event is tagged {tag!r}")


def decode_entry(packed: bytes) -> Transition | Notice:
    """An entry of the log.

    Raises:
        ValueError, TypeError, KeyError, msgspec.MsgspecError: it is none of ours.
    """
    first = unpack(packed)
    if first[0] == "n":
        _, kind, version, at, target, user, c, cause, reason = first
        return Notice(NoticeKind(kind), version, float(at), target, UserId(user), ConnectionId(c), cause, reason)
    event = decode_event(packed)
    if not isinstance(event, Transition):
        raise ValueError(f"the log has a {type(event).__name__}")
    return event
