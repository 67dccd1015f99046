"""The command line, over real processes: starting, stopping, refusing, and asking a running server."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.acceptance.server import TRANSPORTS, ServerProcess, Transport, environment

FILTER = re.compile(
    r"active_socket_closed|PRESENCE_(ONLINE|OFFLINE)|connection_established|ws_closed|user_reconnected|user_disconnected"
)
SQLITE = {"store.url": "sqlite:///presence.db"}


def stillhere(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "stillhere", *arguments],
        env={**environment(), **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def asking(server: ServerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that asks this server."""
    return stillhere(*arguments, STILLHERE_URL=server.url, STILLHERE_API_KEY=server.api_key)


async def log_in(server: ServerProcess, user: str, *, tab: str = "") -> ClientConnection:
    """Connect a user and read the welcome."""
    headers = {"Authorization": f"Bearer {server.token(user)}"}
    client = await connect(
        f"{server.ws_url}?tab={tab}" if tab else server.ws_url, additional_headers=headers, proxy=None
    )
    assert (await read(client))["type"] == "welcome"
    return client


async def read(client: ClientConnection) -> dict[str, Any]:
    message = json.loads(await asyncio.wait_for(client.recv(), 10))
    assert isinstance(message, dict)
    return message


async def closed(client: ClientConnection) -> int | None:
    """Read to the end; the close code."""
    try:
        while True:
            await read(client)
    except ConnectionClosed as end:
        return end.rcvd.code if end.rcvd else None


# -- start and stop -------------------------------------------------------------------------------------


@pytest.mark.parametrize("websocket", TRANSPORTS)
async def test_a_signal_moves_clients_away_while_readyz_says_so_and_ends_with_0(websocket: Transport) -> None:
    with ServerProcess({"server.drain_s": 1.5}, websocket=websocket) as server:
        (serving,) = server.log("serving")
        assert serving["docs"] == f"{server.url}/docs" and serving["store"] == "memory:" and serving["node"] == "n1"
        client = await log_in(server, "alice")
        server.signal(signal.SIGTERM)
        moving = await read(client)
        assert moving["type"] == "moving" and 0 <= moving["reconnectInMs"] < 10_000
        status, _ = await asyncio.to_thread(server.get, "/readyz")
        assert status == 503
        assert await closed(client) == 1012
        assert await asyncio.to_thread(server.wait) == 0
        assert [line["event"] for line in server.log()][-2:] == ["node_drained", "stopped"]
        assert server.log("active_socket_closed", cause="node_drain", code=1012)
        assert server.stderr == ""


async def test_a_second_signal_ends_a_drain_at_once() -> None:
    with ServerProcess({"server.drain_s": 60}) as server:
        client = await log_in(server, "alice")
        server.signal(signal.SIGTERM)
        assert (await read(client))["type"] == "moving"
        begin = time.monotonic()
        server.signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.wait) == -signal.SIGTERM
        assert time.monotonic() - begin < 5
        await client.close()


async def test_ctrl_c_is_a_signal_like_the_other_and_a_second_one_forces() -> None:
    with ServerProcess() as server:
        server.signal(signal.SIGINT)
        assert server.wait() == 0
    with ServerProcess({"server.drain_s": 60}) as server:
        client = await log_in(server, "alice")
        server.signal(signal.SIGINT)
        assert (await read(client))["type"] == "moving"
        server.signal(signal.SIGINT)
        assert await asyncio.to_thread(server.wait) == 130
        assert "Traceback" not in server.stdout + server.stderr


async def test_a_reader_of_events_does_not_hold_up_the_end() -> None:
    with ServerProcess() as server, following(server) as lines:
        server.post("/v1/users/query", {"users": []})
        begin = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - begin < 4
        assert lines is not None


