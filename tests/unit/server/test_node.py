"""The node as a whole: its figures, its tasks, and that nobody leaves anything behind."""

from __future__ import annotations

import inspect
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stillhere.core.words import UserId
from stillhere.server.socket import Welcome
from tests.unit.server.clockwork import START
from tests.unit.server.world import Client, View, World, live, lived


@lived()
async def test_statistics_are_figures_of_now(world: World) -> None:
    await world.connect("ann")
    figures = world.node.statistics()
    assert figures.node == "n1" and figures.incarnation.startswith("n1-")
    assert figures.started_at == START
    assert (figures.connections, figures.users, figures.present, figures.store) == (1, 1, 1, "memory")
    assert figures.store_reachable and not figures.draining


def test_a_node_that_was_not_started_is_not_ready() -> None:
    async def script(world: World) -> None:
        other = World(world.clock)
        assert other.node.ready == "not started"
        world.loop.set_exception_handler(None)

    live(script)


@lived()
async def test_a_mistake_in_a_task_of_the_node_is_not_silent(world: World) -> None:
    async def mistaken() -> None:
        raise ZeroDivisionError("a mistake")

    assert world.node.tasks.failed is None
    world.node.tasks.spawn(mistaken())
    await world.settle()
    failed: str | None = world.node.tasks.failed
    assert failed == "ZeroDivisionError('a mistake')"
    world.node.tasks.failed = None


@lived()
async def test_a_task_that_is_cancelled_has_not_failed(world: World) -> None:
    await world.node.tasks.cancel()
    assert world.node.tasks.failed is None


@lived()
async def test_a_connection_may_be_dropped_in_any_stage(world: World) -> None:
    world.store.hold()
    clients = [await world.connect(None), await world.connect("ann")]
    world.store.release()
    clients.append(await world.connect("bob"))
    await clients[-1].ask("watch", users=["ann"])
    clients.append(await world.connect("carl", ttl=10))
    clients[-1].polite = False
    await world.pass_time(10.5)
    for client in clients:
        client.drop(OSError("reset"))
    await world.pass_time(60)
    assert not world.leftovers()


ACTS = st.sampled_from(
    """connect connect connect anonymous in-flight auth renew watch unwatch query join leave state bye ping junk
    probe close hidden drop impolite jam drain kick expire hold release fail recover blind see turn wait wait-long
    reload""".split()
)


@settings(max_examples=120)
@given(st.lists(st.tuples(ACTS, st.integers(0, 3), st.integers(0, 2)), max_size=40))
def test_after_everybody_is_gone_nothing_is_left_and_nobody_was_shown_wrongly(
    acts: list[tuple[str, int, int]],
) -> None:
    live(
        lambda world: _play(world, acts),
        {
            "limits.connections_per_user": 3,
            "limits.watch": 4,
            "limits.rooms": 2,
            "limits.messages_per_second": 1000,
            "heartbeat.probe_interval_ms": 5000,
        },
    )


async def _play(world: World, acts: list[tuple[str, int, int]]) -> None:
    asked: dict[tuple[Client, int], str] = {}
    for serial, (act, who, what) in enumerate(acts):
        await _act(world, act, who, what, serial, asked)
    world.store.release()
    world.store.failing = world.store.unreadable = False
    await world.pass_time(3)
    _answered_once(world, asked)
    _as_the_store_says(world)
    for client in world.clients:
        client.capacity = None
        client.drop()
    await world.pass_time(120)
    assert not world.leftovers()
    assert all(world.shown(f"u{i}") == "offline" for i in range(4))


async def _act(world: World, act: str, who: int, what: int, serial: int, asked: dict[tuple[Client, int], str]) -> None:
    user, tab = f"u{who}", f"t{what}"
    living = [client for client in world.clients if not client.lost]
    client = living[(who * 3 + what) % len(living)] if living else None
    if act in ("connect", "reload", "in-flight", "anonymous"):
        options: dict[str, Any] = {"tab": tab, "ip": f"192.0.2.{who}", "query": {"probe": "1"} if what else {}}
        verdict = world.greet(None if act == "anonymous" else user, ttl=30.0 if what == 2 else 600.0, **options)
        assert not inspect.isawaitable(verdict)
        if isinstance(verdict, Welcome) and act != "in-flight":
            world.open(verdict)
    elif act == "kick":
        world.node.disconnect(UserId(user))
    elif act in ("hold", "release"):
        world.store.release()
        if act == "hold":
            world.store.hold()
    elif act in ("fail", "recover"):
        world.store.failing = act == "fail"
    elif act in ("blind", "see"):
        world.store.unreadable = act == "blind"
    elif act in ("turn", "wait", "wait-long", "expire"):
        await world.pass_time({"turn": 0.0, "wait": 0.4, "wait-long": 7.0, "expire": 31.0}[act])
    elif client is not None:
        _speak(world, client, act, who, what, serial, asked)


def _speak(
    world: World, client: Client, act: str, who: int, what: int, serial: int, asked: dict[tuple[Client, int], str]
) -> None:
    messages: dict[str, dict[str, Any]] = {
        "auth": {"type": "auth", "token": world.token(f"u{who}", ttl=30.0)},
        "renew": {"type": "auth", "token": world.token(client.user or f"u{who}", ttl=600.0)},
        "watch": {"type": "watch", "users": [f"u{who}", f"u{what}", "nobody"]},
        "unwatch": {"type": "unwatch", "users": [f"u{who}"]},
        "query": {"type": "query", "users": [f"u{who}", "nobody"]},
        "join": {"type": "join", "room": f"r{what}", "meta": {"seat": who}},
        "leave": {"type": "leave", "room": f"r{what}"},
        "state": {"type": "state", "availability": ("active", "away", "busy", "invisible")[who]},
        "ping": {"type": "ping"},
    }
    if act in messages:
        if client.user is not None or act not in ("auth", "renew"):  # a log-in is answered by the welcome
            asked[client, serial] = act
        client.say(id=serial, **messages[act])
    elif act == "bye":
        client.say("bye")
    elif act == "junk":
        client.write(b"{")
    elif act == "probe":
        client.say("probe", n=1)
    elif act in ("close", "hidden"):
        client.leave(1001 if act == "close" else 4900)
    elif act == "drop":
        client.drop(ConnectionResetError())
    elif act == "impolite":
        client.polite = client.answers_pings = False
    elif act == "jam":
        client.capacity = 100
    elif act == "drain":
        client.capacity = None
        client.drain()


def _answered_once(world: World, asked: dict[tuple[Client, int], str]) -> None:
    """Every request of a connection that lives was answered exactly once; those of others at most once."""
    for client in world.clients:
        answers = [frame["id"] for frame in client.frames if isinstance(frame.get("id"), int)]
        assert len(answers) == len(set(answers))
        if client.lost or client.code() is not None or client.peer.connection is None:
            continue
        assert client.frames[0]["type"] == "welcome"
        assert {id for (who, id) in asked if who is client} == set(answers), asked


def _as_the_store_says(world: World) -> None:
    """Whoever follows somebody and has room shows what the store shows."""
    for client in world.clients:
        if client.lost or client.code() is not None or client.congested():
            continue
        view = View(client)
        for user, topic in (client.peer.users or {}).items():
            assert client.peer in topic.followers
            assert view.users[user][1] == world.shown(user)
        for room, place in (client.peer.rooms or {}).items():
            assert client.peer in place.followers
            assert set(view.rooms[room]) == set(world.store.ledger.rooms.get(room, ()))
