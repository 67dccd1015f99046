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


ODD = {
    "as browsers send it": b"",
    "lower case": b"lower",
    "a control character in a value": b"X-Odd: a\x01b\r\n",
    "a NUL in a value": b"X-Odd: a\x00b\r\n",
    "a bare line feed": b"X-Odd: a\nX-More: b\r\n",
    "a folded value": b"X-Odd: a\r\n b\r\n",
    "a space before the colon": b"X-Odd : a\r\n",
    "a name that is no token": b"X(Odd): a\r\n",
    "no colon": b"X-Odd\r\n",
    "a body announced": b"Content-Length: 5\r\n",
    "two bodies announced": b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_a_head_is_judged_alike_whether_it_comes_in_one_piece_or_in_two(odd: bytes) -> None:
    """One piece goes straight to the WebSocket, two go through the parser of HTTP."""
    with running(OpenGate(), handshake_timeout=5.0) as server:
        statuses = []
        for pieces in (1, 2):
            with RawClient(server.port) as client:
                head = client.head()
                if odd == b"lower":
                    head = head.replace(b"Upgrade: websocket", b"upgrade: WebSocket").replace(b"Host:", b"host:")
                else:
                    head = head[:-2] + odd + b"\r\n"
                for piece in (head,) if pieces == 1 else (head[:40], head[40:]):
                    client.sock.sendall(piece)
                    time.sleep(0.02 if pieces == 2 else 0.0)
                statuses.append(client.answer()[0])
    assert statuses[0] == statuses[1]


def test_an_upgrade_in_one_piece_never_meets_the_parser_of_http(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it did")

    with running(OpenGate()) as server, RawClient(server.port) as client:
        monkeypatch.setattr("stillhere.transport.http.BoundedHttp.connection_made", never)
        client.open()
        client.text("quick")


def test_a_stop_closes_who_has_said_nothing_yet() -> None:
    with running(OpenGate(), handshake_timeout=30.0) as server, RawClient(server.port) as client:
        time.sleep(0.05)
        server.server.stop()
        assert client.at_end()
