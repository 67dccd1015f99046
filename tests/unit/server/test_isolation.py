"""A node that alone cannot reach the store moves its people away in time; one among many that cannot keeps them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import pytest

from stillhere.core.words import Incarnation
from stillhere.server.isolation import Ask
from stillhere.server.neighbours import About
from stillhere.store.contract import NodeState
from tests.unit.server.world import Client, World, lived

LEASE = 15.0


class Peers:
    """The other nodes, as their readiness shows them."""

    def __init__(self, *ready: str) -> None:
        self.ready = set(ready)
        self.asked: list[str] = []

    async def __call__(self, address: str) -> bool:
        self.asked.append(address)
        return address in self.ready


def known(name: str, address: str | None = None) -> NodeState:
    """A node as the last beat told of it."""
    about = About(name, 0.0, 0, 0, True, False, 15_000, f"http://{name}" if address is None else address)
    return NodeState(Incarnation(f"{name}-0"), 10.0, msgspec.json.encode(about))


def peers(world: World) -> Peers:
    """What the world's node asks."""
    ask = world.node.isolation._ask
    assert isinstance(ask, Peers)
    return ask


def one_is_ready() -> Ask:
    return Peers("http://n3")


def none_is_ready() -> Ask:
    return Peers()


def why_not_ready(world: World) -> str | None:
    return world.node.ready


async def cut_off(world: World, people: int = 20, others: Sequence[NodeState] | None = None) -> list[Client]:
    """Bring people in; then the store is out of reach from a moment that is returned by no clock but the world's."""
    world.store.share(*([known("n2"), known("n3")] if others is None else others))
    clients = [await world.connect(f"u{i}") for i in range(people)]
    await world.pass_time(20)
    world.store.failing = True
    return clients


@lived(ask=one_is_ready)
async def test_people_are_closed_with_1013_before_the_lease_ends(world: World) -> None:
    clients = await cut_off(world)
    reached, renewed = world.node.keeper.reached_at, world.node.keeper.renewed_at
    closed_at: dict[str, float] = {}
    while world.clock.elapsed < renewed + LEASE:
        for client in clients:
            if client.closed is not None:
                closed_at.setdefault(client.id, world.clock.elapsed)
        await world.pass_time(0.01)
    assert {client.code() for client in clients} == {1013}
    assert all(client.of("moving") == [] for client in clients), "there is no time to announce it"
    times = sorted(closed_at.values())
    assert times[0] >= min(reached + 0.8 * LEASE, renewed + 0.9 * LEASE)
    gaps = [round(b - a, 2) for a, b in itertools.pairwise(times)]
    assert max(gaps) < 0.5 and len(set(gaps)) > 3, "at a steady pace, with jitter"
    assert [c.id for c in clients] != sorted(closed_at, key=closed_at.__getitem__)


@lived(ask=one_is_ready)
async def test_a_node_says_that_it_is_cut_off_alone(world: World) -> None:
    await cut_off(world)
    assert world.metric("stillhere_isolated") == 0
    await world.pass_time(LEASE)
    assert world.metric("stillhere_isolated") == 1
    assert world.events("node_isolated") == ["node_isolated"]
    told = world.fields("node_isolated")
    assert told["reachedBy"] == "n3" and told["connections"] == 20 and told["silentMs"] >= 9_000
    refusal = await world.refused("late")
    assert refusal.status == 503 and int(refusal.headers["Retry-After"]) > 0
    world.store.failing = False
    await world.pass_time(2)
    assert world.metric("stillhere_isolated") == 0 and world.node.ready is None
    assert world.events("isolation_over") == ["isolation_over"]
    await world.connect("late")


@lived(ask=none_is_ready)
async def test_nobody_is_sent_away_while_no_node_reaches_the_store(world: World) -> None:
    clients = await cut_off(world)
    await world.pass_time(300)
    assert {client.code() for client in clients} == {None}
    assert set(peers(world).asked) == {"http://n2", "http://n3"}
    assert world.events("node_isolated") == []


@lived(ask=one_is_ready)
async def test_nobody_is_sent_away_where_no_other_node_has_an_address(world: World) -> None:
    # n2 tells none, the second is a former run of this node, the third is of a version that tells something else
    strange = NodeState(Incarnation("n4-0"), 1.0, b'{"node": 4}')
    clients = await cut_off(world, others=[known("n2", ""), known("n1", "http://n3"), strange])
    await world.pass_time(60)
    assert {client.code() for client in clients} == {None} and peers(world).asked == []


@lived(ask=one_is_ready)
async def test_a_store_that_is_back_in_time_ends_it(world: World) -> None:
    clients = await cut_off(world)
    while not any(client.closed for client in clients):
        await world.pass_time(0.05)
    world.store.failing = False
    await world.pass_time(1.2)
    closed = sum(client.closed is not None for client in clients)
    await world.pass_time(60)
    assert sum(client.closed is not None for client in clients) == closed < len(clients)


