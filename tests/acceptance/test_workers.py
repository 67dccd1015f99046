"""Several workers behind one port: one installation, whichever of them is spoken to, killed or told to go."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.raw import Closed, HandshakeRefused, Raw
from tests.acceptance.server import ServerProcess, environment
from tests.acceptance.watching import Watcher, enter, wait_until
from tests.contract.redis_servers import free_port, running, servers

CLIENTS = 200
LEASE, LOST = 2000, 4000
"""How long a killed worker counts as alive, and the window after that, in milliseconds."""


@pytest.fixture(scope="module")
def redis() -> Iterator[int]:
    with running(servers()["redis"]) as port:
        yield port


def workers(redis: int, number: int = 2, **settings: object) -> ServerProcess:
    given = {
        "server.workers": number,
        "store.url": f"redis://127.0.0.1:{redis}/0",
        "cluster.lease_ms": LEASE,
        "cluster.beat_ms": 500,
        "grace.node_lost": LOST,
        "heartbeat.interval_ms": 600_000,  # clients here do not read all the time
        **settings,
    }
    return ServerProcess(given)


def pids(server: ServerProcess) -> dict[str, int]:
    """The workers that were started last."""
    return {line["worker"]: line["pid"] for line in server.log("worker_started")}


def alive(pid: int) -> bool:
    """Whether there is such a process, dead ones that nobody has asked for left out."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def node_of(client: Raw) -> str:
    return str(client.seen[0]["node"])


def test_two_workers_share_the_connections_of_a_port_and_show_the_same_people(redis: int) -> None:
    with workers(redis) as server:
        server.wait_log("workers_ready", timeout=20)
        clients = [enter(server, f"share{n}", "t") for n in range(CLIENTS)]
        shares = Counter(map(node_of, clients))
        assert set(shares) == {"n1-1", "n1-2"}
        assert min(shares.values()) > CLIENTS / 10
        watching = next(client for client in clients if node_of(client) == "n1-1")
        users = [f"share{n}" for n in range(CLIENTS)]
        told = watching.ask({"type": "watch", "id": 1, "users": users}, "snapshot")["users"]
        assert {one["status"] for one in told} == {"online"}
        of_two = next(n for n, client in enumerate(clients) if node_of(client) == "n1-2")
        clients[of_two].send({"type": "bye"})
        (gone,) = watching.expect("presence")["changes"]
        assert (gone["user"], gone["status"]) == (f"share{of_two}", "offline")
        wait_until(lambda: sum(node["connections"] for node in server.get("/v1/nodes")[1]["nodes"]) == CLIENTS - 1)
        assert [node["node"] for node in server.get("/v1/nodes")[1]["nodes"]] == ["n1-1", "n1-2"]
        for client in clients:
            client.tcp.close()


def test_a_killed_worker_comes_back_and_nobody_who_reconnects_is_shown_offline(redis: int) -> None:
    users = [f"kill{n}" for n in range(30)]
    with workers(redis) as server:
        server.wait_log("workers_ready", timeout=20)
        pages = {user: enter(server, user, "t") for user in users}
        before = pids(server)
        with Watcher(lambda: enter_on(server, "n1-2", "watching"), users) as watcher:
            os.kill(before["n1-1"], signal.SIGKILL)
            gone, *lost = [user for user, page in pages.items() if node_of(page) == "n1-1"]
            for user in (gone, *lost):
                assert pages[user].closed().code == 1006
            for user in lost:
                pages[user] = reconnect(server, user)
            wait_until(lambda: len(server.log("serving")) == 3, what="the worker that was killed")
            assert pids(server)["n1-1"] != before["n1-1"] and pids(server)["n1-2"] == before["n1-2"]
            assert server.log("worker_ended")[0]["status"] == -signal.SIGKILL
            # the lease and the window of one who does not come back are those of all who were there
            watcher.wait_for(gone, "offline", 30)
            for user in set(users) - {gone}:
                assert [shown.status for shown in watcher.history(user)] == ["online"], user
            server.wait_log("PRESENCE_OFFLINE", user=gone, timeout=20)  # a watcher may hear of it before the log has it
            assert {line["user"] for line in server.log("PRESENCE_OFFLINE")} & set(users) == {gone}
            for _ in range(20):  # and the new one takes its share
                enter_on(server, "n1-1", "somebody").tcp.close()
        for page in pages.values():
            page.tcp.close()


def enter_on(server: ServerProcess, node: str, user: str) -> Raw:
    """A connection that the kernel gave to this worker; one of the same tab ends the others."""
    for _ in range(100):
        client = enter(server, user, user)
        if node_of(client) == node:
            return client
        client.tcp.close()
    raise AssertionError(f"the kernel gave {node} none of a hundred connections")


