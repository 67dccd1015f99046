"""The rules in Python and in Lua, side by side: the same requests and clock, the same answers, logs and records."""

from __future__ import annotations

import asyncio
import os
import random
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from stillhere.core.clock import ClockLimits
from stillhere.core.events import Entry, Event, Given, Notice, NoticeKind, Transition
from stillhere.core.leases import Answer, Limits
from stillhere.core.ledger import Ledger
from stillhere.core.record import ConnectionSummary, Contribution, Ending, Leave
from stillhere.core.words import (
    Availability,
    Cause,
    ConnectionId,
    Incarnation,
    ReadyState,
    RoomName,
    SessionId,
    TabId,
    UserId,
)
from stillhere.store.cluster.line import Lease, Told
from stillhere.store.redis import codec
from stillhere.store.redis.library import LIBRARY
from stillhere.store.redis.line import LineOptions, RedisLine, keys_of
from tests.contract.redis_servers import PlainCaller

OPERATIONS = int(os.environ.get("STILLHERE_DIFFERENTIAL_OPS", "3000"))
"""Per kind of server. A full run takes 50,000."""

SEQUENCE = 150
LEASE = 15.0
LIMITS = Limits(
    false_offline_horizon=30.0,
    remember=60.0,
    known_users=3,
    late_news=10.0,
    watchers_outlive=True,
    clock=ClockLimits(gap_hold=6.0, recovery_hold=20.0),
)
KEPT = 8
USERS = [UserId(name) for name in ("ann", "bob", "cleo", "dörte", "eve")]
ROOMS = [RoomName(name) for name in ("attic", "lobby")]
TABS = [TabId(name) for name in ("t1", "t2")]
WINDOWS = {Cause.NODE_LOST: 30.0, Cause.NODE_DRAIN: 45.0}
_WEIGHTS = {
    "put": 50.0,
    "sweep": 14.0,
    "beat": 8.0,
    "reap": 6.0,
    "join": 4.0,
    "hello": 3.0,
    "run": 1.0,
    "asserted": 3.0,
    "retire": 2.0,
    "notify": 2.0,
    "read": 8.0,
    "wipe": 0.3,
}
_ENDS = [cause for cause in Cause if cause is not Cause.NODE_LOST]


class Node:
    """An incarnation and what it has of each user."""

    def __init__(self, incarnation: Incarnation) -> None:
        self.incarnation = incarnation
        self.channel = 1
        self.has: dict[UserId, dict[ConnectionId, ConnectionSummary]] = {}


