"""Two workers of one application on a real Redis: each has its presence inside, and both see the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.hosting import Host
from tests.acceptance.raw import CLOSE, close_payload
from tests.contract.redis_servers import running, servers

APPLICATION = "tests.acceptance.apps.embedded:mounted"
PATIENCE = 10.0


@pytest.fixture
def workers() -> Iterator[tuple[Host, Host]]:
    with running(servers()["redis"]) as port:
        environ = {"PRESENCE_STORE": f"redis://127.0.0.1:{port}/0"}
        with Host(APPLICATION, environ=environ) as one, Host(APPLICATION, environ=environ) as other:
            yield one, other


def until(look: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


def test_a_user_on_one_worker_is_seen_asked_for_and_kicked_on_the_other(workers: tuple[Host, Host]) -> None:
    one, other = workers
    with one.client("/presence/ws", {"who": "bob"}) as bob:
        alice = other.client("/presence/ws", {"who": "alice"}, tab="t")
        until(lambda: one.get("/status/alice")[1] == "online")
        shown = bob.ask({"type": "watch", "id": 1, "users": ["alice"]}, "snapshot")["users"]
        assert shown[0]["status"] == "online"
        alice.frame(CLOSE, close_payload(1001))
        alice.tcp.close()
        with one.client("/presence/ws", {"who": "alice"}, tab="t") as alice:  # the balancer sends it elsewhere
            bob.round_trip()
            assert not [message for message in bob.seen if message["type"] == "presence"]
            assert other.get("/disconnect/alice", body=b"")[1] == 1
            assert alice.closed().code == 4004
        assert bob.expect("presence")["changes"][0]["status"] == "offline"
    for worker in workers:
        until(lambda worker=worker: ["alice", "offline"] in worker.get("/told")[1])  # type: ignore[misc]
        about_alice = [status for user, status in worker.get("/told")[1] if user == "alice"]
        assert about_alice == ["online", "offline"], "a reload is no transition, on whichever worker"
