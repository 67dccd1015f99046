"""Who delivers, and what operators see of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import generate_latest

from stillhere.core.words import Incarnation
from stillhere.server.neighbours import About
from stillhere.server.webhooks.office import chosen, hook_id
from stillhere.store.contract import NodeState
from tests.unit.http.stand import API_KEY, Stand, standing
from tests.unit.webhooks.endpoint import SECRET, Endpoint, answer

WH = "wh_1"


def state(name: str, lease: float = 10.0, *, draining: bool = False, hooks: tuple[str, ...] = (WH,)) -> NodeState:
    about = json.dumps({"node": name, "draining": draining, "webhooks": hooks}).encode()
    return NodeState(Incarnation(f"{name}-0a.1"), lease, about)


def name(*states: NodeState) -> str | None:
    found = chosen(states, WH)
    return None if found is None else found.incarnation.partition("-")[0]


def test_the_smallest_name_with_a_lease_delivers() -> None:
    assert name(state("n2"), state("n1"), state("n3")) == "n1"
    assert name(state("n2"), state("n1", lease=0.0), state("n3")) == "n2"
    assert name() is None


def test_a_node_that_drains_delivers_only_where_no_other_can() -> None:
    assert name(state("n1", draining=True), state("n2")) == "n2"
    assert name(state("n1", draining=True)) == "n1"


def test_a_node_without_the_hook_or_of_an_older_version_is_not_chosen() -> None:
    old = NodeState(Incarnation("n0-0a.1"), 10.0, b'{"node":"n0"}')
    strange = NodeState(Incarnation("n0-0b.1"), 10.0, b"\xff")
    assert name(state("n1", hooks=("wh_2",)), old, strange, state("n2")) == "n2"


def test_what_a_node_tells_of_itself_names_its_hooks() -> None:
    assert "webhooks" in About.__struct_fields__


def test_a_hook_is_named_after_its_url() -> None:
    assert hook_id("https://a.example/") == hook_id("https://a.example/") != hook_id("https://a.example/x")


def hooked(endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    return {"delivery__loopback": True, "webhooks": [{"url": endpoint.url("/h?key=k3y"), "secret": SECRET}], **more}


async def test_the_api_tells_how_each_hook_goes_and_no_secret() -> None:
    with Endpoint() as endpoint:
        async with standing(**hooked(endpoint)) as stand:
            (hook,) = (await admin(stand, "GET", "/v1/webhooks"))["webhooks"]
            assert hook["hook"] == hook_id(endpoint.url("/h?key=k3y"))
            assert hook["url"] == endpoint.url("/h?…")
            assert (hook["events"], hook["deadLetters"], hook["failingSince"]) == (["online", "offline"], 0, None)
            whole = json.dumps([await admin(stand, "GET", path) for path in ("/v1/webhooks", "/v1/stats")])
            assert SECRET not in whole and "k3y" not in whole and API_KEY not in whole
            letters = await admin(stand, "GET", f"/v1/webhooks/{hook['hook']}/letters")
            assert letters == {"hook": hook["hook"], "letters": [], "dropped": 0}
            assert (await admin(stand, "POST", f"/v1/webhooks/{hook['hook']}/replay", 202))["letters"] == 0


async def test_a_test_says_what_became_of_it() -> None:
    with Endpoint() as endpoint:
        async with standing(**hooked(endpoint)) as stand:
            path = f"/v1/webhooks/{stand.node.webhooks.ids[0]}/test"
            told = await admin(stand, "POST", path)
            assert (told["delivered"], told["status"], told["reason"]) == (True, 204, "")
            assert endpoint.requests[-1].message["type"] == "webhook.test"
            endpoint.behaviour = lambda _: answer(500)
            told = await admin(stand, "POST", path)
            assert (told["delivered"], told["reason"]) == (False, "the endpoint answered 500")
            endpoint.behaviour = lambda _: b"?"
            told = await admin(stand, "POST", path)
            assert (told["delivered"], told["status"]) == (False, None)
            assert "not HTTP" in told["reason"]


@pytest.mark.parametrize("path", ["letters", "replay", "test"])
async def test_an_unknown_hook_is_named_and_those_that_there_are(stand: Stand, path: str) -> None:
    method = "GET" if path == "letters" else "POST"
    told = await admin(stand, method, f"/v1/webhooks/wh_x/{path}", 404)
    assert told["detail"] == "there is no webhook 'wh_x'; the settings have none"


async def test_readers_may_not_see_webhooks(stand: Stand) -> None:
    await stand.get("/v1/webhooks", status=403)


async def test_without_hooks_there_are_no_metrics_of_them(stand: Stand) -> None:
    assert "webhook" not in (await stand.client.get("/metrics")).text
    with Endpoint() as endpoint:
        async with standing(**hooked(endpoint)) as other:
            await until(lambda: other.node.webhooks.hooks[other.node.webhooks.ids[0]].courier.mark.cursors)
            await other.connect("ann")
            await asyncio.to_thread(endpoint.wait, bool)
            hook = other.node.webhooks.ids[0]
            wanted = f'stillhere_webhook_deliveries_total{{hook="{hook}",result="delivered"}} 1.0'
            await until(lambda: wanted in generate_latest(other.node.metrics.registry).decode())
            text = (await other.client.get("/metrics")).text
            assert f'stillhere_webhook_lag_seconds{{hook="{hook}"}} 0.0' in text
            assert f'stillhere_webhook_dead_letters{{hook="{hook}"}} 0.0' in text


async def admin(stand: Stand, method: str, path: str, status: int = 200) -> dict[str, Any]:
    answered = await stand.client.request(method, path, headers={"X-API-Key": API_KEY})
    assert answered.status_code == status, answered.text
    found: dict[str, Any] = answered.json()
    return found


async def until(true: Callable[[], object]) -> None:
    """Poll: what happens comes over a socket."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - a condition over several threads has no event
            await asyncio.sleep(0.005)
