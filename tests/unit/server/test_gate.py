"""Who may open a connection: every refusal comes before the 101, and costs nothing afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec
import pytest

from stillhere.server.auth import Authenticator, Identity, KeysUnavailable, TokenForged
from stillhere.server.secrets import Secret
from stillhere.server.socket import Refusal, UpgradeRequest, Verdict, Welcome
from tests.unit.server.test_login import fetching
from tests.unit.server.world import HOST, SECRET, World, lived


def problem(refusal: Refusal) -> dict[str, Any]:
    """The problem document, which is one."""
    document: dict[str, Any] = msgspec.json.decode(refusal.body)
    assert document["status"] == refusal.status and document["title"] and document["detail"]
    assert document.get("type", "about:blank") == "about:blank"
    return document


# -- in order, cheapest first ---------------------------------------------------------------------------------------


@lived()
async def test_a_welcome_selects_the_protocol_that_was_offered(world: World) -> None:
    verdict = world.greet("ann")
    assert isinstance(verdict, Welcome) and verdict.subprotocol == "stillhere.v1"
    headers = {
        "authorization": f"Bearer {world.token('ann')}",
        "sec-websocket-protocol": "",
        "origin": f"http://{HOST}",
    }
    verdict = world.greet(None, headers=headers)
    assert isinstance(verdict, Welcome) and verdict.subprotocol is None


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@lived()
async def test_a_token_may_come_in_the_authorization_header_without_an_origin(world: World, scheme: str) -> None:
    request = UpgradeRequest("/ws", {}, {"host": HOST, "authorization": f"{scheme} {world.token('ann')}"}, "")
    verdict = world.node.greet(request)
    assert isinstance(verdict, Welcome)
    client = world.open(verdict)
    await world.settle()
    assert client.frames[0]["user"] == "ann"


@lived()
async def test_a_token_in_the_query_is_not_read_where_it_is_not_allowed(world: World) -> None:
    ann = await world.connect(None, query={"token": world.token("ann")})
    assert ann.frames == []


@lived({"auth.allow_query_token": True})
async def test_a_token_in_the_query_is_read_where_it_is_allowed(world: World) -> None:
    token = world.token("ann")
    ann = await world.connect(None, query={"token": token})
    assert ann.frames[0]["user"] == "ann"
    assert token not in str(world.log)


REFUSED: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "another origin": ({"headers": {"origin": "http://evil.test"}}, 403, "origin", "http://evil.test"),
    "another subprotocol": ({"headers": {"sec-websocket-protocol": "graphql-ws"}}, 400, "protocol", "stillhere.v1"),
    "a tab of 129 bytes": ({"tab": "t" * 129}, 400, "parameters", "the parameter tab has 129 bytes"),
    "a tab with a control character": ({"tab": "t\n"}, 400, "parameters", "control character"),
    "an availability that is none": (
        {"query": {"availability": "asleep"}},
        400,
        "parameters",
        "availability is 'asleep'; it must be one of active, busy, away, invisible",
    ),
    "a token that is none": ({"token": "nonsense"}, 401, "unauthorized", "token"),
}


@pytest.mark.parametrize(("options", "status", "why", "detail"), REFUSED.values(), ids=REFUSED)
@lived()
async def test_an_upgrade_is_refused_with_a_reason(
    world: World, options: dict[str, Any], status: int, why: str, detail: str
) -> None:
    refusal = await world.refused("ann", **options)
    assert refusal.status == status and detail in problem(refusal)["detail"]
    assert world.metric("stillhere_refused_upgrades_total", why=why) == 1
    assert world.fields("upgrade_refused")["status"] == status
    assert not world.leftovers()


@lived()
async def test_a_bad_token_is_told_how_to_bring_a_good_one_and_is_not_repeated(world: World) -> None:
    token = world.token("ann", ttl=-1)
    refusal = await world.refused("ann", token=token)
    assert refusal.status == 401 and refusal.headers == {"WWW-Authenticate": "Bearer"}
    assert token not in refusal.body.decode() and token not in str(world.log)


@lived({"origins.hosts": ["here.test"], "origins.allowed": ["http://here.test:7400"]})
async def test_a_host_that_is_not_ours_is_refused_with_421(world: World) -> None:
    refusal = await world.refused("ann", headers={"host": "evil.test"})
    assert refusal.status == 421 and "'evil.test'" in problem(refusal)["detail"]
    await world.connect("ann")


@lived()
async def test_a_refusal_has_no_effect_on_the_presence_of_the_user(world: World) -> None:
    ann = await world.connect("ann", tab="t")
    before = (list(world.store.puts), world.shown("ann"))
    await world.refused("ann", tab="t\x00")
    await world.refused("ann", tab="t", headers={"origin": "http://evil.test"})
    await world.settle()
    assert (world.store.puts, world.shown("ann")) == before and ann.code() is None


@lived()
async def test_what_the_upgrade_says_is_kept_with_the_connection(world: World) -> None:
    ann = await world.connect(
        "ann",
        tab="t7",
        query={"availability": "busy"},
        headers={"user-agent": "Mozilla/5.0 (X11) Gecko/20100101 Firefox/150.0"},
    )
    connection = ann.peer.connection
    assert connection is not None
    assert (connection.tab, connection.client, connection.availability) == ("t7", "Firefox 150", "busy")
    assert world.shown("ann") == "busy"


@lived()
async def test_who_connects_invisible_does_not_flash_up(world: World) -> None:
    bob = await world.connect("bob")
    await bob.ask("watch", users=["ann"])
    ann = await world.connect("ann", query={"availability": "invisible"})
    await world.pass_time(1)
    ann.leave()
    await world.pass_time(20)
    assert bob.take() == []


# -- caps -----------------------------------------------------------------------------------------------------------


@lived({"limits.connections": 2, "limits.connections_per_user": 2, "limits.connections_per_ip": 2})
async def test_a_full_node_refuses_with_503_and_says_when_to_come_back(world: World) -> None:
    first = await world.connect("u1", ip="192.0.2.1")
    await world.connect("u2", ip="192.0.2.2")
    refusal = await world.refused("u3", ip="192.0.2.3")
    assert refusal.status == 503 and int(refusal.headers["Retry-After"]) > 0
    assert "limits.connections is reached" in problem(refusal)["detail"]
    first.drop()
    await world.connect("u3")


@lived({"limits.connections_per_ip": 2})
async def test_an_address_at_its_cap_is_refused_with_429(world: World) -> None:
    await world.connect("u1", ip="192.0.2.1")
    second = await world.connect(None, ip="192.0.2.1")
    refusal = await world.refused("u3", ip="192.0.2.1")
    assert refusal.status == 429 and "Retry-After" in refusal.headers
    assert "limits.connections_per_ip" in problem(refusal)["detail"]
    await world.connect("u3", ip="192.0.2.2")
    second.drop()
    await world.connect("u3", ip="192.0.2.1")


@lived({"limits.connections_per_user": 2})
async def test_a_user_at_the_cap_is_refused_with_429_and_may_still_reload_a_tab(world: World) -> None:
    one = await world.connect("ann", tab="1")
    await world.connect("ann", tab="2")
    refusal = await world.refused("ann", tab="3")
    assert refusal.status == 429 and "limits.connections_per_user" in problem(refusal)["detail"]
    again = await world.connect("ann", tab="1")
    assert one.code() == 4005
    await world.settle()
    assert again.code() is None and world.node.gate.caps.of_user("ann") == 2
    assert world.node.gate.caps.of_ip("") == 0
    assert len(world.node.gate.caps) == 2


@lived({"limits.connections_per_user": 2})
async def test_a_user_at_the_cap_may_reload_again_and_again_whatever_his_old_sockets_do(world: World) -> None:
    await world.connect("ann", tab="2")
    reloads = [await world.connect("ann", tab="1")]
    for _ in range(4):
        reloads[-1].polite = False  # a half-open connection answers no close frame
        reloads.append(await world.connect("ann", tab="1"))
    assert reloads[-1].code() is None
    assert len(world.node.gate.caps) == 6, "the sockets are still there, and count as such"
    assert (await world.refused("ann", tab="3")).status == 429
    await world.pass_time(6)
    assert len(world.node.gate.caps) == 2 == world.node.gate.caps.of_user("ann")


# -- keys that have to be fetched first -----------------------------------------------------------------------------


async def _answer(verdict: Verdict | Awaitable[Verdict]) -> Verdict:
    return verdict if isinstance(verdict, Refusal | Welcome) else await verdict


@lived()
async def test_an_upgrade_waits_for_a_key(world: World) -> None:
    authenticator = fetching(world)
    answer = asyncio.ensure_future(_answer(world.greet("ann")))
    await world.settle()
    assert not answer.done() and len(world.node.gate.caps) == 1
    authenticator.waiting[0].set_result(None)
    client = world.open(await answer)
    await world.settle()
    assert client.frames[0]["user"] == "ann"


@lived()
async def test_a_key_that_cannot_be_had_is_503_and_a_bad_token_401(world: World) -> None:
    authenticator = fetching(world)
    for error, status in ((KeysUnavailable("the issuer is away"), 503), (TokenForged("no"), 401)):
        answer = asyncio.ensure_future(_answer(world.greet("ann")))
        await world.settle()
        authenticator.waiting.pop().set_exception(error)
        verdict = await answer
        assert isinstance(verdict, Refusal) and verdict.status == status
        assert ("Retry-After" in verdict.headers) is (status == 503)
    assert not world.leftovers()


@pytest.mark.parametrize("turns", [0, 1, 5])
@lived()
async def test_a_client_that_leaves_while_the_key_is_fetched_leaves_nothing(world: World, turns: int) -> None:
    authenticator = fetching(world)
    answer = asyncio.ensure_future(world.greet("ann"))  # type: ignore[arg-type]  # it is awaitable here
    await world.settle(turns)
    answer.cancel()
    await world.settle()
    assert [fetched.cancelled() for fetched in authenticator.waiting] == ([True] if turns else [False])
    assert not world.leftovers()


class Broken(Authenticator):
    """Fails in a way that nobody foresaw."""

    def __init__(self, *, late: bool) -> None:
        super().__init__(secret=Secret(SECRET))
        self._late = late

    def verify(self, token: str | bytes, now: float) -> Identity | Awaitable[Identity]:
        if self._late:
            return self._fail()
        raise ZeroDivisionError("a mistake")

    async def _fail(self) -> Identity:
        raise ZeroDivisionError("a mistake")


@pytest.mark.parametrize("late", [False, True])
@lived()
async def test_a_mistake_in_the_authentication_is_the_transports_to_report_and_leaves_nothing(
    world: World, late: bool
) -> None:
    world.node.authenticator = Broken(late=late)
    with pytest.raises(ZeroDivisionError):
        await _answer(world.greet("ann"))
    await world.settle()
    assert not world.leftovers()
