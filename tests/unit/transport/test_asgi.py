"""What is special to ASGI: servers that differ, and codes that must be read."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from stillhere.server.socket import Gate, Welcome
from stillhere.transport.asgi import ERROR_KEY, AsgiWebSocket, Message, read_disconnect
from stillhere.transport.head import problem
from stillhere.transport.message_layer import TEXT
from stillhere.transport.serve import listen
from tests.unit.transport.peers import PATIENCE, FunctionGate, OpenGate, RawClient, Recorder, frame, running

RESET = ConnectionResetError()


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"code": 1000, "reason": ""}, "frame=(1000, '')"),
        ({"code": 1001, "reason": None}, "frame=(1001, '')"),
        ({"code": 4900, "reason": "hidden"}, "frame=(4900, 'hidden')"),
        ({"code": 1005, "reason": ""}, "frame=(1005, '')"),
        ({"code": 1005}, "nothing"),
        ({"code": 1006}, "nothing"),
        ({"code": 1006, "reason": "gone"}, "nothing"),
        ({"code": 1012}, "nothing"),
        ({}, "nothing"),
        ({"code": 1002, "reason": "rsv"}, "violation=(1002, 'rsv')"),
        ({"code": 1007}, "violation=(1007, '')"),
        ({"code": 1008, "reason": "flood"}, "violation=(1008, 'flood')"),
        ({"code": 1009, "reason": "big"}, "violation=(1009, 'big')"),
        ({"code": 1011, "reason": "keepalive ping timeout"}, "error=TimeoutError('keepalive ping timeout')"),
        ({"code": 1006, ERROR_KEY: RESET}, "error=ConnectionResetError()"),
    ],
    ids=str,
)
def test_a_disconnect_is_read(event: Message, expected: str) -> None:
    end = read_disconnect(event)
    said = [f"{name}={getattr(end, name)!r}" for name in ("frame", "violation", "error")]
    told = [part for part in said if not part.endswith("=None")]
    assert told == ([] if expected == "nothing" else [expected])
    assert expected == "nothing" or expected in repr(end)


@contextmanager
def plain_uvicorn(gate: Gate, ws: Any) -> Iterator[int]:
    """uvicorn as others run it, with nothing of ours but the application."""
    app = AsgiWebSocket(gate, max_message_bytes=1000)
    sock = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app, ws=ws, lifespan="off", log_level="critical", timeout_graceful_shutdown=1, ws_max_size=2000
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.005)
    try:
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.parametrize("ws", ["websockets-sansio"])
def test_plain_uvicorn_serves_it_too(ws: str) -> None:
    gate = OpenGate()
    with plain_uvicorn(gate, ws) as port:

        def connect() -> tuple[RawClient, Recorder]:
            client = RawClient(port).open("/any/path?tab=1", "Sec-WebSocket-Protocol: stillhere.v1")
            endpoint = gate.endpoint()
            endpoint.expect(("open",))
            return client, endpoint

        client, endpoint = connect()
        client.text("hi")
        endpoint.expect(("text", b"hi"))
        client.close_frame(1001)
        endpoint.expect(("close_frame", 1001, ""), ("lost", None))
        client.sock.close()

        client, endpoint = connect()
        client.send(8)
        endpoint.expect(("close_frame", 1005, ""), ("lost", None))
        client.sock.close()

        client, endpoint = connect()
        client.sock.close()
        endpoint.expect(("lost", None))

        client, endpoint = connect()
        client.send(TEXT, b"\xff")
        assert client.received_close() == 1007
        assert endpoint.next()[:2] == ("violation", 1007)
        endpoint.expect(("lost", None))
        client.sock.close()

        client, endpoint = connect()
        client.text("x" * 1500)  # within uvicorn's bound, above ours
        assert client.received_close() == 1009
        assert endpoint.next()[:2] == ("violation", 1009)
        client.sock.close()
        endpoint.expect(("lost", None))
    assert {request.path for request in gate.requests} == {"/any/path"}


@pytest.mark.parametrize("clogged", [False, True])
def test_a_ping_without_an_answer_is_a_timeout(clogged: bool) -> None:
    gate = OpenGate()
    with (
        running(gate, "asgi", heartbeat_interval=0.05, heartbeat_timeout=0.3) as server,
        RawClient(server.port, receive_buffer=4096) as client,
    ):
        client.open()
        endpoint = gate.endpoint()
        endpoint.expect(("open",))
        assert endpoint.socket is not None
        if clogged:
            while server.call(endpoint.socket.unsent) < 200000:
                server.call(endpoint.socket.send, b"x" * 60000)
        while (event := endpoint.next())[0] == "full":
            pass
        kind, error = event
        assert kind == "lost"
        assert isinstance(error, TimeoutError)
        if not clogged:
            assert client.received_close() == 1011


def test_a_message_that_follows_a_close_frame_in_the_same_segment_is_not_told() -> None:
    gate = OpenGate()
    with running(gate, "asgi") as server, RawClient(server.port) as client:
        client.open()
        client.sock.sendall(frame(8, b"\x03\xe9") + frame(TEXT, b"late"))
        gate.endpoint().expect(("open",), ("close_frame", 1001, ""), ("lost", None))


class Wire:
    """An ASGI server of one connection, as small as the specification allows."""

    def __init__(self, app: AsgiWebSocket, **scope: Any) -> None:
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.outgoing: asyncio.Queue[Message] = asyncio.Queue()
        self.broken: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        base = {"type": "websocket", "path": "/ws", "query_string": b"", "headers": [], **scope}
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(self._run(app, base))

    async def _run(self, app: AsgiWebSocket, scope: Any) -> None:
        await app(scope, self.incoming.get, self._send)

    async def _send(self, message: Message) -> None:
        if self.broken is not None:
            raise self.broken
        self.outgoing.put_nowait(message)
        await self.gate.wait()


async def test_a_server_that_cannot_send_an_http_answer_gets_a_close() -> None:
    wire = Wire(AsgiWebSocket(FunctionGate(lambda _: problem(401, "No."))))
    assert (await wire.outgoing.get())["type"] == "websocket.close"
    await wire.task


async def test_a_client_that_leaves_before_the_connect_is_never_asked_about() -> None:
    gate = OpenGate()
    wire = Wire(AsgiWebSocket(gate))
    wire.incoming.get_nowait()
    wire.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
    await wire.task
    assert gate.requests == []


async def test_a_query_that_is_not_utf8_is_refused() -> None:
    wire = Wire(AsgiWebSocket(OpenGate()), query_string=b"x=%ff", extensions={"websocket.http.response": {}})
    assert (await wire.outgoing.get())["status"] == 400
    await wire.task


async def test_a_welcome_is_followed_by_both_calls_even_if_the_accept_fails() -> None:
    gate = OpenGate()
    wire = Wire(AsgiWebSocket(gate))
    wire.broken = OSError("gone")
    await wire.task
    endpoint = gate.endpoint()
    endpoint.expect(("open",), ("lost", wire.broken))


async def test_a_server_that_cancels_the_application_is_not_held_up() -> None:
    gate = OpenGate()
    wire = Wire(AsgiWebSocket(gate))
    await wire.outgoing.get()
    await asyncio.sleep(0)
    wire.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wire.task
    gate.endpoint().expect(("open",), ("lost", None))


async def test_a_cancelled_application_cancels_the_gate() -> None:
    cancelled = asyncio.Event()

    async def think(_: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    wire = Wire(AsgiWebSocket(FunctionGate(think)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    wire.task.cancel()
    await asyncio.wait({wire.task})
    await cancelled.wait()


async def test_sends_wait_in_a_queue_that_one_task_empties_in_order() -> None:
    endpoint = Recorder()
    wire = Wire(AsgiWebSocket(FunctionGate(lambda _: Welcome(endpoint, None)), high_water=100, low_water=50))
    assert (await wire.outgoing.get())["type"] == "websocket.accept"
    await asyncio.sleep(0)
    socket = endpoint.socket
    assert socket is not None
    idle = len(asyncio.all_tasks())
    wire.gate.clear()
    for n in range(20):
        socket.send(b"%09d." % n)
    assert len(asyncio.all_tasks()) == idle + 1
    assert socket.unsent() == 200
    await asyncio.sleep(0)
    assert wire.outgoing.qsize() == 1
    wire.gate.set()
    sent = [(await wire.outgoing.get())["text"] for _ in range(20)]
    assert sent == [f"{n:09d}." for n in range(20)]
    await asyncio.sleep(0)
    assert socket.unsent() == 0
    assert len(asyncio.all_tasks()) == idle
    assert [event[0] for event in endpoint.history] == ["open", "full", "writable"]
    wire.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001, "reason": ""})
    await wire.task


async def test_a_send_that_fails_leaves_it_to_the_disconnect_to_say_why() -> None:
    endpoint = Recorder()
    wire = Wire(AsgiWebSocket(FunctionGate(lambda _: Welcome(endpoint, None))))
    await wire.outgoing.get()
    await asyncio.sleep(0)
    assert endpoint.socket is not None
    wire.broken = OSError("gone")
    endpoint.socket.send(b"a")
    endpoint.socket.send(b"b")
    await asyncio.sleep(0)
    wire.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001, "reason": ""})
    await wire.task
    endpoint.expect(("open",), ("close_frame", 1001, ""), ("lost", None))


async def test_after_an_abort_nothing_is_told_but_the_loss_even_if_more_has_arrived() -> None:
    def react(endpoint: Recorder, event: tuple[Any, ...]) -> None:
        if event == ("text", b"1"):
            assert endpoint.socket is not None
            endpoint.socket.send(b"x")
            endpoint.socket.abort()

    endpoint = Recorder(react)
    wire = Wire(AsgiWebSocket(FunctionGate(lambda _: Welcome(endpoint, None))))
    for text in ("1", "2"):
        wire.incoming.put_nowait({"type": "websocket.receive", "text": text})
    wire.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001, "reason": ""})
    await wire.task
    assert wire.task.cancelling() == 0
    endpoint.expect(("open",), ("text", b"1"), ("lost", None))


async def test_only_websockets_are_served() -> None:
    with pytest.raises(ValueError, match="'http'"):
        await AsgiWebSocket(OpenGate())({"type": "http"}, asyncio.Queue[Message]().get, _nowhere)


async def _nowhere(_: Message) -> None: ...
