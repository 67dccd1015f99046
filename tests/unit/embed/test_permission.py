"""``may_watch`` and ``may_join``: asked once per connection and id, and harmless whatever they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stillhere.embed import Identity
from stillhere.embed.permission import AT_ONCE, RETRY, Asked, Rule
from stillhere.testing import World, presence_world
from tests.unit.embed.test_authenticate import failures

USERS = [f"user-{n:02}" for n in range(100)]


class Questions:
    """A rule that remembers what it was asked; whoever is called ``no…`` may not be seen."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.at_once = self.most = 0

    def plain(self, who: Identity, name: str) -> bool:
        self.asked.append(name)
        return not name.startswith("no")

    async def later(self, who: Identity, name: str) -> bool:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return self.plain(who, name)

    def lazy(self, who: Identity, name: str) -> Any:
        return self.later(who, name)


@pytest.mark.parametrize("kind", ["plain", "later", "lazy"])
async def test_to_watch_a_hundred_users_asks_a_hundred_questions_however_often(kind: str) -> None:
    questions = Questions()
    async with presence_world(may_watch=getattr(questions, kind)) as world:
        alice = await world.connect("alice", watches=USERS)
        assert sorted(questions.asked) == USERS
        await alice.unwatch(*USERS)
        await alice.watch(*USERS)
        assert [alice.sees(user) for user in USERS] == ["offline"] * 100
        assert len(questions.asked) == 100
        await alice.reconnect()
        assert len(questions.asked) == 200, "a new connection asks anew: what was right then may not be now"
    assert questions.most <= AT_ONCE


async def test_the_rule_decides_alone_but_for_oneself() -> None:
    questions = Questions()
    async with presence_world(may_watch=questions.plain) as world:
        await world.connect("no-one")
        other = await world.connect("no-two", may_watch=None, watches=["no-one", "no-two", "alice"])
        await world.connect("alice")
        assert (other.sees("no-one"), other.sees("no-two"), other.sees("alice")) == ("offline", "online", "online")
        assert "no-two" not in questions.asked


async def test_who_may_not_be_seen_is_like_somebody_who_does_not_exist() -> None:
    async with presence_world(may_watch=Questions().later) as world:
        bob = await world.connect("bob")
        await world.connect("nobody-known")
        bob.say({"type": "query", "id": 7, "users": ["nobody-known", "no-such-user"]})
        await world.settle()
        one, other = bob.messages[-1]["users"]
        assert one.pop("user") != other.pop("user")
        assert one == other


async def test_rooms_have_a_rule_of_their_own() -> None:
    async with presence_world(may_join=Questions().later) as world:
        bob = await world.connect("bob", rooms=["yes", "no"])
        assert bob.members("yes") == {"bob": "online"} and bob.members("no") == {}
        assert bob.messages[-1]["code"] == "forbidden"


async def test_messages_keep_their_order_while_the_application_thinks() -> None:
    gate = asyncio.Event()

    async def slow(who: Identity, user: str) -> bool:
        await gate.wait()
        return True

    async with presence_world(may_watch=slow) as world:
        alice = await world.connect("alice")
        bob = await world.connect("bob")
        bob.say({"type": "watch", "id": 1, "users": ["alice"]})
        bob.say({"type": "unwatch", "id": 2, "users": ["alice"]})
        bob.say({"type": "ping", "id": 3})
        await world.settle()
        assert len(bob.messages) == 1
        gate.set()
        await world.settle()
        assert sorted(message["id"] for message in bob.messages[1:]) == [1, 2, 3]
        alice.log_out()
        await world.settle()
        assert not [message for message in bob.messages if message["type"] == "presence"], "the unwatch came last"


async def test_who_sends_too_much_meanwhile_is_refused_and_nothing_grows() -> None:
    async with presence_world(may_watch=_never, settings={"limits.messages_per_second": 1000}) as world:
        bob = await world.connect("bob", watches=["alice"])
        for n in range(80):
            bob.say({"type": "ping", "id": n})
        await world.settle()
        assert [message["code"] for message in bob.messages[1:]] == ["too_many"] * 17
        await world.advance(6)
        assert sum(message["type"] == "pong" for message in bob.messages) == 63


async def test_a_client_that_leaves_meanwhile_leaves_nothing() -> None:
    async with presence_world(may_watch=_never) as world:
        bob = await world.connect("bob", watches=["alice"])
        bob.leave_page()
        await world.advance(60)
        assert world.presence.node.hub.users == {} and not world.presence.node.peers


async def test_a_rule_that_raises_is_a_no_for_a_moment_and_is_asked_again() -> None:
    mood: list[Callable[[], bool]] = [lambda: bool(1 / 0)]
    async with presence_world(may_watch=lambda who, user: mood[0]()) as world:
        await world.connect("alice")
        bob = await world.connect("bob", watches=["alice"])
        assert bob.sees("alice") == "offline"
        assert failures(world, "may_watch", "raised") == 1
        mood[0] = lambda: True
        await bob.watch("alice")
        assert bob.sees("alice") == "offline"
        await world.advance(RETRY + 0.1)
        await bob.watch("alice")
        assert bob.sees("alice") == "online"


async def test_one_question_that_fails_does_not_spoil_the_others() -> None:
    async def rule(who: Identity, user: str) -> bool:
        if user == "broken":
            raise RuntimeError
        return True

    async with presence_world(may_watch=rule) as world:
        await world.connect("alice")
        bob = await world.connect("bob", watches=["broken", "alice"])
        assert bob.sees("alice") == "online"


async def test_a_rule_that_hangs_is_a_no_after_the_time_of_a_handshake() -> None:
    async with presence_world(may_watch=_never) as world:
        bob = await world.connect("bob", watches=["alice"])
        await world.advance(4.9)
        assert bob.sees("alice") == "unknown"
        await world.advance(0.2)
        assert bob.sees("alice") == "offline"
        assert failures(world, "may_watch", "late") == 1


async def test_what_is_refused_anyway_asks_nobody() -> None:
    questions = Questions()
    async with presence_world(may_watch=questions.later, settings={"limits.watch": 5}) as world:
        bob = await world.connect("bob")
        await bob.watch(*USERS)
        bob.say({"type": "watch", "id": 9, "users": ["a\nb", "carol"]})
        await world.settle()
        assert [message["code"] for message in bob.messages[1:]] == ["too_many", "bad_request"]
        assert questions.asked == []


async def test_a_renewed_token_asks_anew() -> None:
    questions = Questions()
    async with presence_world(may_watch=questions.plain, secret="x" * 32) as world:
        bob = await world.connect("bob", watches=["alice"])
        bob.say({"type": "auth", "id": 5, "token": _token(world, "bob")})
        await bob.watch("alice")
        assert questions.asked == ["alice", "alice"]


async def test_verdicts_are_kept_up_to_a_bound() -> None:
    from stillhere.embed import identity
    from stillhere.embed.callbacks import Callbacks

    questions = Questions()
    rule = Rule("may_watch", questions.later, Callbacks(), 5.0, 10, lambda: 0.0)
    asked = Asked(rule, identity("bob"), "bob")
    for user in USERS:
        waiting = asked.ask([user])
        assert waiting is not None
        await waiting
    assert asked.ask(USERS[-10:]) is None
    again = asked.ask(USERS[:1])
    assert again is not None
    await again


async def _never(who: Identity, user: str) -> bool:
    await asyncio.Event().wait()
    return True


def _token(world: World, user: str) -> str:
    from stillhere.server.auth import mint

    return mint("x" * 32, user, now=world.clock.now() + 5, ttl=9999, watch="*")
