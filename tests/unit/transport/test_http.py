"""The bounds on request heads."""

from __future__ import annotations

import time

import pytest

from stillhere.transport.head import MAX_HEAD_BYTES, MAX_HEADERS
from tests.unit.transport.peers import OpenGate, RawClient, running

TIMEOUT = 0.3


def test_a_head_that_trickles_in_is_ended_by_the_timeout() -> None:
    with running(OpenGate(), handshake_timeout=TIMEOUT) as server, RawClient(server.port) as client:
        began = time.monotonic()
        head = client.head()
        with pytest.raises(ConnectionError):  # noqa: PT012 - which of the sends fails is the kernel's choice
            for byte in head:
                client.sock.send(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - began < TIMEOUT + 1


def test_an_incomplete_head_is_answered_with_408() -> None:
    with running(OpenGate(), handshake_timeout=TIMEOUT) as server, RawClient(server.port) as client:
        client.sock.sendall(client.head()[:-2])
        status, headers, _ = client.answer()
        assert status == 408
        assert headers["content-type"] == "application/problem+json"
        assert client.at_end()


def test_a_connection_that_says_nothing_is_ended_by_the_timeout() -> None:
    with running(OpenGate(), handshake_timeout=TIMEOUT) as server, RawClient(server.port) as client:
        assert client.at_end()


def test_a_later_request_on_the_same_connection_is_bounded_too() -> None:
    with running(OpenGate(), handshake_timeout=TIMEOUT) as server, RawClient(server.port) as client:
        client.sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.answer()[0] == 200
        client.sock.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert client.answer()[0] == 408


def test_an_idle_connection_between_requests_outlives_the_timeout() -> None:
    with running(OpenGate(), handshake_timeout=TIMEOUT) as server, RawClient(server.port) as client:
        for _ in range(2):
            client.sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.answer()[2] == b"hello"
            time.sleep(TIMEOUT + 0.1)


def test_an_open_websocket_outlives_the_timeout() -> None:
    gate = OpenGate()
    with running(gate, handshake_timeout=TIMEOUT) as server, RawClient(server.port) as client:
        client.open()
        time.sleep(TIMEOUT + 0.1)
        client.text("still here")
        gate.endpoint().expect(("open",), ("text", b"still here"))


def test_a_large_body_is_no_large_head() -> None:
    with running(OpenGate()) as server, RawClient(server.port) as client:
        body = b"x" * (MAX_HEAD_BYTES * 4)
        client.sock.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert client.answer()[2] == b"%d" % len(body)


@pytest.mark.parametrize("upgrade", [True, False])
def test_too_many_headers_are_refused_with_431(upgrade: bool) -> None:
    with running(OpenGate()) as server, RawClient(server.port) as client:
        more = "".join(f"x-{n}: 1\r\n" for n in range(MAX_HEADERS)).encode()
        head = client.head() if upgrade else b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        client.sock.sendall(head[:-2] + more + b"\r\n")
        assert client.answer()[0] == 431


@pytest.mark.parametrize("ended", [True, False])
def test_a_head_that_is_too_long_is_refused_with_431(ended: bool) -> None:
    with running(OpenGate()) as server, RawClient(server.port) as client:
        tail = b"\r\n\r\n" if ended else b""
        client.sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * MAX_HEAD_BYTES + tail)
        assert client.answer()[0] == 431


def test_a_target_that_is_too_long_is_refused_with_431() -> None:
    with running(OpenGate()) as server, RawClient(server.port) as client:
        client.sock.sendall(client.head("/ws?" + "y" * MAX_HEAD_BYTES))
        assert client.answer()[0] == 431


def test_what_is_not_http_is_refused_with_a_problem() -> None:
    with running(OpenGate()) as server, RawClient(server.port) as client:
        client.sock.sendall(b"\x16\x03\x01\x02\x00hello over TLS\r\n\r\n")
        status, headers, _ = client.answer()
        assert status == 400
        assert headers["content-type"] == "application/problem+json"
