"""The operations of the function library, over one connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from stillhere.core.events import Entry, Event, NoticeKind
from stillhere.core.leases import Answer, Limits
from stillhere.core.record import NOBODY, Contribution
from stillhere.core.words import Cause, Incarnation, RoomName, Status, UserId
from stillhere.store.cluster.line import (
    Figures,
    Lease,
    Told,
    ToldBeat,
    ToldEvents,
    ToldNodes,
    ToldPage,
    ToldReap,
    ToldRecord,
    ToldRoom,
    ToldRooms,
    ToldSnapshot,
    ToldSweep,
    ToldTimeline,
)
from stillhere.store.contract import StoreRefused, StoreUnavailable
from stillhere.store.redis import codec
from stillhere.store.redis.library import LIBRARY, SCHEMA

_KEYS = ("meta", "lease", "nodes", "dead", "await", "users", "due", "away", "rooms", "names", "log", "tl")
_GLOB = str.maketrans({c: f"\\{c}" for c in "*?[]^\\"})


class Caller(Protocol):
    """What calls a function; see :class:`stillhere.store.redis.link.Link`."""

    run: str

    async def call(self, function: str, keys: Sequence[Any], args: Sequence[Any]) -> Any: ...

    async def close(self) -> None: ...


class LineOptions(msgspec.Struct, frozen=True):
    """The same for all lines of a store."""

    limits: Limits = Limits()
    partitions: int = 1
    timeline_entries: int = 200
    log_kept: int = 20_000
    now: float = 0.0
    """Unix seconds for the rules; 0 for the server's own time. Tests set it."""


def keys_of(partition: int, incarnation: str = "-") -> list[str]:
    """All keys of a partition: they share a hash tag, and so a slot of a Cluster."""
    tag = f"{{stillhere:{partition}}}"
    return [f"{tag}:{name}" for name in _KEYS] + [f"{tag}:held:{incarnation}"]


