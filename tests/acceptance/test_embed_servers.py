"""The presence as a plain ASGI application, under servers that know nothing of it, with a cookie as log-in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

import pytest

from tests.acceptance.hosting import SERVERS, AsgiServer, Host
from tests.acceptance.raw import CLOSE, HandshakeRefused, Raw, close_payload

KEY = {"X-API-Key": "a key for the tests of embedding, long"}


@pytest.fixture(scope="module", params=SERVERS)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with Host("tests.acceptance.apps.embedded:plain", cast(AsgiServer, request.param)) as host:
        yield host


def watching(client: Raw, user: str) -> str:
    """Watch a user; returns the status at the beginning."""
    users = client.ask({"type": "watch", "id": 1, "users": [user]}, "snapshot")["users"]
    assert isinstance(users[0]["status"], str)
    return str(users[0]["status"])


def changes(client: Raw, user: str) -> list[str]:
    """The statuses of a user that were told so far."""
    client.round_trip()
    told = [change for message in client.seen if message["type"] == "presence" for change in message["changes"]]
    return [change["status"] for change in told if change["user"] == user]


def test_a_reload_shows_nothing_and_a_log_out_shows_at_once(host: Host) -> None:
    with host.client("/ws", {"who": "bob"}) as bob:
        alice = host.client("/ws", {"who": "alice"}, tab="t1")
        assert watching(bob, "alice") == "online"
        alice.frame(CLOSE, close_payload(1001))
        alice.tcp.close()
        with host.client("/ws", {"who": "alice"}, tab="t1") as alice:
            assert changes(bob, "alice") == []
            alice.send({"type": "bye"})
            assert bob.expect("presence")["changes"][0]["status"] == "offline"


def test_who_is_not_logged_in_is_refused_before_the_upgrade(host: Host) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        host.client("/ws", {"who": "nobody"})
    assert refused.value.status == 401
    if "content-length" in refused.value.headers:  # Hypercorn sends it in chunks, which this client does not join
        assert "log in" in refused.value.problem["detail"]


def test_a_page_of_another_site_is_refused_although_the_cookie_goes_along(host: Host) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        host.client("/ws", {"who": "alice"}, origin="https://evil.example")
    assert refused.value.status == 403


def test_a_cookie_without_an_origin_is_refused_since_no_browser_sends_that(host: Host) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        host.client("/ws", {"who": "alice"}, origin=None)
    assert refused.value.status == 403


def test_a_log_in_that_hangs_is_503_after_the_time_of_a_handshake(host: Host) -> None:
    begin = time.monotonic()
    with pytest.raises(HandshakeRefused) as refused:
        host.client("/ws", {"who": "hanging"})
    assert refused.value.status == 503
    assert 0.9 < time.monotonic() - begin < 10
    with host.client("/ws", {"who": "carol"}):
        pass


def test_a_log_in_that_fails_is_500_and_only_the_log_says_why(host: Host) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        host.client("/ws", {"who": "broken"})
    assert refused.value.status == 500
    assert b"swordfish" not in refused.value.body
    assert host.said().count("RuntimeError: the password of the database is swordfish") == 1


def test_a_kick_arrives_at_once_with_its_code(host: Host) -> None:
    with host.client("/ws", {"who": "erin"}) as erin:
        begin = time.monotonic()
        body = b'{"reason":"enough"}'
        assert host.get("/v1/users/erin/disconnect", {**KEY, "Content-Type": "application/json"}, body)[0] == 200
        ended = erin.closed()
        assert (ended.code, ended.reason) == (4004, "enough")
        assert time.monotonic() - begin < 4, "sooner than the close_timeout of 5 s"


def test_the_http_api_is_beside_the_socket(host: Host) -> None:
    with host.client("/ws", {"who": "dave"}):
        status, shown = host.get("/v1/users/dave", KEY)
        assert (status, shown["status"]) == (200, "online")
    assert host.get("/v1/users/dave")[0] == 401


@pytest.mark.parametrize("server", SERVERS)
def test_a_restart_of_the_server_takes_nobody_offline(server: AsgiServer) -> None:
    with Host("tests.acceptance.apps.embedded:plain", server) as host:
        with host.client("/ws", {"who": "alice"}, tab="t1"):
            host.stop()
        host.start()
        with host.client("/ws", {"who": "bob"}) as bob:
            assert watching(bob, "alice") == "online"
