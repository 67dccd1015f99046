"""One process, one port, and its stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stillhere.transport.message_layer import TEXT
from stillhere.transport.serve import CannotListen, PortInUse, Server, build_server, listen
from tests.unit.transport.peers import APP, OpenGate, RawClient, running


@pytest.mark.parametrize("websocket", ["native", "asgi"])
def test_http_and_websockets_share_the_port(websocket: Any) -> None:
    gate = OpenGate()
    with running(gate, websocket) as server:
        with RawClient(server.port) as client:
            client.open()
            gate.endpoint().expect(("open",))
            with RawClient(server.port) as browser:
                browser.sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                status, headers, body = browser.answer()
        assert (status, body) == (200, b"hello")
        assert "server" not in headers


def test_a_port_in_use_is_told_before_anything_starts() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse) as caught:
            build_server(APP, OpenGate(), port=port)
        assert (caught.value.host, caught.value.port) == ("127.0.0.1", port)
        assert f"127.0.0.1:{port}" in str(caught.value)
        assert "in use" in str(caught.value)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_told_with_its_reason(host: str) -> None:
    with pytest.raises(CannotListen, match=f"cannot listen on {host}:"):
        build_server(APP, OpenGate(), host=host, port=0)


def test_a_listening_socket_may_be_handed_over() -> None:
    with listen("127.0.0.1", 0) as sock:
        server = build_server(APP, OpenGate(), sock=sock)
        assert server.port == sock.getsockname()[1]
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        fd = sock.detach()
        server = build_server(APP, OpenGate(), fd=fd)
        assert server.port == port
        server._listener.close()


def test_a_server_listens_as_soon_as_it_is_built() -> None:
    server = build_server(APP, OpenGate(), port=0)
    with socket.create_connection(("127.0.0.1", server.port)):
        pass
    server._listener.close()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_crowd_at_the_door_is_let_in_many_at_a_time(loop: Any) -> None:
    """However long a turn of the loop takes, hundreds who come back at once must not wait for hundreds of turns."""
    crowd = 160
    gate, waiting, turns = OpenGate(), threading.Event(), 0
    with running(gate, "native", loop) as server, contextlib.ExitStack() as clients:
        inside = server.server.server_state.connections
        done = threading.Event()

        def turn() -> None:
            nonlocal turns
            turns += 1
            if len(inside) < crowd:
                asyncio.get_running_loop().call_soon(turn)
            else:
                done.set()

        def begin() -> None:
            assert waiting.wait(10)
            turn()

        server.server._loop.call_soon_threadsafe(begin)  # type: ignore[union-attr]
        for _ in range(crowd):
            clients.enter_context(RawClient(server.port)).sock.sendall(b"GET /ws")
        waiting.set()
        assert done.wait(10)
    assert turns <= crowd / 8 + 5


async def started(server: Server) -> None:
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)


async def test_the_drain_runs_before_anything_is_closed() -> None:
    drained = asyncio.Event()
    go_on = asyncio.Event()

    async def drain() -> None:
        drained.set()
        await go_on.wait()

    gate = OpenGate()
    server = build_server(APP, gate, port=0, on_stop=drain, stop_timeout=1)
    serving = asyncio.create_task(server.serve())
    await started(server)

    def talk() -> RawClient:
        client = RawClient(server.port).open()
        client.text("hi")
        return client

    client = await asyncio.to_thread(talk)
    server.stop()
    server.stop()
    await drained.wait()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b"200 OK" in await reader.read()
    writer.close()
    endpoint = gate.endpoint()
    endpoint.expect(("open",), ("text", b"hi"))
    assert endpoint.events.empty()
    go_on.set()
    await serving
    assert await asyncio.to_thread(client.received_close) == 1012
    client.sock.close()


async def test_a_drain_that_fails_does_not_keep_the_server_up() -> None:
    async def drain() -> None:
        raise ZeroDivisionError

    server = build_server(APP, OpenGate(), port=0, on_stop=drain, stop_timeout=1)
    serving = asyncio.create_task(server.serve())
    await started(server)
    server.stop()
    with pytest.raises(ZeroDivisionError):
        await serving


# In a process of its own, because signals are handled in the main thread only


class Process:
    """An echo server that drains for a while."""

    def __init__(self, websocket: str, drain: float) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.apps.echo", "--websocket", websocket, "--drain", str(drain)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self.popen.stdout is not None
        self.port = int(self.popen.stdout.readline())

    def ready(self) -> int:
        with RawClient(self.port) as client:
            client.sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
            return client.answer()[0]


@pytest.fixture(params=["native", "asgi"])
def slow_to_drain(request: pytest.FixtureRequest) -> Iterator[Process]:
    process = Process(request.param, 60.0)
    yield process
    process.popen.kill()
    process.popen.wait()


@pytest.mark.parametrize("websocket", ["native", "asgi"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_the_exit_status_is_0(websocket: str, number: signal.Signals) -> None:
    process = Process(websocket, 0.2)
    try:
        with RawClient(process.port) as client:
            client.open("/")
            process.popen.send_signal(number)
            assert client.received_close() == 1012
        assert process.popen.wait(10) == 0
    finally:
        process.popen.kill()
        process.popen.wait()


def test_while_it_drains_everything_is_still_served(slow_to_drain: Process) -> None:
    with RawClient(slow_to_drain.port) as client:
        client.open("/")
        assert slow_to_drain.ready() == 200
        slow_to_drain.popen.send_signal(signal.SIGTERM)
        while slow_to_drain.ready() != 503:
            pass
        client.text("still here")
        assert client.receive() == (TEXT, b"still here")
        assert slow_to_drain.popen.poll() is None


def test_a_second_signal_forces(slow_to_drain: Process) -> None:
    with RawClient(slow_to_drain.port) as client:
        client.open("/")
        slow_to_drain.popen.send_signal(signal.SIGTERM)
        while slow_to_drain.ready() != 503:
            pass
        slow_to_drain.popen.send_signal(signal.SIGTERM)
        assert slow_to_drain.popen.wait(5) == -signal.SIGTERM
