"""Rooms, nodes and figures, and what surrounds every call: methods, hosts, headers, faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from stillhere.core.errors import LocalMisuse
from stillhere.core.words import RoomName
from stillhere.http import dev as development
from stillhere.http import events, nodes, rooms, service, stats, users
from stillhere.http.call import BODY_BYTES
from stillhere.store.contract import RoomSnapshot, StoreUnavailable
from stillhere.store.memory import MemoryStore
from tests.unit.http.listening import serving
from tests.unit.http.stand import Stand, standing

# -- rooms ----------------------------------------------------------------------------------------------------------


async def test_a_room_tells_its_members_as_they_are_told_to_one_another(stand: Stand) -> None:
    alice, bob = await stand.connect("alice"), await stand.connect("bob")
    alice.say(type="join", id=1, room="a/b", meta={"seat": 4})
    bob.say(type="join", id=1, room="a/b")
    await stand.settle()
    members = next(f for f in bob.frames if f["type"] == "room")["members"]
    found = await stand.get("/v1/rooms/a%2Fb")
    assert found == {"room": "a/b", "epoch": stand.node.hub.epoch, "count": 2, "members": members}


async def test_an_empty_room_has_no_members(stand: Stand) -> None:
    assert await stand.get("/v1/rooms/nowhere") == {
        "room": "nowhere",
        "epoch": stand.node.hub.epoch,
        "count": 0,
        "members": [],
    }
    assert "control character" in (await stand.get("/v1/rooms/a%0A", status=400))["detail"]


async def test_a_large_room_is_told_by_its_count() -> None:
    async with standing(rooms__count_only_above=1) as stand:
        for user in ("alice", "bob"):
            (await stand.connect(user)).say(type="join", id=1, room="lobby")
            await stand.settle()
        found = await stand.get("/v1/rooms/lobby")
        assert (found["count"], found["statuses"]) == (2, {"online": 2})
        assert "members" not in found and "cursor" not in found


@pytest.mark.parametrize("most", [1, 1000])
async def test_the_members_of_a_room_of_any_size_come_page_by_page(most: int) -> None:
    async with standing(rooms__count_only_above=most) as stand:
        for user in ("dan", "alice", "carol", "bob"):
            (await stand.connect(user)).say(type="join", id=1, room="lobby")
        await stand.settle()
        first = await stand.get("/v1/rooms/lobby?limit=3")
        second = await stand.get(f"/v1/rooms/lobby?cursor={first['cursor']}")
        assert [[one["user"] for one in page["members"]] for page in (first, second)] == [
            ["alice", "bob", "carol"],
            ["dan"],
        ]
        assert (first["cursor"], second["cursor"]) == ("carol", None)
        assert first["count"] == second["count"] == first["statuses"]["online"] == 4
        for wrong in ("limit=0", "limit=1001", "limit=x", "cursor=%00"):
            await stand.get(f"/v1/rooms/lobby?{wrong}", status=400)


async def test_rooms_come_page_by_page(stand: Stand) -> None:
    alice = await stand.connect("alice")
    for room in ("c", "a", "b"):
        alice.say(type="join", id=1, room=room)
    await stand.settle()
    first = await stand.get("/v1/rooms?limit=2")
    second = await stand.get(f"/v1/rooms?limit=2&cursor={first['cursor']}")
    assert first["rooms"] + second["rooms"] == [{"room": room, "members": 1} for room in "abc"]
    assert (first["cursor"], second["cursor"]) == ("b", None)


# -- nodes and figures ----------------------------------------------------------------------------------------------


async def test_the_node_tells_of_itself(stand: Stand) -> None:
    await stand.connect("alice")
    (node,) = (await stand.get("/v1/nodes"))["nodes"]
    assert node["incarnation"].startswith("n1-")
    assert (node["node"], node["connections"], node["leaseMs"], node["ready"]) == ("n1", 1, 15_000, True)
    assert not node["isolated"]


async def test_a_drain_begins_once_and_moves_everybody() -> None:
    async with standing(server__drain_s=0) as stand:
        wire = await stand.connect("alice")
        for _ in range(2):
            found = await stand.post("/v1/nodes/n1/drain", status=202)
            assert found == {"node": "n1", "connections": 1, "drainMs": 0}
        await stand.settle()
        assert [frame["type"] for frame in wire.frames].count("moving") == 1
        assert wire.closed is not None and wire.closed[0] == 1012
        assert stand.node.draining
        wire.endpoint.on_lost(None)


async def test_another_node_cannot_be_drained_from_here(stand: Stand) -> None:
    found = await stand.post("/v1/nodes/n2/drain", status=404)
    assert "there is no node 'n2'" in found["detail"] and "'n1'" in found["detail"]
    assert not stand.node.draining


async def test_figures_count_what_happened(stand: Stand) -> None:
    alice = await stand.connect("alice")
    stand.clock.now += 10
    alice.leave(1000)
    await stand.settle()
    await stand.wait(4)
    again = await stand.connect("alice")
    again.say(type="state", id=1, availability="away")
    await stand.settle()
    found = await stand.get("/v1/stats")
    totals, false = found["totals"], found["falseOffline"]
    assert (totals["connects"], totals["disconnects"], totals["messages"]) == (2, 1, 1)
    assert (totals["online"], totals["offline"], totals["updated"]) == (2, 1, 1)
    assert (false["total"], false["byCause"], false["returns"]) == (1, {"client_close": 1}, {"client_close": 1})
    assert false["ghostMs"]["client_close"] >= 3000
    assert found["now"]["usersPresent"] == 1
    assert found["perSecond"] == {
        "overMs": 14_000,
        "connects": round(2 / 14, 3),
        "disconnects": round(1 / 14, 3),
        "transitions": round(4 / 14, 3),
        "messages": round(1 / 14, 3),
        "frames": 0.0,
    }


async def test_rates_are_of_the_last_minute_where_they_are_read_often(stand: Stand) -> None:
    await stand.connect("alice")
    found: dict[str, Any] = {}
    for _ in range(20):
        stand.clock.now += 6
        found = (await stand.get("/v1/stats"))["perSecond"]
    assert (found["connects"], found["overMs"]) == (0.0, 60_000)


async def test_metrics_are_for_prometheus(stand: Stand) -> None:
    await stand.connect("alice")
    plain = await stand.client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert "stillhere_connects_total 1.0" in plain.text
    asked = await stand.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert asked.headers["content-type"].startswith("application/openmetrics-text")
    assert asked.text.endswith("# EOF\n")


async def test_alive_and_ready_are_two_things(stand: Stand) -> None:
    assert (await stand.client.get("/healthz")).json() == {"status": "ok"}
    assert (await stand.client.get("/readyz")).json() == {"status": "ready"}
    stand.node.draining = True
    answer = await stand.client.get("/readyz")
    assert (answer.status_code, answer.json()["detail"]) == (503, "draining")
    assert (await stand.client.get("/healthz")).status_code == 200
    stand.node.tasks.failed = "ZeroDivisionError('secret')"
    answer = await stand.client.get("/healthz")
    assert (answer.status_code, "secret" in answer.text) == (500, False)


async def test_readiness_names_no_hosts_since_anybody_may_ask(stand: Stand) -> None:
    stand.node.keeper.error = "Redis at 10.1.2.3:6379 did not answer within 2 s"
    answer = await stand.client.get("/readyz")
    assert (answer.status_code, answer.json()["detail"]) == (503, "the store is not reachable")
    assert "10.1.2.3" not in answer.text and int(answer.headers["retry-after"]) > 0


# -- around every call ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/users/", "//v1/users", "/v1/users//diagnostics", "/docs/"])
async def test_nowhere_is_a_problem_too(stand: Stand, path: str) -> None:
    answer = await stand.client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"title", "status", "detail"}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/users", "GET, HEAD, OPTIONS"),
        ("/v1/users/query", "GET, HEAD, OPTIONS, POST"),
        ("/v1/users/alice/disconnect", "OPTIONS, POST"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/docs", "GET, HEAD, OPTIONS"),
    ],
)
async def test_other_methods_are_told_which_there_are(stand: Stand, path: str, allowed: str) -> None:
    answer = await stand.client.request("DELETE", path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert allowed in answer.json()["detail"]
    options = await stand.client.options(path, headers={"Origin": "https://evil.example"})
    assert (options.status_code, options.headers["allow"], options.content) == (204, allowed, b"")
    assert not [name for name in options.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/openapi.json", "/docs", "/v1/users"])
async def test_head_is_get_without_the_body(stand: Stand, path: str) -> None:
    headers = {"Authorization": f"Bearer {stand.token(scope='read')}"}
    full, head = await stand.client.get(path, headers=headers), await stand.client.head(path, headers=headers)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == full.headers


async def test_every_answer_keeps_browsers_safe(stand: Stand) -> None:
    for path in ("/healthz", "/v1/users", "/nope", "/docs", "/v1/users/a%00"):
        answer = await stand.client.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] in ("no-store", "no-cache")
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("host", "status"),
    [("presence.example.com", 200), ("localhost:7400", 200), ("127.0.0.1", 200), ("evil.example", 421), ("", 421)],
)
async def test_a_name_that_is_not_ours_is_misdirected(host: str, status: int) -> None:
    async with standing(origins__hosts=["presence.example.com"]) as stand:
        answer = await stand.client.get("/healthz", headers={"Host": host})
        assert answer.status_code == status


class Faulty(MemoryStore):
    """A store with a mistake in it, and one that is out of reach."""

    async def room(self, room: RoomName) -> RoomSnapshot:
        raise StoreUnavailable("disk /var/lib/secret is full") if room == "full" else LocalMisuse("secret")


async def test_a_fault_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async with standing(make=lambda config, clock: Faulty(clock)) as stand:
        answer = await stand.get("/v1/rooms/x", status=500)
        assert "secret" not in str(answer)
        assert "GET /v1/rooms/x failed" in caplog.text and "LocalMisuse" in caplog.text
        answer = await stand.client.get("/v1/rooms/x", headers={"Authorization": f"Bearer {stand.token(scope='read')}"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        answer = await stand.get("/v1/rooms/full", status=503)
        assert "secret" not in str(answer)


async def test_of_a_body_that_never_ends_no_more_is_taken_than_is_allowed(stand: Stand) -> None:
    chunk, taken, answers = b" " * 65_536, 0, []

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message: Any) -> None:
        answers.append(message)

    token = stand.token(scope="read").encode()
    headers = [(b"authorization", b"Bearer " + token), (b"content-type", b"application/json")]
    path = "/v1/users/query"
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    await stand.app(scope, receive, send)
    assert answers[0]["status"] == 413
    assert taken == BODY_BYTES + len(chunk)


async def test_a_slash_in_an_id_survives_a_real_server(stand: Stand) -> None:
    async with serving(stand.app, stand.node, stand.token(scope="read")) as site:
        answer = await site.client.get(f"{site.url}/v1/users/a%2Fb%3Fc")
        assert answer.json()["user"] == "a/b?c"


async def test_the_application_can_be_mounted_in_another(stand: Stand) -> None:
    outer = Starlette(routes=[Mount("/presence", stand.app)])
    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        headers = {"Authorization": f"Bearer {stand.token(scope='read')}"}
        answer = await client.get("/presence/v1/users/a%2Fb", headers=headers)
        assert answer.json()["user"] == "a/b"
        assert (await client.get("/presence/openapi.json")).json()["servers"] == [{"url": "/presence"}]
        assert (await client.get("/presence/")).headers["location"] == "/presence/docs"
        assert (await client.get("/presence/nope")).status_code == 404


async def test_the_lifespan_neither_starts_nor_stops_the_node(stand: Stand) -> None:
    async with serving(stand.app, stand.node, stand.token()):
        pass
    assert stand.node.ready is None


# -- the document ---------------------------------------------------------------------------------------------------

DOCS = Path(__file__).parents[3] / "docs" / "api.md"

OPERATIONS = [
    operation
    for module in (users, rooms, events, nodes, stats, service, development)
    for operation in module.OPERATIONS
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: f"{o.method} {o.path}")
def test_every_operation_is_told_whole(operation: Any) -> None:
    assert operation.summary and operation.tag and operation.answer.description
    assert {s[1:-1] for s in operation.segments if s.startswith("{")} == set(operation.parameters)
    if operation.body is not None:
        assert msgspec.convert(msgspec.to_builtins(operation.body_example), operation.body) == operation.body_example
    if operation.answer.type is not None and operation.answer.media == "application/json" and operation.answer.example:
        encoded = msgspec.json.encode(operation.answer.example)
        assert msgspec.json.decode(encoded, type=operation.answer.type) == operation.answer.example


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: f"{o.method} {o.path}")
def test_every_operation_is_in_the_docs(operation: Any) -> None:
    assert f"| `{operation.method} {operation.path}`" in DOCS.read_text(encoding="utf-8")


async def test_every_call_of_the_document_is_there_and_says_who_may(stand: Stand) -> None:
    document = (await stand.client.get("/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    identifiers = []
    for path, methods in document["paths"].items():
        for operation in methods.values():
            identifiers.append(operation["operationId"])
            assert bool(operation["security"]) is path.startswith("/v1/")
            assert {"421"} <= set(operation["responses"])
    assert len(set(identifiers)) == len(identifiers)
    assert not set(_references(document)) - {
        f"#/components/{kind}/{name}" for kind, named in document["components"].items() for name in named
    }


def _references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for value in part.values() for found in _references(value)]
    return [found for value in part for found in _references(value)] if isinstance(part, list) else []