class RedisLine:
    """See :class:`stillhere.store.cluster.line.Line`."""

    def __init__(self, link: Caller, partition: int, options: LineOptions) -> None:
        """Speak over a link that is open."""
        self._link = link
        self._partition = partition
        self._partitions = options.partitions
        self._limits = b""
        self._keys = keys_of(partition)
        self._tag = self._keys[-1][:-1]
        self.configure(options)

    def configure(self, options: LineOptions) -> None:
        """Use these limits from now on."""
        limits, clock = options.limits, options.limits.clock
        self._limits = codec.pack(
            [
                options.now,
                clock.gap_limit,
                clock.gap_back,
                clock.gap_step,
                clock.gap_hold,
                clock.recovery_hold,
                limits.false_offline_horizon,
                limits.remember,
                limits.known_users,
                options.timeline_entries,
                options.log_kept,
                limits.late_news,
            ]
        )

    async def close(self) -> None:
        """End the connection."""
        await self._link.close()

    async def _call(self, operation: str, request: object, incarnation: str = "-") -> tuple[dict[str, Any], Any, Any]:
        keys = self._keys if incarnation == "-" else [*self._keys[:-1], self._tag + incarnation]
        reply = await self._link.call(LIBRARY.function(operation), keys, [self._limits, codec.pack(request)])
        try:
            head, events, body = reply
            answer, epoch, seq, clock, held_until, recovering, born = codec.unpack(head)
            if answer == "STAMP":
                raise self._other_stamp(codec.unpack(body)[0])
            told = {
                "answer": Answer(answer),
                "epoch": epoch,
                "seq": seq,
                "clock": float(clock),
                "held_until": float(held_until),
                "recovering": recovering,
                "born": born,
            }
            return told, events, codec.unpack(body)
        except (ValueError, TypeError, msgspec.MsgspecError) as error:
            await self._link.close()
            raise StoreUnavailable(f"the store's answer to {operation} cannot be read: {error}") from error

    def _other_stamp(self, found: str) -> StoreRefused:
        schema, _, partitions = found.partition("/")
        if schema != str(SCHEMA):
            return StoreRefused(
                f"the store was written with schema {schema[:20]}, this version has schema {SCHEMA}: let all nodes run "
                "the same version, or give this one a database of its own"
            )
        return StoreRefused(
            f"the store was written for {partitions[:20]} partitions, cluster.partitions is {self._partitions}: it "
            "must be the same on all nodes for the life of a store"
        )

    async def hello(
        self, known_epoch: int, incarnation: Incarnation, channel: int, nonce: int, processes: Sequence[str]
    ) -> Told:
        request = [self._link.run, known_epoch, incarnation, channel, nonce, list(processes), SCHEMA, self._partitions]
        told, _, _ = await self._call("hello", request)
        return Told(**told)

    async def join(self, incarnation: Incarnation, channel: int, lease: float, process: str, about: bytes) -> ToldNodes:
        told, _, body = await self._call("join", [incarnation, channel, lease, process, about.decode()])
        return ToldNodes(leases=_leases(body), **told)

    async def beat(self, incarnation: Incarnation, channel: int, lease: float, about: bytes | None) -> ToldBeat:
        request = [incarnation, channel, lease, False if about is None else about.decode()]
        told, _, body = await self._call("beat", request, incarnation)
        if not body:
            return ToldBeat(**told)
        carried, leases, figures = body
        return ToldBeat(
            carried=carried,
            leases=_leases(leases),
            figures=Figures(*figures),
            **told,
        )

    async def asserted(self, incarnation: Incarnation, channel: int) -> Told:
        told, _, _ = await self._call("asserted", [incarnation, channel])
        return Told(**told)

    async def put(self, incarnation: Incarnation, channel: int, contributions: Sequence[Contribution]) -> ToldEvents:
        request = [incarnation, channel, [codec.contribution(told) for told in contributions]]
        told, events, body = await self._call("put", request, incarnation)
        inherited = [(UserId(user), codec.connection_of(c)) for user, c in body]
        return ToldEvents(events=_events(events), inherited=inherited, **told)

    async def sweep(self, limit: int, *, leases: bool = False) -> ToldSweep:
        told, events, body = await self._call("sweep", [limit, leases])
        if not body:
            return ToldSweep(**told)
        dead, due, named = body
        return ToldSweep(
            events=_events(events),
            dead=[Incarnation(incarnation) for incarnation in sorted(dead)],
            due=None if due is False else float(due),
            leases=_leases(named),
            **told,
        )

    async def reap(self, incarnation: Incarnation, windows: Mapping[Cause, float], limit: int) -> ToldReap:
        request = [incarnation, {cause.value: window for cause, window in windows.items()}, limit]
        told, events, drained = await self._call("reap", request, incarnation)
        return ToldReap(events=_events(events), drained=drained or 0, **told)

    async def retire(self, incarnation: Incarnation, cause: Cause) -> Told:
        told, _, _ = await self._call("retire", [incarnation, cause.value])
        return Told(**told)

    async def notify(self, kind: NoticeKind, target: str, user: str, cause: str, reason: str) -> Told:
        told, _, _ = await self._call("notify", [kind.value, target, user, cause, reason])
        return Told(**told)

    async def snapshot(self, users: Sequence[UserId]) -> ToldSnapshot:
        told, _, body = await self._call("snapshot", list(users))
        found = dict.fromkeys(users, NOBODY)
        doubtful = set()
        for user, state in zip(users, body, strict=False):
            if state is not False:
                found[user] = codec.shown_of(state[0])
                if state[1]:
                    doubtful.add(user)
        return ToldSnapshot(users=found, doubtful=frozenset(doubtful), **told)

    async def room(self, room: RoomName) -> ToldRoom:
        told, _, body = await self._call("room", [room])
        return ToldRoom(
            members={UserId(user): codec.member_of(member) for user, member, _ in body},
            doubtful=frozenset(UserId(user) for user, _, doubtful in body if doubtful),
            **told,
        )

    async def record(self, user: UserId) -> ToldRecord:
        told, _, body = await self._call("record", [user])
        return ToldRecord(record=codec.record_of(user, body[0]) if body and body[0] else None, **told)

    async def rooms(self, after: str, limit: int) -> ToldRooms:
        told, _, body = await self._call("rooms", [after, limit])
        return ToldRooms(rooms=[(RoomName(room), count) for room, count in body], **told)

    async def page(self, cursor: str, limit: int, prefix: str, status: Status | None) -> ToldPage:
        """The cursor is that of a scan, and how many of its step were told already."""
        at, _, skip = cursor.partition(":")
        request = [
            at if at.isascii() and at.isdigit() else "0",
            int(skip) if skip.isascii() and skip.isdigit() else 0,
            limit,
            prefix.translate(_GLOB) + "*",
            False if status is None else codec.STATUS.get(status, "-"),
        ]
        told, _, body = await self._call("page", request)
        if not body:
            return ToldPage(**told)
        after, skipped, users = body
        return ToldPage(
            users=[(UserId(user), codec.record_of(UserId(user), record)) for user, record in users],
            cursor=None if after is False else f"{after}:{int(skipped)}",
            **told,
        )

    async def timeline(self, user: UserId, after: float, before: float, limit: int) -> ToldTimeline:
        told, events, _ = await self._call("timeline", [user])
        entries = [entry for entry in _readable(user, events) if after < entry.at < before]
        return ToldTimeline(entries=entries[:limit], **told)


def _leases(found: Sequence[Sequence[Any]]) -> list[Lease]:
    return [Lease(Incarnation(i), process, float(at), about.encode()) for i, process, at, about in found]


def _events(packed: Sequence[bytes]) -> list[Event]:
    return [codec.decode_event(event) for event in packed]


def _readable(user: UserId, packed: Sequence[bytes]) -> list[Entry]:
    """Of what was stored for long: another program may have written there."""
    found = []
    for event in packed:
        try:
            found.append(codec.decode_kept(user, event))
        except (ValueError, TypeError, LookupError, msgspec.MsgspecError):
            continue
    return found
