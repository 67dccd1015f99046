"""The event stream: every transition in order, nothing lost across reconnects and restarts, bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stillhere.core.events import Change
from stillhere.http.app import StreamLimits, build_app
from stillhere.http.events import CHUNK
from stillhere.server.auth import Authenticator
from stillhere.server.node import Node
from stillhere.server.settings import Settings
from stillhere.store.memory import MemoryStore
from stillhere.store.sqlite import SqliteStore
from tests.unit.http.listening import Event, Paced, parsed, serving
from tests.unit.http.stand import START, Clock, Stand, make_token, settings, standing


def kinds(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.name, event.data["user"]) for event in events]


async def test_every_transition_comes_in_order_with_its_cursor() -> None:
    async with (
        standing() as stand,
        serving(stand.app, stand.node, stand.token(scope="read")) as site,
        site.listening() as reader,
    ):
        alice = await stand.connect("alice")
        alice.say(type="join", id=1, room="lobby", meta={"seat": 4})
        await stand.settle()
        alice.say(type="leave", id=2, room="lobby")
        await stand.settle()
        alice.say(type="bye")
        await stand.settle()
        events = [await reader.next() for _ in range(4)]
    online, joined, left, offline = events
    epoch = stand.node.hub.epoch
    assert [event.name for event in events] == ["PRESENCE_ONLINE", "ROOM_JOINED", "ROOM_LEFT", "PRESENCE_OFFLINE"]
    assert [event.id for event in events] == [f"{epoch}-{event.data['version']}" for event in events]
    assert online.data == {
        "user": "alice",
        "change": "PRESENCE_ONLINE",
        "version": 1,
        "epoch": epoch,
        "at": round(START * 1000),
        "cause": "connection_open",
        "presence": {
            "user": "alice",
            "status": "online",
            "epoch": epoch,
            "version": 1,
            "changedAt": round(START * 1000),
        },
    }
    assert joined.data["room"] == left.data["room"] == "lobby"
    assert joined.data["member"]["metas"] == [{"connectionId": alice.id, "meta": {"seat": 4}}]
    assert "member" not in left.data and "presence" not in left.data
    assert offline.data["presence"]["status"] == "offline"


async def test_a_reader_that_comes_back_misses_nothing_and_hears_nothing_twice() -> None:
    async with standing() as stand, serving(stand.app, stand.node, stand.token(scope="read")) as site:
        async with site.listening() as reader:
            await stand.connect("alice")
            first = await reader.next()
        await stand.connect("bob")
        async with site.listening(Last_Event_ID=first.id) as reader:
            await stand.connect("carol")
            events = [await reader.next(), await reader.next()]
        assert kinds(events) == [("PRESENCE_ONLINE", "bob"), ("PRESENCE_ONLINE", "carol")]
        async with site.client.stream("GET", f"{site.url}/v1/events?after={first.id}") as answer:
            assert b'"bob"' in await anext(part async for part in answer.aiter_bytes() if b"data" in part)


async def test_a_reader_that_has_heard_nothing_yet_can_resume_too() -> None:
    async with standing() as stand, serving(stand.app, stand.node, stand.token(scope="read")) as site:
        async with site.listening() as reader:
            began = reader.parser.last_id
        await stand.connect("alice")
        async with site.listening(Last_Event_ID=began) as reader:
            assert (await reader.next()).data["user"] == "alice"


async def test_a_stream_is_resumed_across_a_restart_on_sqlite(tmp_path: Path) -> None:
    def make(config: Settings, clock: Clock) -> SqliteStore:
        return SqliteStore(tmp_path / "test.db", clock, policy=config.grace.policy)

    async with standing(make=make) as stand, serving(stand.app, stand.node, stand.token(scope="read")) as site:
        async with site.listening() as reader:
            for user in ("alice", "bob"):
                await stand.connect(user)
            seen = await reader.next()
            assert seen.data["user"] == "alice"
        (await stand.connect("carol")).say(type="bye")
        await stand.settle()
    async with standing(make=make) as stand, serving(stand.app, stand.node, stand.token(scope="read")) as site:
        async with site.listening(Last_Event_ID=seen.id) as reader:
            old = [await reader.next() for _ in range(3)]
            await stand.connect("dave")
            new = await reader.next()
        async with site.listening(Last_Event_ID=old[-1].id) as reader:
            assert await reader.next() == new
    assert kinds(old) == [("PRESENCE_ONLINE", "bob"), ("PRESENCE_ONLINE", "carol"), ("PRESENCE_OFFLINE", "carol")]
    assert kinds([new]) == [("PRESENCE_ONLINE", "dave")]
    assert new.data["version"] > old[-1].data["version"]


async def test_where_the_log_no_longer_reaches_back_there_is_a_gap_and_then_news() -> None:
    def make(config: Settings, clock: Clock) -> MemoryStore:
        return MemoryStore(clock, policy=config.grace.policy, log_kept=2)

    async with standing(make=make) as stand:
        epoch = stand.node.hub.epoch
        for user in "abcde":
            await stand.connect(user)
        for number, after in enumerate((f"{epoch}-1", f"{epoch}-99", "7-1"), 5):
            reader = Paced(stand.app, stand.token(scope="read"), f"after={after}")
            await reader.offered()
            (gap,) = parsed(await reader.take())
            assert gap == Event("gap", f"{epoch}-{number}", {"cursor": f"{epoch}-{number}"})
            reader.may_take.release()
            await stand.connect(f"new-{number}")
            assert kinds(parsed(await reader.offered())) == [("PRESENCE_ONLINE", f"new-{number}")]
            reader.gone.set()
            await reader.ended()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("user=alice", ["PRESENCE_ONLINE alice", "ROOM_JOINED alice", "PRESENCE_UPDATED alice", "ROOM_UPDATED alice"]),
        ("user=bob&user=carol", ["PRESENCE_ONLINE bob", "ROOM_JOINED bob", "PRESENCE_ONLINE carol"]),
        ("room=lobby", ["ROOM_JOINED alice", "ROOM_UPDATED alice"]),
        ("room=lobby&room=attic&user=bob", ["ROOM_JOINED bob"]),
        (
            "types=PRESENCE_ONLINE&types=PRESENCE_UPDATED",
            ["PRESENCE_ONLINE alice", "PRESENCE_ONLINE bob", "PRESENCE_ONLINE carol", "PRESENCE_UPDATED alice"],
        ),
        ("types=ROOM_LEFT", []),
    ],
)
async def test_a_reader_hears_what_all_its_filters_let_pass(stand: Stand, query: str, expected: list[str]) -> None:
    tip = await stand.store.tip()
    for user, room in (("alice", "lobby"), ("bob", "attic"), ("carol", None)):
        wire = await stand.connect(user)
        if room:
            wire.say(type="join", id=1, room=room)
            await stand.settle()
    stand.wires[0].say(type="state", id=2, availability="away")
    await stand.settle()
    reader = Paced(stand.app, stand.token(scope="read"), f"{query}&after={tip}")
    for _ in range(20):
        reader.may_take.release()
    await reader.offered()
    for _ in range(20):
        await asyncio.sleep(0)
    reader.gone.set()
    await reader.ended()
    events = parsed(b"".join(reader.parts))
    assert sorted(f"{name} {user}" for name, user in kinds(events)) == sorted(expected)


async def test_in_silence_there_is_a_heartbeat_that_carries_the_cursor() -> None:
    async with standing(streams=StreamLimits(heartbeat=0.02)) as stand:
        stand.node.monotonic = asyncio.get_running_loop().time
        reader = Paced(stand.app, stand.token(scope="read"), "user=nobody")
        await reader.offered()
        await stand.connect("alice")  # filtered out, but the cursor moves
        beat = await reader.take()
        while b"-1\n" not in beat:
            beat = await reader.take()
        assert beat == f"id: {await stand.store.tip()}\n: still here\n\n".encode()
        assert parsed(beat) == []
        reader.gone.set()
        await reader.ended()


async def test_a_drain_ends_every_stream_with_a_goodbye() -> None:
    async with standing() as stand, serving(stand.app, stand.node, stand.token(scope="read")) as site:
        async with site.listening() as first, site.listening("?user=nobody") as second:
            await stand.node.drain(0)
            for reader in (first, second):
                bye = await reader.next()
                assert (bye.name, bye.data) == ("bye", {"reason": "draining"})
                assert await reader.ended()
        refused = await site.client.get(f"{site.url}/v1/events")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")


async def test_a_stop_ends_every_stream() -> None:
    clock, config = Clock(), settings()
    node = Node(config, MemoryStore(clock), authenticator=Authenticator.of(config.auth), now=clock)
    await node.start()
    app = build_app(node)
    token = make_token("operator", clock.now, scope="read")
    async with serving(app, node, token) as site, site.listening() as reader:
        await node.stop()
        assert (await reader.next()).name == "bye"
        assert await reader.ended()


async def test_a_stream_ends_with_the_token_that_opened_it() -> None:
    async with standing(streams=StreamLimits(heartbeat=0.02)) as stand:
        stand.node.monotonic = asyncio.get_running_loop().time
        reader = Paced(stand.app, stand.token(scope="read", ttl=60))
        await reader.offered()
        stand.clock.now += 61
        text = await reader.take()
        while not parsed(text):
            text = await reader.take()
        assert [(e.name, e.data) for e in parsed(text)] == [("bye", {"reason": "expired"})]
        reader.may_take.release()
        await reader.ended()


async def test_a_slow_reader_costs_one_part_and_misses_nothing(stand: Stand) -> None:
    reader = Paced(stand.app, stand.token(scope="read"))
    await reader.offered()
    names = [f"user-{n:04}" for n in range(600)]
    for name in names:
        await stand.connect(name, settle=False)
    await stand.settle()
    assert len(reader.parts) == 1
    reader.may_take.release()
    events: list[Event] = []
    while len(events) < len(names):
        part = await reader.offered()
        assert len(part) < CHUNK + 1024
        events += parsed(part)
        reader.may_take.release()
    assert len(reader.parts) > 2
    assert [event.data["user"] for event in events] == names
    reader.gone.set()
    await reader.ended()


async def test_a_reader_that_takes_nothing_is_cut_off() -> None:
    async with standing(streams=StreamLimits(stuck=0.02)) as stand:
        reader = Paced(stand.app, stand.token(scope="read"))
        await reader.ended()
        assert len(reader.parts) == 1


async def test_there_is_a_bound_of_readers_and_one_that_goes_makes_room() -> None:
    async with standing(streams=StreamLimits(readers=2)) as stand:
        readers = [Paced(stand.app, stand.token(scope="read")) for _ in range(3)]
        await readers[0].offered()
        readers[2].may_take.release()
        await readers[2].ended()
        assert [reader.status for reader in readers] == [200, 200, 503]
        readers[0].gone.set()
        await readers[0].ended()
        another = Paced(stand.app, stand.token(scope="read"))
        await another.offered()
        assert another.status == 200
        for reader in (readers[1], another):
            reader.gone.set()
            await reader.ended()


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("after=now", "cursor 'now' is not of the form <epoch>-<number>"),
        ("after=" + "9" * 60 + "-1", "a cursor has at most 40 characters"),
        ("types=ONLINE", f"types is 'ONLINE'; it must be one of {', '.join(sorted(Change))}"),
        ("user=", "the user id is empty"),
        ("room=%00", "the room name holds a control character"),
    ],
)
async def test_a_bad_wish_is_refused_with_what_would_be_right(stand: Stand, query: str, complaint: str) -> None:
    assert complaint in (await stand.get(f"/v1/events?{query}", status=400))["detail"]


async def test_head_tells_what_a_stream_is_without_opening_one(stand: Stand) -> None:
    answer = await stand.client.head("/v1/events", headers={"Authorization": f"Bearer {stand.token(scope='read')}"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
