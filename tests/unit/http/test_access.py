"""Who may call what, and how everybody else is turned away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import httpx
import pytest

from stillhere.http.app import DevMode
from stillhere.server.auth import Authenticator, Identity, KeysUnavailable
from stillhere.server.secrets import Secret
from tests.unit.http.stand import API_KEY, SECRET, Stand, make_token, standing

READS = [
    ("GET", "/v1/users"),
    ("GET", "/v1/users/alice"),
    ("POST", "/v1/users/query"),
    ("GET", "/v1/users/alice/diagnostics"),
    ("GET", "/v1/rooms"),
    ("GET", "/v1/rooms/lobby"),
    ("GET", "/v1/nodes"),
    ("GET", "/v1/stats"),
    ("GET", "/v1/settings"),
    ("GET", "/v1/policy/replay"),
    ("HEAD", "/v1/events"),
]
WRITES = [("POST", "/v1/users/alice/disconnect"), ("POST", "/v1/nodes/n1/drain")]


async def call(stand: Stand, method: str, path: str, **headers: str) -> httpx.Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    content = b'{"users":[]}' if path.endswith("query") else None
    if content:
        given["Content-Type"] = "application/json"
    return await stand.client.request(method, path, headers=given, content=content)


@pytest.mark.parametrize(("method", "path"), READS + WRITES)
async def test_without_credentials_nothing_is_told_or_done(stand: Stand, method: str, path: str) -> None:
    answer = await call(stand, method, path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    assert not stand.node.draining


@pytest.mark.parametrize(("method", "path"), READS)
@pytest.mark.parametrize("scope", ["read", "admin", "other read"])
async def test_a_token_with_a_scope_may_read(stand: Stand, method: str, path: str, scope: str) -> None:
    answer = await call(stand, method, path, Authorization=f"bearer  {stand.token(scope=scope)}")
    assert answer.status_code == 200


@pytest.mark.parametrize(("method", "path"), READS + WRITES)
async def test_a_token_without_a_scope_is_forbidden(stand: Stand, method: str, path: str) -> None:
    answer = await call(stand, method, path, Authorization=f"Bearer {stand.token(watch='*')}")
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_a_reader_may_change_nothing(stand: Stand, method: str, path: str) -> None:
    wire = await stand.connect("alice")
    answer = await call(stand, method, path, Authorization=f"Bearer {stand.token(scope='read')}")
    assert (answer.status_code, answer.json()["detail"]) == (403, "the token does not have the scope admin")
    assert wire.closed is None and not stand.node.draining


@pytest.mark.parametrize(("method", "path"), READS + WRITES[:1])
async def test_an_api_key_may_do_everything(stand: Stand, method: str, path: str) -> None:
    assert (await call(stand, method, path, X_API_Key=API_KEY)).status_code == 200


@pytest.mark.parametrize("key", ["", "x", API_KEY[:-1], API_KEY + "x", "ü"])
async def test_a_wrong_api_key_is_refused_even_beside_a_good_token(stand: Stand, key: str) -> None:
    headers = [(b"x-api-key", key.encode()), (b"authorization", f"Bearer {stand.token(scope='admin')}".encode())]
    answer = await stand.client.get("/v1/users", headers=headers)
    assert answer.status_code == 401
    assert key not in answer.text or not key


@pytest.mark.parametrize(
    ("token", "complaint"),
    [
        ("nonsense", "three parts of base64url"),
        ("", "needs credentials"),
        (make_token("x", 1_790_000_000, scope="admin", ttl=-10), "the token expired 10 s ago"),
        (make_token("x", 1_790_000_000, scope="admin")[:-6] + "AAAAAA", "signature does not verify"),
    ],
)
async def test_a_bad_token_is_refused_and_told_why(stand: Stand, token: str, complaint: str) -> None:
    answer = await call(stand, "GET", "/v1/users", Authorization=f"Bearer {token}")
    assert (answer.status_code, complaint in answer.json()["detail"]) == (401, True), answer.text
    assert not token or token not in answer.text


async def test_other_schemes_are_no_credentials(stand: Stand) -> None:
    assert (await call(stand, "GET", "/v1/users", Authorization="Basic YTpi")).status_code == 401


class Slow(Authenticator):
    """Has to fetch its keys first."""

    def verify(self, token: str | bytes, now: float) -> Awaitable[Identity]:
        async def later() -> Identity:
            await asyncio.sleep(0)
            if token == "none":
                raise KeysUnavailable("the token cannot be verified now: no answer")
            found = super(Slow, self).verify(token, now)
            assert isinstance(found, Identity)
            return found

        return later()


async def test_keys_that_have_to_be_fetched_are_waited_for(stand: Stand) -> None:
    stand.node.authenticator = Slow(secret=Secret(SECRET))
    assert (
        await call(stand, "GET", "/v1/users", Authorization=f"Bearer {stand.token(scope='read')}")
    ).status_code == 200
    expired = stand.token(scope="read", ttl=-10)
    assert (await call(stand, "GET", "/v1/users", Authorization=f"Bearer {expired}")).status_code == 401
    answer = await call(stand, "GET", "/v1/users", Authorization="Bearer none")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


# -- the development server ------------------------------------------------------------------------------------------


async def test_on_the_development_server_anybody_logs_in_as_anybody() -> None:
    async with standing(dev=DevMode(Secret(SECRET))) as stand:
        answer = await stand.client.post("/dev/token", json={"user": "alice"}, headers={"Origin": "http://localhost"})
        assert answer.status_code == 200
        assert answer.json()["expiresAt"] == round((stand.clock.now + 3600) * 1000)
        identity = stand.node.authenticator.verify(answer.json()["token"], stand.clock.now)
        assert isinstance(identity, Identity)
        assert identity.user == "alice" and identity.scopes == frozenset({"admin"})
        assert identity.session is not None
        assert identity.watch.allows("bob") and identity.rooms.allows("lobby")
        assert "/dev/token" in (await stand.client.get("/openapi.json")).json()["paths"]


async def test_on_the_development_server_a_connection_can_be_dropped() -> None:
    async with standing(dev=DevMode(Secret(SECRET))) as stand:
        wire = await stand.connect("alice")
        for id, dropped in ((wire.id, True), ("c_nobody", False)):
            answer = await stand.client.post("/dev/drop", json={"connectionId": id})
            assert (answer.status_code, answer.json()) == (200, {"dropped": dropped})
        assert wire.aborted


@pytest.mark.parametrize(
    ("remote", "headers", "status"),
    [
        ("192.0.2.7", {}, 403),
        ("::1", {}, 200),
        ("::ffff:127.0.0.1", {}, 200),
        ("::ffff:192.0.2.7", {}, 403),
        ("127.0.0.1", {"Host": "evil.example"}, 421),
        ("127.0.0.1", {"Host": "localhost:7400", "Origin": "https://evil.example"}, 403),
        ("127.0.0.1", {"Host": "localhost:7400", "Origin": "null"}, 403),
        ("127.0.0.1", {"Host": "127.0.0.1:7400", "Origin": "http://127.0.0.1:7400"}, 200),
    ],
)
@pytest.mark.parametrize(("path", "body"), [("/dev/token", {"user": "a"}), ("/dev/drop", {"connectionId": "c"})])
async def test_development_calls_are_for_this_machine_only(
    remote: str, headers: dict[str, str], status: int, path: str, body: dict[str, str]
) -> None:
    async with standing(dev=DevMode(Secret(SECRET))) as stand:
        transport = httpx.ASGITransport(stand.app, client=(remote, 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.post(path, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        assert "token" not in answer.json() or status == 200


async def test_a_bad_name_is_no_login() -> None:
    async with standing(dev=DevMode(Secret(SECRET))) as stand:
        for user in ("", "a\x00", "x" * 257):
            assert (await stand.client.post("/dev/token", json={"user": user})).status_code == 400


@pytest.mark.parametrize("path", ["/dev/token", "/dev/drop"])
async def test_elsewhere_there_are_no_development_calls(stand: Stand, path: str) -> None:
    assert (await stand.client.post(path, json={"user": "alice"})).status_code == 404
    assert path not in (await stand.client.get("/openapi.json")).json()["paths"]
