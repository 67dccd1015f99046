"""How the function library keeps timelines: what is written and when, how much of it, and what users take in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from stillhere.core.events import Contributed, Entry, Transition
from stillhere.core.record import ConnectionSummary
from stillhere.core.words import Availability, Cause, ConnectionId, Incarnation, RoomName, SessionId, TabId, UserId
from tests.contract.redis_stand import ANN, LEASE, LIMITS, LOG, META, N1, TIMELINES, USERS, Stand, ends

LOBBY, ATTIC = RoomName("lobby"), RoomName("attic")
CHUNK = 8
"""Entries that become one field; fewer where they are large."""
STATED = [Availability.BUSY, Availability.AWAY]
NODE = Incarnation("n1-5be2f00dcafe1234")


@pytest.fixture
async def stand(port: int) -> AsyncIterator[Stand]:
    stand = Stand(port)
    yield stand
    stand.client.close()


async def timeline(stand: Stand, user: UserId = ANN) -> Sequence[Entry]:
    return (await stand.line.timeline(user, 0.0, 1e12, 100_000)).entries


def real(stand: Stand, number: int) -> ConnectionSummary:
    """A connection with ids as long as real ones."""
    return stand.connection(
        id=ConnectionId(f"c_{number:016}"),
        session=SessionId(f"s_{number:012}"),
        tab=TabId(f"{number:022}"),
        opened_at=stand.options.now - 0.123,
        client="Chrome 156",
    )


# -- who has just come ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"rooms": {LOBBY: {"seat": 1}, ATTIC: {}}}, {"meta": {"a": 1}, "info": {}}])
async def test_of_one_who_has_just_come_nothing_is_written_and_all_of_it_is_told(
    stand: Stand, fields: dict[str, Any]
) -> None:
    await stand.begin()
    c = stand.connection(**fields)
    got = await stand.put(N1, stand.told(ANN, c))
    assert not stand.client.exists(TIMELINES)
    told, *happened = await timeline(stand)
    assert happened == list(got.events)
    assert told == Contributed(ANN, stand.options.now, N1, (c,), clock=got.clock, fresh=True, epoch=got.epoch)


async def test_what_was_not_written_of_an_arrival_is_told_the_same_after_later_changes(stand: Stand) -> None:
    await stand.begin()
    stand.set(timeline_entries=100)
    c = stand.connection(rooms={LOBBY: {}})
    await stand.put(N1, stand.told(ANN, c))
    first = await timeline(stand)
    stand.wait(1.0)
    await stand.put(N1, stand.told(ANN, msgspec.structs.replace(c, availability=Availability.BUSY, rooms={})))
    second = await timeline(stand)
    assert second[: len(first)] == first and len(second) > len(first)
    stand.wait(1.0)
    await stand.put(N1, stand.told(ANN, endings=(ends(c, 5.0),)))
    await stand.pass_by(6)
    assert (await timeline(stand))[: len(second)] == second


async def test_an_arrival_while_nodes_still_tell_whom_they_carry_says_so(stand: Stand) -> None:
    await stand.line.hello(0, N1, 1, 1, [])
    await stand.line.join(N1, 1, LEASE, "", b"")
    await stand.put(N1, stand.told(ANN, stand.connection()))
    told = (await timeline(stand))[0]
    assert isinstance(told, Contributed) and told.on_hold and told.recovering


async def test_who_is_told_again_in_a_new_epoch_keeps_what_was_recorded_before(stand: Stand) -> None:
    await stand.begin()
    c = stand.connection()
    await stand.put(N1, stand.told(ANN, c))
    before = await timeline(stand)
    stand.caller.run = "run 1"
    await stand.line.hello(0, N1, 1, 1, [])
    assert await timeline(stand) == before
    await stand.put(N1, stand.told(ANN, c))
    after = await timeline(stand)
    assert after[: len(before)] == before and len(after) == len(before) + 1


async def test_who_comes_back_has_the_former_entries_before_those_of_the_arrival(stand: Stand) -> None:
    await stand.begin()
    happened = []
    for name in ("c1", "c2", "c3"):
        c = stand.connection(name)
        happened += (await stand.put(N1, stand.told(ANN, c))).events
        stand.wait(1.0)
        happened += (await stand.put(N1, stand.told(ANN, endings=(ends(c, 0.0, Cause.BYE),)))).events
        stand.wait(1.0)
    happened += (await stand.put(N1, stand.told(ANN, stand.connection("c4")))).events
    stand.set(timeline_entries=100)
    assert [e for e in await timeline(stand) if not isinstance(e, Contributed)] == happened


# -- how much is kept -----------------------------------------------------------------------------------------------


async def test_a_timeline_is_cut_to_its_length_and_little_more_is_stored(stand: Stand) -> None:
    await stand.begin()
    stand.set(timeline_entries=20)
    c, happened = stand.connection(), []
    for n in range(100):
        c = msgspec.structs.replace(c, availability=STATED[n % 2])
        happened += (await stand.put(N1, stand.told(ANN, c))).events
        assert len(await timeline(stand)) == min(20, 2 * (n + 1))
        assert stand.client.hlen(TIMELINES) <= 20 / CHUNK + 2
    assert [e for e in await timeline(stand) if isinstance(e, Transition)] == happened[-10:]


async def test_large_entries_do_not_gather_in_the_record(stand: Stand) -> None:
    await stand.begin()
    c = stand.connection()
    for n in range(20):
        c = msgspec.structs.replace(c, meta={"n": n, "large": "x" * 700})
        await stand.put(N1, stand.told(ANN, c))
        # the connection, what is shown, and the entries
        assert stand.client.hstrlen(USERS, ANN) < 2 * 800 + 1024 + 200
    assert len(await timeline(stand)) == stand.options.timeline_entries


@pytest.mark.parametrize("after", [3, 20, 0])
async def test_another_length_of_timelines_keeps_the_order_and_leaves_no_field_behind(stand: Stand, after: int) -> None:
    await stand.begin()
    c, events = stand.connection(), []
    for n in range(36):
        if n == 13:
            assert len(await timeline(stand)) == CHUNK
            stand.set(timeline_entries=after)
        c = msgspec.structs.replace(c, availability=STATED[n % 2])
        events += (await stand.put(N1, stand.told(ANN, c))).events
    kept = await timeline(stand)
    assert len(kept) == after
    assert stand.client.hlen(TIMELINES) <= (after and after / CHUNK + 2)
    transitions = [e for e in kept if isinstance(e, Transition)]
    assert transitions == events[36 - len(transitions) :]
    assert all(type(one) is not type(next) for one, next in pairwise(kept)), "each follows from what was told before it"


async def test_a_timeline_of_many_thousand_events_is_read_and_forgotten(stand: Stand) -> None:
    await stand.begin()
    stand.set(timeline_entries=20_000)
    stated = [Availability.BUSY, Availability.ACTIVE]
    c = stand.connection()
    for first in range(0, 9_000, 500):
        many = [msgspec.structs.replace(c, availability=stated[i % 2]) for i in range(first, first + 500)]
        await stand.put(N1, *[stand.told(ANN, one) for one in many])
    assert len((await stand.line.timeline(ANN, 0.0, 1e12, 20_000)).entries) == 18_000
    await stand.put(N1, stand.told(ANN, endings=(ends(c, 0.0, Cause.BYE),)))
    stand.wait(1.0)
    stand.set(limits=msgspec.structs.replace(LIMITS, known_users=0))
    await stand.line.sweep(100)
    assert not stand.client.exists(USERS, TIMELINES)


# -- what a user takes, and what a transition costs -------------------------------------------------------------------


async def begin_as_a_real_node(stand: Stand) -> None:
    await stand.begin()
    await stand.line.join(NODE, 1, LEASE, "", b"")
    stand.wait(0.7351623)  # instants and the store clock as they are, and not whole seconds, which would take less


def taken(stand: Stand) -> int:
    """Bytes in all keys, the log and the state of the partition aside."""
    keys = [key for key in stand.client.scan_iter() if key.decode() not in (LOG, META)]
    return sum(stand.client.memory_usage(key, samples=0) for key in keys)


async def test_an_online_user_with_one_connection_takes_at_most_300_bytes(stand: Stand) -> None:
    await begin_as_a_real_node(stand)
    stand.set(timeline_entries=200)
    stand.revision = 1_000_000
    users = 3000  # for hash tables of 4096, which are neither as full nor as empty as they get
    before = taken(stand)
    for first in range(0, users, 250):
        many = [stand.told(UserId(f"u{n:08}"), real(stand, n)) for n in range(first, first + 250)]
        await stand.put(NODE, *many)
    assert len(await timeline(stand, UserId("u00000007"))) == 2
    assert (taken(stand) - before) / users <= 300


async def test_in_batches_a_transition_takes_one_command_and_little_more(stand: Stand) -> None:
    await begin_as_a_real_node(stand)
    stand.set(timeline_entries=200)
    users = [UserId(f"u{n:08}") for n in range(200)]

    async def commands(*told: Any) -> int:
        stand.client.config_resetstat()
        got = await stand.put(NODE, *told)
        assert len(got.events) == len(users)
        stats = stand.client.info("commandstats")
        apart = ("cmdstat_fcall", "cmdstat_config|resetstat", "cmdstat_info")
        return sum(told["calls"] for name, told in stats.items() if name not in apart)

    came = await commands(*[stand.told(user, real(stand, n)) for n, user in enumerate(users)])
    stand.wait(1.0)
    byes = [ends(real(stand, n), 0.0, Cause.BYE) for n in range(len(users))]
    went = await commands(*[stand.told(user, endings=(bye,)) for user, bye in zip(users, byes, strict=True)])
    # each is written to the log by itself; all else is read and written once for all of them
    assert came <= len(users) + 12 and went <= len(users) + 12