class Pair:
    """A ledger and a partition of a server, told the same."""

    def __init__(self, port: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.caller = PlainCaller(port, LIBRARY.text)
        self.caller.client.flushall()
        self.now = 1_790_000_000.0
        self.ledger = Ledger(LIMITS)
        self.options = LineOptions(limits=LIMITS, timeline_entries=KEPT, now=self.now)
        self.line = RedisLine(self.caller, 0, self.options)
        self.nodes: list[Node] = []
        self.log: list[Transition | Notice] = []
        self.timelines: dict[UserId, list[Entry]] = {}
        self.opened = 0
        self.revision = 0
        self.runs = 0
        self.done: list[str] = []

    def tick(self) -> None:
        # multiples of 1/8 s, which floats hold exactly; some are jumps
        self.now += self.rng.choice([0, 0, 1, 2, 8, 16, 23, 24, 25, 60, 160, -1, -2, -40, 8 * 3600]) / 8
        self.options = msgspec.structs.replace(self.options, now=self.now)
        self.line.configure(self.options)

    def compare(self, answer: Answer, told: Told, events: list[Event] | None = None) -> None:
        state = self.ledger.state
        here = (
            answer,
            state.epoch,
            state.seq,
            state.clock.value,
            state.clock.held_until,
            state.clock.recovering,
            state.born,
        )
        there = (told.answer, told.epoch, told.seq, told.clock, told.held_until, told.recovering, told.born)
        assert here == there
        entries = self.ledger.take_entries()
        happened = [entry for entry in entries if not isinstance(entry, Given)]
        if events is not None:
            assert happened == events
        notices = self.ledger.take_notices()
        for entry in entries:
            self.timelines.setdefault(entry.user, []).append(entry)
        logged: list[Transition | Notice] = [e for e in happened if isinstance(e, Transition)]
        self.log += sorted([*logged, *notices], key=lambda entry: entry.version)
        for user, record in self.ledger.take_dirty():
            if record is None:
                self.timelines.pop(user, None)  # with the record

    # -- operations ---------------------------------------------------------------------------------------------

    async def hello(self, *, renew: bool) -> None:
        if renew:
            self.runs += 1
            self.caller.run = f"run {self.runs}"
        node = self.rng.choice(self.nodes) if self.nodes else None
        incarnation = node.incarnation if node else Incarnation("")
        channel = 0
        if node:
            node.channel += self.rng.choice([0, 1])
            channel = node.channel
        nonce, known = self.rng.getrandbits(10), self.rng.choice([0, self.ledger.state.epoch])
        processes = self.rng.sample(["a", "b", "c"], self.rng.randrange(3))
        self.ledger.hello(self.now, self.caller.run, known, nonce, processes)
        self.ledger.speak(incarnation, channel)
        self.compare(Answer.OK, await self.line.hello(known, incarnation, channel, nonce, processes))

    async def join(self) -> None:
        name = self.rng.choice("abc")
        node = Node(Incarnation(f"{name}.{len(self.nodes)}"))
        if self.nodes and self.rng.random() < 0.2:
            node = self.rng.choice(self.nodes)
        else:
            self.nodes.append(node)
        process = self.rng.choice([name, name, ""])
        answer = self.ledger.join(self.now, node.incarnation, node.channel, LEASE, process, b"{}")
        told = await self.line.join(node.incarnation, node.channel, LEASE, process, b"{}")
        self.compare(answer, told)
        if answer is Answer.OK:
            self.named(told.leases)

    async def beat(self) -> None:
        node, channel = self.somebody()
        about = self.rng.choice([b"{}", b'{"n":1}'])
        answer = self.ledger.beat(self.now, node.incarnation, channel, LEASE, about)
        told = await self.line.beat(node.incarnation, channel, LEASE, about)
        self.compare(answer, told)
        if answer is Answer.OK:
            assert told.carried == len(self.ledger.holders.get(node.incarnation, ()))
            self.named(told.leases)
            figures = told.figures
            assert (figures.users_known, figures.users_present) == (len(self.ledger.records), self.ledger.users_present)
            assert (figures.windows_pending, figures.rooms) == (self.ledger.windows_pending, len(self.ledger.rooms))

    def named(self, leases: Sequence[Lease]) -> None:
        state = self.ledger.state
        assert {x.incarnation: x.deadline for x in leases} == state.leases
        for x in leases:
            assert x.process == state.processes.get(x.incarnation, "")
            assert x.about == state.about.get(x.incarnation, b"") or not x.process

    async def asserted(self) -> None:
        node, channel = self.somebody()
        answer = self.ledger.asserted(self.now, node.incarnation, channel)
        self.compare(answer, await self.line.asserted(node.incarnation, channel))

    async def put(self) -> None:
        node, channel = self.somebody()
        told = [self.contribution(node, user) for user in self.rng.sample(USERS, self.rng.randrange(1, 4))]
        answer = self.ledger.put(self.now, node.incarnation, channel, told)
        got = await self.line.put(node.incarnation, channel, told)
        self.compare(answer, got, list(got.events))
        assert self.ledger.take_inherited() == list(got.inherited)

    async def sweep(self) -> None:
        limit, leases = self.rng.choice([1, 2, 100]), self.rng.random() < 0.3
        answer = self.ledger.sweep(self.now, limit)
        told = await self.line.sweep(limit, leases=leases)
        self.compare(answer, told, list(told.events))
        if answer is not Answer.NO_EPOCH:
            assert sorted(told.dead) == sorted(self.ledger.state.dead)
            assert told.due == self.ledger.next_deadline()
            if leases:
                self.named(told.leases)
            else:
                assert told.leases == []

    async def reap(self) -> None:
        for incarnation, cause in list(self.ledger.state.dead.items()):
            drained = self.ledger.reap(self.now, incarnation, WINDOWS.get(cause, 30.0), 100)
            told = await self.line.reap(incarnation, WINDOWS, 100)
            self.compare(Answer.OK, told, list(told.events))
            assert told.drained == drained

    async def retire(self) -> None:
        node, _ = self.somebody()
        if not self.ledger.state.run:
            return
        cause = self.rng.choice([Cause.NODE_LOST, Cause.NODE_DRAIN])
        self.ledger.retire(self.now, node.incarnation, cause)
        self.compare(Answer.OK, await self.line.retire(node.incarnation, cause))

    async def notify(self) -> None:
        answer = self.ledger.notify(self.now, NoticeKind.DISMISSED, "a", "ann", "kicked", "spam")
        self.compare(answer, await self.line.notify(NoticeKind.DISMISSED, "a", "ann", "kicked", "spam"))

    async def wipe(self) -> None:
        self.ledger = Ledger(LIMITS)
        self.log, self.timelines = [], {}
        self.caller.client.flushall()

    async def read(self) -> None:
        told = await self.line.snapshot(USERS)
        if told.answer is Answer.NO_EPOCH:
            assert not self.ledger.state.run
            return
        assert told.users == {user: self.ledger.shown(user) for user in USERS}
        assert told.doubtful == {user for user in USERS if self.ledger.doubtful(user)}
        for room in ROOMS:
            members = {user: self.ledger.records[user].members[room] for user in self.ledger.rooms.get(room, ())}
            assert (await self.line.room(room)).members == members
        rooms = sorted((room, len(users)) for room, users in self.ledger.rooms.items())
        assert list((await self.line.rooms("", 10)).rooms) == rooms

    # -- what is told -------------------------------------------------------------------------------------------

    def somebody(self) -> tuple[Node, int]:
        node = self.rng.choice(self.nodes) if self.nodes else Node(Incarnation("nobody"))
        return node, node.channel - self.rng.choice([0, 0, 0, 0, 0, 1])

    def meta(self) -> dict[str, Any] | None:
        some: list[dict[str, Any] | None] = [None, None, {}, {"a": 1}, {"b": [1, {}], "a": "x"}, {"c": None}]
        return self.rng.choice(some)

    def fresh(self) -> ConnectionSummary:
        self.opened += 1
        rng = self.rng
        some: list[dict[RoomName, Any] | None] = [
            None,
            None,
            {},
            {ROOMS[0]: {}},
            {ROOMS[1]: {"x": 1}, ROOMS[0]: {"y": []}},
        ]
        rooms = rng.choice(some)
        return ConnectionSummary(
            ConnectionId(f"c{self.opened}"),
            SessionId(rng.choice(["s1", "s2"])),
            rng.choice(TABS),
            rng.choice([ReadyState.OPEN, ReadyState.OPEN, ReadyState.OPEN, ReadyState.CONNECTING, ReadyState.CLOSING]),
            self.now,
            rng.choice([None, None, *Availability]),
            self.meta(),
            rng.choice([None, None, {"name": "N", "a": 1}]),
            rooms,
            rng.choice(["", "Chrome 156"]),
        )

    def contribution(self, node: Node, user: UserId) -> Contribution:
        rng, mine = self.rng, node.has.setdefault(user, {})
        endings = []
        for c in list(mine.values()):
            what = rng.random()
            if what < 0.35:
                del mine[c.id]
                ago = rng.choice([0.0, 0.5, 3.0, 20.0])
                last = rng.choice([c, c, c, None])
                ends = Ending(
                    c.id, c.session, c.tab, rng.choice(_ENDS), rng.choice([0.0, 3.0, 8.0, 45.0]), ago, 0, last
                )
                endings.append(ends)
            elif what < 0.6:
                mine[c.id] = msgspec.structs.replace(self.fresh(), id=c.id, opened_at=c.opened_at, tab=c.tab)
        if rng.random() < 0.1:
            endings.append(
                Ending(ConnectionId(""), SessionId(""), TabId(""), rng.choice([Cause.KICKED, Cause.REVOKED]), 0.0, 0.0)
            )
        for _ in range(rng.choice([0, 0, 1, 1, 2])):
            c = self.fresh()
            mine[c.id] = c
        leaves = [Leave(rng.choice(TABS), rng.choice(ROOMS)) for _ in range(rng.choice([0, 0, 0, 1]))]
        self.revision += rng.choice([1, 1, 1, 1, 0])
        return Contribution(user, self.revision, tuple(mine.values()), tuple(endings), tuple(leaves))

    # -- at the end ---------------------------------------------------------------------------------------------

    async def audit(self) -> None:
        """Everything that either has, the indexes included."""
        client, keys, ledger = self.caller.client, keys_of(0), self.ledger
        stored = [UserId(user.decode()) for user in client.hkeys(keys[5])]
        assert {user: (await self.line.record(user)).record for user in stored} == ledger.records
        assert {u.decode(): at for u, at in client.zrange(keys[6], 0, -1, withscores=True)} == ledger._deadlines._of
        assert [u.decode() for u in client.zrange(keys[7], 0, -1)] == list(ledger._departed)
        held = {k.decode().partition(":held:")[2]: client.smembers(k) for k in client.scan_iter("*:held:*")}
        assert {inc: {u.decode() for u in users} for inc, users in held.items()} == {
            inc: set(users) for inc, users in ledger.holders.items() if users
        }
        entries = [codec.decode_entry(fields[b"e"]) for _, fields in client.xrange(keys[10])]
        assert entries == self.log
        awaited = {m.decode()[1:] for m in client.smembers(keys[4]) if m.startswith(b"a")}
        assert awaited == ledger.state.awaited
        if ledger.state.run:
            for user in ledger.records:
                told = await self.line.timeline(user, 0.0, 1e12, 100)
                assert list(told.entries) == self.timelines.get(user, [])[-KEPT:]
            found: dict[UserId, Any] = {}
            cursor = ""
            while True:
                page = await self.line.page(cursor, 2, "", None)
                found.update(page.users)
                if page.cursor is None:
                    break
                cursor = page.cursor
            assert found == {user: record for user, record in ledger.records.items() if record.shown.version}

    async def play(self, steps: int) -> None:
        await self.hello(renew=True)
        await self.join()
        for _ in range(steps):
            self.tick()
            name = self.rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
            self.done.append(name)
            if name in ("hello", "run"):
                await self.hello(renew=name == "run")
            else:
                await getattr(self, name)()
        await self.read()
        await self.audit()


def test_python_and_lua_agree_on_every_answer_every_event_and_every_record(port: int) -> None:
    first = zlib.crc32(os.environ.get("STILLHERE_DIFFERENTIAL_SEED", "").encode())
    for number in range(-(-OPERATIONS // SEQUENCE)):
        pair = Pair(port, first + number)
        try:
            asyncio.run(pair.play(SEQUENCE))
        except Exception as error:
            error.add_note(f"seed {pair.seed}, after {len(pair.done)} operations: {', '.join(pair.done[-8:])}")
            raise
        finally:
            pair.caller.client.close()


def test_what_another_program_writes_into_the_log_or_a_record_stops_nobody(port: int) -> None:
    async def play() -> None:
        pair = Pair(port, 1)
        client = pair.caller.client
        await pair.hello(renew=True)
        await pair.join()
        for _ in range(3):
            client.xadd(keys_of(0)[10], {"who": "knows"})
            await pair.notify()
        client.hset(keys_of(0)[5], "ann", b"\xc1 no MessagePack")
        client.hset(keys_of(0)[5], "bob", codec.pack(["of", "another", "shape"]))
        node = pair.nodes[0]
        told = [pair.contribution(node, user) for user in USERS]
        assert pair.ledger.put(pair.now, node.incarnation, node.channel, told) is Answer.OK
        got = await pair.line.put(node.incarnation, node.channel, told)
        pair.compare(Answer.OK, got, list(got.events))
        stored = [UserId(user.decode()) for user in client.hkeys(keys_of(0)[5])]
        assert {user: (await pair.line.record(user)).record for user in stored} == pair.ledger.records
        last = client.xrevrange(keys_of(0)[10], count=1)[0]
        assert codec.decode_entry(last[1][b"e"]) == pair.log[-1]
        client.close()

    asyncio.run(play())
