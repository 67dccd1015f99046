"""Webhooks of real servers: an endpoint that fails in every way, a crash, a node that dies; nothing is left out."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.acceptance.server import ServerProcess, environment
from tests.contract.redis_servers import running
from tests.unit.webhooks.endpoint import SECRET, Behaviour, Endpoint, Request, answer, takes_all

FAST: dict[str, object] = {
    "delivery.loopback": True,
    "delivery.timeout_ms": 300,
    "cluster.lease_ms": 1000,
    "cluster.beat_ms": 200,
    "grace.client_close": 0,
    "grace.going_away": 0,
    "grace.node_lost": 0,
    "grace.node_drain": 0,
}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


def settings(endpoint: Endpoint, **more: object) -> dict[str, object]:
    hooks = [{"url": endpoint.url("/hook?key=canary-key"), "secret": SECRET}]
    return {**FAST, "webhooks": hooks, **{key.replace("__", "."): value for key, value in more.items()}}


def visit(server: ServerProcess, user: str) -> None:
    """Come and say goodbye: online, offline."""
    headers = {"Authorization": f"Bearer {server.token(user)}"}
    with connect(server.ws_url, additional_headers=headers, proxy=None) as client:
        client.recv(timeout=10)
        client.send('{"type":"bye"}')
        for _ in client:  # to the close with 1000
            pass


def users(requests: Sequence[Request]) -> dict[str, list[str]]:
    """Of each user the types, in the order in which they came first; a repetition has the id of the first."""
    seen: dict[str, None] = {}
    found: dict[str, list[str]] = {}
    for request in requests:
        if request.id not in seen:
            seen[request.id] = None
            found.setdefault(request.user, []).append(request.message["type"])
    return found


BOTH = ["presence.online", "presence.offline"]


def told(*names: str) -> Callable[[list[Request]], bool]:
    """All of these users came and went."""
    return lambda requests: all(users(requests).get(name) == BOTH for name in names)


def until(true: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)
    return found


def begun(server: ServerProcess) -> dict[str, Any]:
    """Wait until somebody delivers; the hook."""
    hook: dict[str, Any] = until(
        lambda: next((hook for hook in server.get("/v1/webhooks")[1]["webhooks"] if hook["node"]), None)
    )
    return hook


def cli(server: ServerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stillhere", "webhooks", *arguments],
        env={**environment(), "STILLHERE_URL": server.url, "STILLHERE_API_KEY": server.api_key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


FAILURES: dict[str, Behaviour] = {
    "answers 500": lambda _: answer(500),
    "hangs": lambda _: None,
    "redirects": lambda _: answer(307, "Location: /elsewhere"),
    "answers garbage": lambda _: b"\x00\x01\x02\r\n\r\n",
    "hangs up": lambda _: b"",
    "never ends its head": lambda _: b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
}


@pytest.mark.parametrize("failure", FAILURES)
def test_an_endpoint_that_fails_for_a_while_misses_nothing(endpoint: Endpoint, failure: str) -> None:
    with ServerProcess(settings(endpoint)) as server:
        begun(server)
        endpoint.behaviour = FAILURES[failure]
        visit(server, "ann")
        endpoint.wait(lambda requests: len(requests) >= 2)
        assert server.get("/healthz")[0] == 200
        endpoint.behaviour = takes_all
        visit(server, "bob")
        for request in endpoint.wait(told("ann", "bob"), 40):
            request.verify()
            assert request.path == "/hook?key=canary-key"
        assert "canary-key" not in server.stdout + server.stderr
        assert SECRET not in server.stdout + server.stderr


def test_a_hook_that_fails_slows_no_other(endpoint: Endpoint) -> None:
    with Endpoint(lambda _: None) as other:
        hooks = [{"url": each.url(), "secret": SECRET} for each in (other, endpoint)]
        with ServerProcess(settings(endpoint, webhooks=hooks)) as server:
            begun(server)
            visit(server, "ann")
            other.wait(lambda requests: len(requests) >= 1)
            for n in range(20):
                visit(server, f"u{n}")
            endpoint.wait(told("ann", *(f"u{n}" for n in range(20))), 10)


@pytest.mark.parametrize("crash", [False, True])
def test_after_a_restart_a_hook_goes_on_where_it_was(endpoint: Endpoint, crash: bool) -> None:
    with ServerProcess(settings(endpoint, store__url="sqlite:///presence.db")) as server:
        begun(server)
        visit(server, "ann")
        endpoint.wait(told("ann"))
        endpoint.behaviour = lambda _: answer(503)
        visit(server, "bob")
        server.restart(crash=crash)
        endpoint.behaviour = takes_all
        visit(server, "carol")
        requests = endpoint.wait(told("ann", "bob", "carol"))
        assert set(users(requests)) == {"ann", "bob", "carol"}, "and no gap"


def test_what_was_given_up_can_be_listed_and_replayed(endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: answer(503)
    with ServerProcess(settings(endpoint, delivery__give_up_ms=500, store__url="sqlite:///presence.db")) as server:
        hook = begun(server)["hook"]
        visit(server, "ann")
        until(lambda: server.get("/v1/webhooks")[1]["webhooks"][0]["deadLetters"] == 2, 40)
        listed = cli(server, "list")
        assert hook in listed.stdout and "canary-key" not in listed.stdout, listed
        assert "the endpoint answered 503" in listed.stdout
        server.restart(crash=True)
        letters = cli(server, "list", hook)
        assert letters.returncode == 0 and letters.stdout.count("ann") == 2, letters
        refused = cli(server, "test", hook)
        assert (refused.returncode, refused.stderr) == (1, "stillhere: not delivered: the endpoint answered 503\n")
        endpoint.behaviour = takes_all
        assert "the endpoint answered 204" in cli(server, "test", hook).stdout
        endpoint.requests.clear()
        assert cli(server, "replay", hook).stdout == "2 letters are sent again\n"
        endpoint.wait(told("ann"))
        until(lambda: "there are no dead letters" in cli(server, "list", hook).stdout)
        assert "no webhook 'wh_no'" in cli(server, "replay", "wh_no").stderr


def test_where_the_settings_do_not_say_so_this_machine_is_not_posted_to(endpoint: Endpoint) -> None:
    hooks = [{"url": f"https://localhost:{endpoint.port}/", "secret": SECRET}]
    with ServerProcess({"webhooks": hooks}) as server:
        hook = begun(server)["hook"]
        assert "a public address is needed" in cli(server, "test", hook).stderr
        assert endpoint.connections == 0
    plain = subprocess.run(
        [sys.executable, "-m", "stillhere", "config", "check"],
        env=environment({"auth.secret": "x" * 40, "webhooks": [{"url": endpoint.url(), "secret": SECRET}]}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert plain.returncode == 2 and "it must be an https URL" in plain.stderr


@pytest.mark.parametrize("ending", ["killed", "drained", "stalled"])
def test_when_the_node_that_delivers_goes_the_other_goes_on_from_the_mark(endpoint: Endpoint, ending: str) -> None:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis server on this machine")
    with running(program) as port:
        shared = settings(endpoint, store__url=f"redis://127.0.0.1:{port}/0")
        with (
            ServerProcess({**shared, "server.node": "n1"}) as first,
            ServerProcess({**shared, "server.node": "n2"}) as second,
        ):
            until(lambda: begun(second)["node"] == "n1")
            visit(second, "ann")
            endpoint.wait(told("ann"))
            endpoint.behaviour = lambda _: answer(503)
            visit(first, "bob")
            endpoint.wait(lambda requests: any(request.user == "bob" for request in requests))
            if ending == "killed":
                first.kill()
            elif ending == "drained":
                assert first.terminate() == 0
            else:
                first.pause()
            visit(second, "carol")
            endpoint.behaviour = takes_all
            requests = endpoint.wait(told("ann", "bob", "carol"), 40)
            until(lambda: begun(second)["node"] == "n2")
            visit(second, "dave")
            endpoint.wait(told("dave"))
            assert set(users(requests)) == {"ann", "bob", "carol"}, "and no gap"
            if ending == "stalled":
                first.resume()


def test_nodes_that_all_start_again_go_on_from_the_mark_in_redis(endpoint: Endpoint) -> None:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis server on this machine")
    with (
        running(program) as port,
        ServerProcess(settings(endpoint, store__url=f"redis://127.0.0.1:{port}/0")) as server,
    ):
        begun(server)
        visit(server, "ann")
        endpoint.wait(told("ann"))
        endpoint.behaviour = lambda _: answer(503)
        visit(server, "bob")
        endpoint.wait(lambda requests: any(request.user == "bob" for request in requests))
        server.restart(crash=True)
        endpoint.behaviour = takes_all
        visit(server, "carol")
        requests = endpoint.wait(told("ann", "bob", "carol"), 40)
        assert "" not in users(requests), "the log was read back to before the start: no gap"
