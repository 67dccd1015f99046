"""What the first bytes of a connection lead to."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from typing import Any

import pytest

from stillhere.server.socket import UpgradeRequest, Verdict, Welcome
from stillhere.transport.first import UPGRADE, Waiting
from stillhere.transport.head import MAX_HEAD_BYTES, problem
from tests.unit.transport.peers import PATIENCE, FunctionGate, OpenGate, RawClient, Recorder, running

LOOPS = ("uvloop", "asyncio")


def test_a_head_may_be_cut_at_every_byte() -> None:
    gate = OpenGate()
    with running(gate) as server:
        size = len(RawClient(server.port).head("/ws?tab=t"))
        for cut in range(1, size):
            with RawClient(server.port) as client:
                client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                head = client.head("/ws?tab=t")
                client.sock.sendall(head[:cut])
                time.sleep(0.002)
                client.sock.sendall(head[cut:])
                assert client.answer()[0] == 101, cut
                client.text(str(cut))
                gate.endpoint().expect(("open",), ("text", str(cut).encode()))
    assert all(request.query == {"tab": "t"} for request in gate.requests)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_upgrade_in_one_piece_stays_with_the_protocol_that_it_began_with(loop: Any) -> None:
    gate = OpenGate()
    with running(gate, "native", loop) as server, RawClient(server.port) as client:
        client.open()
        endpoint = gate.endpoint()
        endpoint.expect(("open",))
        assert type(endpoint.socket).__name__ == "Arrival"
        client.text("hi")
        endpoint.expect(("text", b"hi"))
        client.close_frame(1000)
        endpoint.expect(("close_frame", 1000, ""))
        assert client.received_close() == 1000
    endpoint.expect(("lost", None))


@pytest.mark.parametrize("loop", LOOPS)
def test_what_follows_the_101_in_the_same_instant_is_not_lost(loop: Any) -> None:
    endpoint = Recorder(lambda me, event: me.socket.send(b"first") if event == ("open",) else None)  # type: ignore[union-attr]
    gate = FunctionGate(lambda _: Welcome(endpoint, None))
    with running(gate, "native", loop) as server, RawClient(server.port) as client:
        client.open()
        assert client.receive()[1] == b"first"


def test_an_upgrade_with_more_behind_its_head_is_refused_or_served_but_never_lost() -> None:
    gate = OpenGate()
    with running(gate) as server, RawClient(server.port) as client:
        client.sock.sendall(client.head() + b"\x89\x80\0\0\0\0")
        assert client.answer()[0] in (101, 400)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_gate_may_take_its_time_over_an_upgrade_in_one_piece(loop: Any) -> None:
    endpoint = Recorder()

    async def think(_: UpgradeRequest) -> Verdict:
        await asyncio.sleep(0)
        return Welcome(endpoint, "stillhere.v1")

    with running(FunctionGate(think), "native", loop) as server, RawClient(server.port) as client:
        status, headers, _ = client.request("/ws", "Sec-WebSocket-Protocol: stillhere.v1")
        assert (status, headers["sec-websocket-protocol"]) == (101, "stillhere.v1")
        client.text("hi")
        endpoint.expect(("open",), ("text", b"hi"))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_refusal_of_an_upgrade_in_one_piece_has_the_date(loop: Any) -> None:
    gate = FunctionGate(lambda _: problem(403, "No."))
    with running(gate, "native", loop) as server, RawClient(server.port) as client:
        status, headers, _ = client.request()
        assert status == 403
        assert "date" in headers
        assert client.at_end()


def test_a_head_that_is_longer_than_one_may_be_is_seen() -> None:
    for more in (0, 1, 20_000):
        with running(OpenGate()) as server, RawClient(server.port) as client:
            rest = MAX_HEAD_BYTES - len(client.head("/ws", "X: ")) + more
            assert client.request("/ws", "X: " + "y" * rest)[0] == (431 if more else 101)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", ["close", "reset"])
def test_who_leaves_without_a_word_leaves_nothing_behind(loop: Any, how: str) -> None:
    with running(OpenGate(), "native", loop) as server:
        arrival: Any = server.server.config.http_protocol_class
        waiting = arrival.waiting
        client = RawClient(server.port)
        _until(lambda: server.call(len, waiting) == 1)
        client.sock.close() if how == "close" else client.reset()
        _until(lambda: server.call(len, waiting) == 0)
        assert not server.server.server_state.connections


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_that_ends_after_its_welcome_is_forgotten_by_the_server(loop: Any) -> None:
    gate = OpenGate()
    with running(gate, "native", loop) as server:
        client = RawClient(server.port).open()
        endpoint = gate.endpoint()
        endpoint.expect(("open",))
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sock.close()
        assert endpoint.next()[0] == "lost"
        assert not server.server.server_state.connections


def test_an_endpoint_is_told_of_the_loss_where_the_101_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise ZeroDivisionError

    gate = OpenGate()
    with running(gate) as server, RawClient(server.port) as client:
        monkeypatch.setattr("stillhere.transport.native.descriptor", broken)
        client.sock.sendall(client.head())
        assert client.at_end()
        gate.endpoint().expect(("lost", None))


def _until(true: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


class _Loop:
    """A loop of which only the time is used."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Any) -> object:
        self.timers.append((when, call))
        return object()

    def call_later(self, delay: float, call: Any) -> object:
        return self.call_at(self.now + delay, call)

    def run(self, until: float) -> None:
        while self.timers and self.timers[0][0] <= until:
            self.now, call = self.timers.pop(0)
            call()
        self.now = until


class _Person:
    def __init__(self, name: str, told: list[str]) -> None:
        self._name, self._told = name, told

    def late(self) -> None:
        self._told.append(self._name)


def _waiting(timeout: float) -> tuple[Waiting, _Loop]:
    waiting, loop = Waiting(timeout), _Loop()
    waiting._loop = loop  # type: ignore[assignment]
    return waiting, loop


def test_who_waits_too_long_is_told_and_who_has_spoken_is_not() -> None:
    (waiting, loop), told = _waiting(5.0), list[str]()
    people = [_Person(name, told) for name in "abc"]
    for person in people:
        waiting.add(person)
    waiting.discard(people[1])
    waiting.discard(people[1])
    loop.run(4.9)
    assert (told, len(waiting)) == ([], 2)
    loop.run(5.0)
    assert (told, len(waiting)) == (["a", "c"], 0)
    assert loop.timers == []


def test_one_timer_serves_all_and_begins_anew_for_who_came_later() -> None:
    (waiting, loop), told = _waiting(5.0), list[str]()
    waiting.add(_Person("a", told))
    loop.run(2.0)
    waiting.add(_Person("b", told))
    assert len(loop.timers) == 1
    loop.run(6.9)
    assert told == ["a"]
    loop.run(7.0)
    assert told == ["a", "b"]
    waiting.add(_Person("c", told))
    loop.run(12.0)
    assert told == ["a", "b", "c"]


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
        b"GET /ws HTTP/1.0\r\nUpgrade: websocket\r\n\r\n",
        b"POST /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n",
        b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\nmore",
        b"GET /ws HTTP/1.1\r\nUpgrade: websocket\n\r\n",
        b"GET /\x80 HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nX : y\r\nUpgrade: websocket\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nX: \0\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_everything_but_a_whole_and_plain_upgrade_is_left_to_the_parser_of_http(head: bytes) -> None:
    assert not UPGRADE.fullmatch(head)