def reconnect(server: ServerProcess, user: str) -> Raw:
    """As a client does it: what waited in the queue of the dead is reset, and tried again."""

    def tried() -> Raw | None:
        try:
            return enter(server, user, "t")
        except (HandshakeRefused, Closed, OSError):
            return None

    return wait_until(tried, what=f"{user} back")


def test_a_worker_that_is_told_to_go_moves_its_people_away_and_another_takes_its_place(redis: int) -> None:
    with workers(redis) as server:
        server.wait_log("workers_ready", timeout=20)
        before = pids(server)
        moved = enter_on(server, "n1-1", "moved")
        stays = enter_on(server, "n1-2", "stays")
        os.kill(before["n1-1"], signal.SIGTERM)
        moved.expect("moving")
        assert moved.closed().code == 1012
        moved.tcp.close()
        wait_until(lambda: len(server.log("serving")) == 3, what="the next worker")
        assert server.log("worker_ended")[0]["status"] == 0
        stays.round_trip()
        stays.tcp.close()
        enter_on(server, "n1-1", "moved").tcp.close()


def test_sigterm_drains_every_worker_and_ends_all_with_status_0(redis: int) -> None:
    with workers(redis, 3) as server:
        server.wait_log("workers_ready", timeout=20)
        pages = [Watcher(lambda n=n: enter(server, f"term{n}", "t")) for n in range(40)]  # type: ignore[misc]
        of_all = pids(server)
        # a service manager tells every process of a service, and the parent tells its workers once more
        server.signal(signal.SIGTERM)
        for pid in of_all.values():
            os.kill(pid, signal.SIGTERM)
        assert server.wait(30) == 0
        assert [page for page in pages if wait_until(lambda page=page: page.end).code != 1012] == []  # type: ignore[misc]
        assert len(server.log("node_drained")) == 3
        assert sum(line["connections"] for line in server.log("node_drained")) == 40
        # the store is that of the tests before, whose people may go meanwhile
        assert [line for line in server.log("PRESENCE_OFFLINE") if line["user"].startswith("term")] == []
        assert [pid for pid in of_all.values() if alive(pid)] == []
        assert server.stderr == ""
        for page in pages:
            page.stop()


def test_a_second_signal_does_not_wait_for_the_drains(redis: int) -> None:
    with workers(redis, **{"server.drain_s": 600}) as server:
        server.wait_log("workers_ready", timeout=20)
        pages = [enter(server, f"second{n}") for n in range(10)]
        of_all = pids(server)
        server.signal(signal.SIGTERM)
        wait_until(lambda: len(server.log("draining")) == 2)
        server.signal(signal.SIGTERM)
        assert server.wait(60) == -signal.SIGTERM
        assert [pid for pid in of_all.values() if alive(pid)] == []
        for page in pages:
            page.tcp.close()


def test_workers_whose_parent_is_killed_drain_and_leave_no_orphan(redis: int) -> None:
    with workers(redis) as server:
        server.wait_log("workers_ready", timeout=20)
        page = enter(server, "orphan")
        of_all = pids(server)
        server.kill()
        page.expect("moving")
        assert page.closed().code == 1012
        page.tcp.close()
        wait_until(lambda: not any(map(alive, of_all.values())), 30, "the end of all workers")
        server.start()  # the port is free
        server.wait_log("workers_ready", timeout=20)


def serve(*flags: str) -> subprocess.CompletedProcess[str]:
    """``stillhere serve`` that is expected to end by itself."""
    environ = environment({"auth.secret": "s" * 48, "server.port": 0, "server.log_format": "json"})
    command = [sys.executable, "-m", "stillhere", "serve", *flags]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("url", ["memory:", "sqlite:///x.db"])
def test_workers_without_a_store_that_nodes_share_are_refused_in_a_sentence(url: str) -> None:
    ended = serve("--workers", "2", "--set", f"store.url={url}")
    assert ended.returncode == 2
    (sentence,) = ended.stderr.splitlines()
    assert f'server.workers is 2 (command line) and store.url is "{url}"' in sentence
    assert "redis://" in sentence and "server.workers to 1" in sentence
    assert ended.stdout == ""


def test_what_keeps_the_first_worker_from_starting_is_told_once_and_ends_the_start() -> None:
    ended = serve("--workers", "4", "--set", f"store.url=redis://127.0.0.1:{free_port()}/0")
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1 and "cannot be reached" in ended.stderr
    assert len(re.findall("worker_started", ended.stdout)) == 1


def test_a_second_start_on_the_port_is_refused_although_workers_could_share_it(redis: int) -> None:
    with workers(redis) as server:
        for flags in (("--workers", "2", "--set", f"store.url=redis://127.0.0.1:{redis}/0"), ()):
            ended = serve("--port", str(server.port), *flags)
            assert (ended.returncode, ended.stderr.count("is in use")) == (2, 1)