def test_a_service_manager_hears_of_ready_alive_and_stopping(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(10)
        with ServerProcess(environ={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"}) as server:
            assert [manager.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            server.signal(signal.SIGTERM)
            while (state := manager.recv(100)) == b"WATCHDOG=1":
                pass
            assert state == b"STOPPING=1"
            assert server.wait() == 0


# -- refusals -------------------------------------------------------------------------------------------


async def test_a_second_start_by_mistake_disturbs_nothing() -> None:
    with ServerProcess(SQLITE) as server:
        client = await log_in(server, "alice")
        again = subprocess.run(
            [sys.executable, "-m", "stillhere", "serve", "--port", str(server.port)],
            env=environment({**SQLITE, "auth.secret": server.secret}),
            cwd=server.directory,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert again.returncode == 2 and again.stdout == ""
        assert f"port {server.port} of 127.0.0.1 is in use" in again.stderr and "--port" in again.stderr
        assert server.get("/v1/users/alice")[1]["status"] == "online"
        await client.close()


def test_wrong_settings_end_with_2_and_all_of_them_are_named() -> None:
    told = stillhere("serve", STILLHERE_SERVER__PORT="x", STILLHERE_GRACE__BYE="5", STILLHERE_SERVR__HOST="h")
    assert told.returncode == 2 and told.stdout == ""
    assert len(told.stderr.splitlines()) == 3
    for part in ('server.port is "x" (STILLHERE_SERVER__PORT)', "grace.bye", "servr.host"):
        assert part in told.stderr


def test_a_store_that_another_node_uses_ends_with_2_and_a_sentence() -> None:
    with ServerProcess(SQLITE) as server:
        again = subprocess.run(
            [sys.executable, "-m", "stillhere", "serve", "--port", "0"],
            env=environment({**SQLITE, "auth.secret": server.secret}),
            cwd=server.directory,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert again.returncode == 2 and again.stderr.startswith("stillhere: ") and "Traceback" not in again.stderr


def test_the_development_server_is_for_this_machine_only() -> None:
    told = stillhere("dev", "--host", "0.0.0.0")
    assert told.returncode == 2 and "0.0.0.0" in told.stderr and "loopback" in told.stderr


@pytest.mark.parametrize("command", ["who", "tail"])
def test_where_no_server_answers_the_sentence_says_how_to_get_one(command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    told = stillhere(command, "--url", url)
    assert told.returncode == 1 and told.stdout == ""
    assert f"no server answers at {url}" in told.stderr and "stillhere dev" in told.stderr


# -- asking a server ------------------------------------------------------------------------------------


async def test_a_token_from_the_command_line_opens_a_connection_and_who_shows_it() -> None:
    with ServerProcess() as server:
        made = stillhere("token", "--sub", "al\u202eice", "--watch", "*", STILLHERE_AUTH__SECRET=server.secret)
        assert made.returncode == 0
        headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
        async with connect(server.ws_url, additional_headers=headers, proxy=None) as client:
            assert (await read(client))["user"] == "al\u202eice"
            table = await asyncio.to_thread(asking, server, "who")
            assert re.search(r"^al\\u202eice +online", table.stdout, re.MULTILINE)
            told = await asyncio.to_thread(asking, server, "who", "al\u202eice", "bob", "--json")
            answer = json.loads(told.stdout)
        assert {user["user"]: user["status"] for user in answer["users"]} == {"al\u202eice": "online", "bob": "offline"}
        assert answer["complete"] is True
        refused = stillhere("who", "--url", server.url)
        assert refused.returncode == 1 and "--api-key" in refused.stderr


async def test_at_a_development_server_no_key_is_needed() -> None:
    with ServerProcess({"grace.client_close": 0}, dev=True) as server:
        client = await log_in(server, "alice")
        told = await asyncio.to_thread(stillhere, "who", "--url", server.url)
        assert told.returncode == 0 and re.search(r"^alice +online", told.stdout, re.MULTILINE)
        await client.close()
        told = await asyncio.to_thread(stillhere, "who", "--url", server.url)
        assert told.stdout == "nobody is online\n"
        assert server.terminate() == 0


@pytest.mark.parametrize("crash", [False, True])
async def test_a_restart_on_sqlite_keeps_who_was_online_and_tail_misses_nothing(crash: bool) -> None:
    with ServerProcess(SQLITE) as server, following(server, "--json") as lines:
        client = await log_in(server, "alice", tab="a")
        await wait_until(lambda: changes(lines) == [("alice", "PRESENCE_ONLINE")])
        await asyncio.to_thread(server.restart, crash=crash)
        assert server.get("/v1/users/alice")[1]["status"] == "online"
        again = await log_in(server, "alice", tab="a")
        await log_in(server, "bob")
        await wait_until(lambda: len(changes(lines)) >= 2)
        assert changes(lines) == [("alice", "PRESENCE_ONLINE"), ("bob", "PRESENCE_ONLINE")]
        assert not server.log("PRESENCE_OFFLINE")
        await again.close()
        await client.close()


async def test_tail_follows_one_user() -> None:
    with ServerProcess({"grace.client_close": 0}) as server, following(server, "bob") as lines:
        for user in ("alice", "bob"):
            client = await log_in(server, user)
            await client.close()
        await wait_until(lambda: len(lines) == 2)
        assert [line.split()[1:3] for line in lines] == [["bob", "PRESENCE_ONLINE"], ["bob", "PRESENCE_OFFLINE"]]
        assert "cause=client_close" in lines[1] and re.search(r"version=\d+$", lines[1])


@pytest.mark.parametrize("arguments", [("--since", "10m"), ("--last", "3")])
async def test_tail_tells_what_is_recorded_of_a_user_first_and_each_change_once(arguments: tuple[str, ...]) -> None:
    with ServerProcess({"grace.client_close": 0}) as server:
        for user in ("alice", "bob"):
            client = await log_in(server, user)
            await client.close()
        await asyncio.to_thread(server.wait_log, "PRESENCE_OFFLINE", user="bob")
        with following(server, "bob", "--json", *arguments) as lines:
            await wait_until(lambda: len(lines) >= 3)
            client = await log_in(server, "bob")
            await wait_until(lambda: '"event":"PRESENCE_ONLINE"' in lines[-1])
            await client.close()
        told = list(map(json.loads, lines))
    past = [entry["type"] for entry in told if entry["event"] == "timeline"]
    every = ["opened", "PRESENCE_ONLINE", "closed", "PRESENCE_OFFLINE"]
    told_of = [kind for kind in past if kind in every]
    # the closing of a connection is an item of its own where the store was told of it before the end
    assert told_of == (every if "--since" in arguments else every[-len(told_of) :]), past
    assert told_of[-2:] == every[-2:], past
    assert {entry["user"] for entry in told} == {"bob"}
    versions = [entry["version"] for entry in told if "version" in entry]
    assert versions == sorted(set(versions))


def test_the_bench_measures_a_server_of_its_own_and_ends_it() -> None:
    told = stillhere("bench", "-n", "5", "--changes", "5")
    assert told.returncode == 0, told.stderr
    assert re.search(r"^time to welcome +5 +[\d.]+ ms +[\d.]+ ms$", told.stdout, re.MULTILINE)
    assert re.search(r"^change to watcher +5 +[\d.]+ ms +[\d.]+ ms$", told.stdout, re.MULTILINE)


# -- the log --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "pretty"])
async def test_the_filter_of_the_protocol_finds_the_life_of_a_connection(form: str) -> None:
    with ServerProcess({"server.log_format": form, "grace.client_close": 0}) as server:
        client = await log_in(server, "alice")
        await client.close()
        await wait_until(lambda: "connection_cleanup" in server.stdout)
        assert server.terminate() == 0
        found = [match[0] for line in server.stdout.splitlines() if (match := FILTER.search(line))]
    assert sorted(found) == sorted(
        [
            "connection_established",
            "PRESENCE_ONLINE",
            "active_socket_closed",
            "user_disconnected",
            "PRESENCE_OFFLINE",
            "ws_closed",
        ]
    )


@pytest.mark.parametrize("websocket", TRANSPORTS)
async def test_no_token_secret_or_key_is_ever_told(websocket: Transport) -> None:
    settings = {"auth.allow_query_token": True, "server.log_level": "debug", "limits.connections_per_user": 1}
    with ServerProcess(settings, websocket=websocket) as server:
        shown: list[str] = [server.secret, server.api_key]

        def token(user: str, **claims: Any) -> str:
            made = server.token(user, **claims)
            # the head is the same for all tokens, and tells nothing
            shown.extend(made.split(".")[1:])
            return made

        async def attempt(made: str, where: str) -> None:
            headers: dict[str, str] = {"Authorization": f"Bearer {made}"} if where == "header" else {}
            protocols: Any = ["stillhere.v1", f"bearer.{made}"] if where == "subprotocol" else None
            url = f"{server.ws_url}?token={made}" if where == "query" else server.ws_url
            try:
                async with connect(url, additional_headers=headers, subprotocols=protocols, proxy=None) as client:
                    if where == "message":
                        await client.send(json.dumps({"type": "auth", "token": made}))
                    first = await read(client)
                    if first["type"] == "welcome":
                        await client.send(json.dumps({"type": "auth", "token": made, "id": 1}))
                        await read(client)
                        await client.send(json.dumps({"type": "auth", "token": made[:-3] + "AAA", "id": 2}))
                        await read(client)
            except (InvalidStatus, ConnectionClosed):
                pass

        for where in ("header", "subprotocol", "message", "query"):
            for made in (
                token(where),
                token(f"{where}-expired", ttl=-100),
                token("x" * 300),
                token(where)[:-4] + "AAAA",
                f"{token(where)}.more",
            ):
                await attempt(made, where)
        made = token("reader", scope="admin")
        wrong = "wrong-key-0123456789-0123456789-0123456789"
        shown += [wrong]
        for path in (
            f"/ws?token={made}",
            f"/nowhere?token={made}",
            "/v1/users/alice",
            "/v1/stats",
            f"/v1/users/{made}",
        ):
            for headers in ({"Authorization": f"Bearer {made}"}, {"X-API-Key": wrong}, {"X-API-Key": server.api_key}):
                server.call("GET", path, headers=headers)
        server.post("/v1/users/alice/disconnect", {"reason": 5})
        metrics = server.get("/metrics")[1] + json.dumps(server.get("/v1/stats")[1])
        assert "stillhere_connects_total" in metrics
        assert server.terminate() == 0
        let_in = {line["user"] for line in server.log("connection_established")}
        assert let_in == {"header", "subprotocol", "message", "query"}
        assert server.log("upgrade_refused") and server.log("auth_refused")
        told = server.stdout + server.stderr + metrics
    for secret in shown:
        assert secret not in told


# -- helpers --------------------------------------------------------------------------------------------


class following:  # noqa: N801 - reads as a verb where it is used
    """``stillhere tail`` in the background, once it has begun; gives its lines, which grow."""

    def __init__(self, server: ServerProcess, *arguments: str) -> None:
        self._server = server
        self._arguments = arguments
        self._lines: list[str] = []
        self._began = threading.Event()
        self._complaints: list[str] = []

    def __enter__(self) -> list[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stillhere", "tail", *self._arguments],
            env={**environment(), "STILLHERE_URL": self._server.url, "STILLHERE_API_KEY": self._server.api_key},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout, self._lines), daemon=True),
            threading.Thread(target=self._read, args=(self._process.stderr, self._complaints), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        if not self._began.wait(20):
            self.__exit__()
            raise AssertionError(f"tail did not begin: {self._complaints}")
        return self._lines

    def _read(self, pipe: IO[str], lines: list[str]) -> None:
        with pipe:
            for line in pipe:
                lines.append(line.rstrip("\n"))
                if line.startswith("stillhere: following"):
                    self._began.set()

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(5)


def changes(lines: list[str]) -> list[tuple[str, str]]:
    """Of ``tail --json``: who, and what; not what is said of the stream itself."""
    return [(told["user"], told["event"]) for told in map(json.loads, lines) if "user" in told]


async def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.02)
