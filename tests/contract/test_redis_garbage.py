"""What another program wrote where the store keeps its own: it is passed over and counted, and stops nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from stillhere.core.events import Change, Transition
from stillhere.core.leases import Answer
from stillhere.core.words import (
    Availability,
    Status,
    UserId,
)
from stillhere.store.redis import codec
from tests.contract.redis_stand import ANN, AWAY, DUE, LEASE, N1, N2, NODES, TIMELINES, USERS, Stand


@pytest.fixture
async def stand(port: int) -> AsyncIterator[Stand]:
    stand = Stand(port)
    yield stand
    stand.client.config_set("maxmemory", 0)
    stand.client.close()


@pytest.mark.parametrize(
    "junk", [b"", b"\xc1", codec.pack(["of", "another", "shape"]), codec.pack([0] * 14), codec.pack({"a": 1})]
)
async def test_a_record_of_another_program_counts_as_absent_and_is_counted(stand: Stand, junk: bytes) -> None:
    await stand.begin()
    bob = UserId("bob")
    await stand.put(N1, stand.told(bob, stand.connection("c2")))
    for user in (ANN, "cleo"):
        stand.client.hset(USERS, user, junk)
    stand.client.zadd(DUE, {"ann": 1.0, "cleo": 1.0, "bob": 1.0})
    stand.client.zadd(AWAY, {"ann": 1.0, "bob": 1.0})
    assert await stand.shown() is Status.OFFLINE
    assert (await stand.line.record(ANN)).record is None
    assert [user for user, _ in (await stand.line.page("", 10, "", None)).users] == [bob]
    got = await stand.put(N1, stand.told(ANN, stand.connection()))
    assert [e.change for e in got.events if isinstance(e, Transition)] == [Change.ONLINE]
    assert stand.meta("strange") == "1"
    await stand.pass_by(2)
    assert stand.meta("strange") == "2"
    assert {user.decode() for user in stand.client.hkeys(USERS)} == {ANN, bob}
    assert await stand.shown() is await stand.shown(bob) is Status.ONLINE
    assert not stand.client.exists(DUE, AWAY)


async def test_a_node_of_another_program_is_told_to_come_anew_and_stops_nobody(stand: Stand) -> None:
    await stand.begin()
    stand.client.hset(NODES, N1, b"\xc1")
    assert (await stand.line.beat(N1, 1, LEASE, b"")).answer is Answer.FENCED
    told = await stand.line.beat(N2, 1, LEASE, b"")
    assert (told.answer, [lease.incarnation for lease in told.leases]) == (Answer.OK, [N1, N2])
    stand.caller.run = "run 1"
    assert (await stand.line.hello(0, N1, 1, 1, [])).answer is Answer.OK
    assert (await stand.line.join(N1, 1, LEASE, "", b"")).answer is Answer.OK


async def test_an_event_of_another_program_is_left_out_of_a_timeline(stand: Stand) -> None:
    await stand.begin()
    stand.set(timeline_entries=100)
    c, happened = stand.connection(), []
    for n in range(12):
        c = msgspec.structs.replace(c, availability=[Availability.BUSY, Availability.AWAY][n % 2])
        happened += (await stand.put(N1, stand.told(ANN, c))).events
    first, *others = sorted(stand.client.hkeys(TIMELINES))
    assert others
    for junk in (
        b"\xc1",
        b"",
        codec.pack([]),
        codec.pack(["t", "ann"]),
        codec.pack(7),
        b"\x08\x93\xa1t",
        b"\x02\xda\xff",
    ):
        stand.client.hset(TIMELINES, first, junk)
        kept = (await stand.line.timeline(ANN, 0.0, 1e12, 100)).entries
        assert [e for e in kept if isinstance(e, Transition)] == happened[4:]
    stand.client.hdel(TIMELINES, first)
    stand.set(timeline_entries=10)
    for n in range(30):
        c = msgspec.structs.replace(c, availability=[Availability.BUSY, Availability.AWAY][n % 2])
        happened += (await stand.put(N1, stand.told(ANN, c))).events
    kept = (await stand.line.timeline(ANN, 0.0, 1e12, 100)).entries
    assert [e for e in kept if isinstance(e, Transition)] == happened[-5:]
    assert stand.client.hlen(TIMELINES) <= 3
