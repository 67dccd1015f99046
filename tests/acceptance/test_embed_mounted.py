"""The presence inside a Starlette application, which knows its users by a session of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.hosting import Host
from tests.acceptance.raw import HandshakeRefused


@pytest.fixture
def host() -> Iterator[Host]:
    with Host("tests.acceptance.apps.embedded:mounted") as host:
        yield host


def test_the_session_of_a_middleware_says_who_it_is(host: Host) -> None:
    with host.client("/presence/ws", {"who": "alice"}) as alice:
        assert alice.seen[0]["user"] == "alice"
    with pytest.raises(HandshakeRefused) as refused:
        host.client("/presence/ws")
    assert refused.value.status == 401


def test_to_watch_a_hundred_users_asks_a_hundred_questions_once(host: Host) -> None:
    users = [f"user-{n}" for n in range(99)] + ["boss"]
    with host.client("/presence/ws", {"who": "boss"}), host.client("/presence/ws", {"who": "alice"}) as alice:
        for id in (1, 2):
            shown = alice.ask({"type": "watch", "id": id, "users": users}, "snapshot")["users"]
            assert {one["user"]: one["status"] for one in shown} == dict.fromkeys(users, "offline")
        assert sorted(host.get("/asked")[1]) == sorted(users)


def test_the_application_ends_in_order_and_tells_its_clients(host: Host) -> None:
    with host.client("/presence/ws", {"who": "alice"}) as alice:
        assert host.stop() in (0, -15)
        assert alice.closed().code == 1012
    assert "Traceback" not in host.said()
