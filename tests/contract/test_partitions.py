"""Partitions on several servers: one that is down takes nothing with it but itself."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator

import pytest

from stillhere.core.clock import ClockLimits
from stillhere.core.grace import GracePolicy
from stillhere.core.leases import Limits
from stillhere.core.record import ConnectionSummary, Contribution, Ending
from stillhere.core.words import (
    Cause,
    ConnectionId,
    Incarnation,
    ReadyState,
    RoomName,
    SessionId,
    Status,
    TabId,
    UserId,
)
from stillhere.store.cluster.store import ClusterStore
from stillhere.store.contract import StoreUnavailable
from stillhere.store.open import open_store
from stillhere.store.redis.engine import partition_key
from tests.contract.redis_topologies import Cluster, Server, cluster

PARTITIONS = 6
LEASE = 4.0
LOBBY = RoomName("lobby")
USERS = [UserId(f"user {number}") for number in range(60)]


@pytest.fixture
def masters() -> Iterator[Cluster]:
    with cluster() as found:
        for server in found.servers:
            server.admin().config_set("cluster-require-full-coverage", "no")
        yield found


@pytest.fixture
async def store(masters: Cluster) -> AsyncIterator[ClusterStore]:
    limits = Limits(watchers_outlive=True, clock=ClockLimits(gap_hold=0.0, recovery_hold=0.0))
    found = open_store(masters.url, time.time, policy=GracePolicy.of(), limits=limits, partitions=PARTITIONS)
    assert isinstance(found, ClusterStore)
    await found.start(Incarnation("n1-1"), LEASE)
    try:
        yield found
    finally:
        await found.stop()


def told(user: UserId, revision: int, ending: Cause | None = None) -> Contribution:
    c = ConnectionSummary(
        ConnectionId(f"c {user}"), SessionId("s"), TabId("t"), ReadyState.OPEN, time.time(), rooms={LOBBY: {}}
    )
    if ending is None:
        return Contribution(user, revision, (c,))
    return Contribution(user, revision, (), (Ending(c.id, c.session, c.tab, ending, 0.0, 0.0, 0, c),))


def carried_by(server: Server, masters: Cluster, store: ClusterStore) -> set[UserId]:
    """The users whose partition lies on this server."""
    return {user for user in USERS if masters.owner(partition_key(store.partition_of(user), "")) is server}


async def test_a_server_that_is_down_makes_its_own_users_unknown_and_nobody_else(
    store: ClusterStore, masters: Cluster
) -> None:
    await store.put([told(user, 1) for user in USERS])
    down = masters.owner(partition_key(0, ""))
    lost = carried_by(down, masters, store)
    assert 0 < len(lost) < len(USERS)
    down.pause()
    try:
        snapshot = await store.snapshot(USERS)
        assert snapshot.unknown == lost
        assert {user for user, shown in snapshot.users.items() if shown.status is Status.ONLINE} == set(USERS) - lost
        room = await store.room(LOBBY)
        assert not room.complete and set(room.members) == set(USERS) - lost
        with pytest.raises(StoreUnavailable):
            await store.snapshot(sorted(lost))
    finally:
        down.resume()


async def test_a_server_that_is_down_costs_the_node_no_lease_on_the_others(
    store: ClusterStore, masters: Cluster
) -> None:
    await store.put([told(user, 1) for user in USERS])
    down = masters.owner(partition_key(0, ""))
    others = sorted(set(USERS) - carried_by(down, masters, store))
    down.pause()
    try:
        end = time.monotonic() + 1.5 * LEASE
        while time.monotonic() < end:
            for operation in (store.beat, store.sweep):
                with pytest.raises(StoreUnavailable):
                    await operation()
        outcome = await store.put([told(user, 2, Cause.BYE) for user in others])
        assert len([event for event in outcome.events if type(event).__name__ == "Transition"]) == 2 * len(others)
    finally:
        down.resume()


async def test_what_is_older_than_timelines_are_kept_is_told_no_more(masters: Cluster) -> None:
    ahead = 0.0
    store = open_store(
        masters.url, lambda: time.time() + ahead, policy=GracePolicy.of(), timeline_keep=3600.0, partitions=PARTITIONS
    )
    await store.start(Incarnation("n1-1"), LEASE)
    try:
        await store.put([told(USERS[0], 1)])
        assert len((await store.timeline(USERS[0], 0.0, time.time() + 9000.0, 100)).entries) == 3
        ahead = 3601.0
        assert (await store.timeline(USERS[0], 0.0, time.time() + 9000.0, 100)).entries == []
    finally:
        await store.stop()