@lived(ask=one_is_ready)
async def test_people_stay_as_soon_as_the_store_is_gone_for_the_others_too(world: World) -> None:
    clients = await cut_off(world)
    while not any(client.closed for client in clients):
        await world.pass_time(0.05)
    peers(world).ready.clear()
    await world.pass_time(1.2)
    closed = sum(client.closed is not None for client in clients)
    await world.pass_time(60)
    assert sum(client.closed is not None for client in clients) == closed < len(clients)
    assert world.fields("isolation_over")["reason"] == "no other node is known to reach the store"


@lived(ask=one_is_ready)
async def test_a_short_trouble_is_nobodys_business(world: World) -> None:
    clients = await cut_off(world)
    await world.pass_time(0.5 * LEASE)
    world.store.failing = False
    await world.pass_time(60)
    assert peers(world).asked == [] and {client.code() for client in clients} == {None}


@pytest.mark.parametrize("lease", [3_000, 15_000, 60_000])
def test_an_answer_counts_only_if_it_was_given_after_the_trouble_began(lease: int) -> None:
    """Ready means: reached within ``patience``. Asked earlier, a node may tell of a time before the trouble."""

    @lived({"cluster.lease_ms": lease, "cluster.beat_ms": lease // 3}, ask=one_is_ready)
    async def script(world: World) -> None:
        await cut_off(world, people=1)
        failing = None
        while not peers(world).asked:
            await world.pass_time(0.05)
            failing = world.node.keeper.failing_since
        assert failing is not None
        assert world.clock.elapsed >= failing + world.node.keeper.patience

    script()


@lived(ask=one_is_ready)
async def test_a_node_that_stood_still_does_not_take_its_own_pause_for_trouble_of_the_store(world: World) -> None:
    clients = await cut_off(world)
    world.clock.elapsed += 3 * LEASE  # nothing of this process ran
    await world.pass_time(0.6 * world.node.keeper.patience)
    world.store.failing = False
    await world.pass_time(5)
    assert peers(world).asked == [] and {client.code() for client in clients} == {None}


@lived(ask=one_is_ready)
async def test_a_store_in_this_process_has_no_other_node_to_send_people_to(world: World) -> None:
    ann = await world.connect("ann")
    world.store.failing = True
    await world.pass_time(100)
    assert ann.code() is None and peers(world).asked == []


@lived()
async def test_a_node_that_has_nobody_to_ask_keeps_its_people(world: World) -> None:
    clients = await cut_off(world)
    await world.pass_time(60)
    assert {client.code() for client in clients} == {None}


@lived(ask=one_is_ready)
async def test_a_connection_whose_upgrade_was_granted_before_is_turned_away_too(world: World) -> None:
    world.store.share(known("n3"))
    verdict = world.greet("ann")
    await world.connect("bob")
    world.store.failing = True
    while not world.node.isolation.isolated:
        await world.pass_time(0.1)
    ann = world.open(verdict)  # type: ignore[arg-type]  # nothing is awaited here
    await world.settle()
    assert ann.code() == 1013


@lived(ask=one_is_ready)
async def test_readiness_is_no_older_than_a_beat(world: World) -> None:
    """Others take it as proof that the store is in reach: a request that hangs has not failed yet."""
    world.store.share(known("n3"))
    await world.pass_time(5)
    assert why_not_ready(world) is None
    world.store.hold()
    await world.pass_time(world.node.keeper.patience + 1.5)
    assert world.node.keeper.error is None
    assert why_not_ready(world) == "the store has not answered for a while"
    world.store.release()
    await world.pass_time(1.5)
    assert why_not_ready(world) is None


@lived(ask=one_is_ready)
async def test_a_node_that_had_lost_its_lease_is_asked_too(world: World) -> None:
    world.store.share(known("n2"), known("n3"))
    ann = await world.connect("ann")
    await world.pass_time(20)
    world.store.share(known("n2"))  # n3 has lost its lease; it comes back first
    await world.pass_time(5)
    world.store.failing = True
    await world.pass_time(LEASE)
    assert "http://n3" in peers(world).asked and ann.code() == 1013


@lived(ask=one_is_ready)
async def test_a_node_none_of_whose_renewals_was_ever_answered_moves_its_people_too(world: World) -> None:
    world.store.failing_beats = True
    world.store.share(known("n3"))  # named by another answer than that of a renewal
    clients = await cut_off(world, people=2, others=[known("n3")])
    await world.pass_time(LEASE)
    assert {client.code() for client in clients} == {1013}
