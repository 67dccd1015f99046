"""What is special to the native transport, beside what both promise."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from typing import Any

import pytest

from stillhere.transport import native as native_transport
from stillhere.transport.message_layer import TEXT
from stillhere.transport.native import descriptor, switching
from tests.unit.transport.peers import OpenGate, Party, RawClient, frame, running


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_small_messages_are_not_delayed_by_nagle(loop: Any) -> None:
    gate = OpenGate()
    with running(gate, "native", loop) as server, RawClient(server.port) as client:
        client.open()
        endpoint = gate.endpoint()
        endpoint.expect(("open",))
        sock = endpoint.socket._tcp.get_extra_info("socket")  # type: ignore[union-attr]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_connection_has_no_task(loop: Any) -> None:
    gate = OpenGate()
    with running(gate, "native", loop) as server, RawClient(server.port) as client:
        client.open("/ws?token=canary", "Authorization: Bearer canary")
        gate.endpoint().expect(("open",))
        assert server.call(lambda: len(asyncio.all_tasks())) == 1 + 1  # uvicorn's main loop, and its lifespan


def test_a_message_that_was_sent_is_framed_once_for_all_who_get_it(native: Party) -> None:
    message = b"x" * 200
    (client, endpoint), (other, second) = native.connect(), native.connect()
    with client, other:
        for receiver in (endpoint, second, endpoint):
            native.tell(receiver, "send", message)
        native.tell(endpoint, "send", b"y" * 200)
        assert [client.receive()[1][:1] for _ in range(3)] == [b"x", b"x", b"y"]
        assert other.receive() == (TEXT, message)


def test_the_first_message_of_a_process_may_be_empty(native: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_transport, "_last", native_transport._Broadcast())
    client, endpoint = native.connect()
    with client:
        native.tell(endpoint, "send", b"")
        assert client.receive() == (TEXT, b"")


def test_only_the_beginning_of_a_frame_is_kept(native: Party) -> None:
    client, endpoint = native.connect()
    with client:
        raw = frame(TEXT, b"one") + frame(TEXT, b"two")
        client.sock.sendall(raw[:-1])
        endpoint.expect(("text", b"one"))
        assert endpoint.socket._reader is not None  # type: ignore[union-attr]
        client.sock.sendall(raw[-1:])
        endpoint.expect(("text", b"two"))
        assert endpoint.socket._reader is None  # type: ignore[union-attr]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("farewell", [None, 1000])
def test_a_connection_that_has_ended_leaves_nothing_to_search_for(loop: Any, farewell: int | None) -> None:
    gate = OpenGate()
    gc.collect()
    gc.disable()
    try:
        with running(gate, "native", loop) as server:
            with RawClient(server.port) as client:
                client.open()
                endpoint = gate.endpoint()
                endpoint.expect(("open",))
                gone = weakref.ref(endpoint)
                if farewell is not None:
                    client.close_frame(farewell)
                    assert client.received_close() == farewell
            while endpoint.next()[0] != "lost":
                pass
            del endpoint
            server.call(int)  # whoever told of the loss has returned
            assert gone() is None
    finally:
        gc.enable()


def test_under_tls_nothing_goes_past_the_transport() -> None:
    class Secure:
        def get_extra_info(self, name: str) -> object:
            return {"sslcontext": object(), "socket": socket.socket()}[name]

    assert descriptor(Secure()) == -1  # type: ignore[arg-type]


def test_a_transport_that_tells_of_no_socket_is_written_to() -> None:
    assert descriptor(asyncio.Transport({})) == -1


@pytest.mark.parametrize(("subprotocol", "line"), [(None, b""), ("a", b"Sec-WebSocket-Protocol: a\r\n")])
def test_the_101_is_the_one_of_rfc_6455_section_1_3(subprotocol: str | None, line: bytes) -> None:
    assert switching(subprotocol, "dGhlIHNhbXBsZSBub25jZQ==") == (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        + line
        + b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


def test_a_stop_closes_what_the_drain_left_with_1012() -> None:
    gate = OpenGate()
    with running(gate) as server, RawClient(server.port) as client:
        client.open()
        server.server.stop()
        assert client.received_close() == 1012
        endpoint = gate.endpoint()
        endpoint.expect(("open",), ("lost", None))
