"""What is special to picows, and what we rely on inside it."""

from __future__ import annotations

import inspect
import socket
from importlib.metadata import version
from typing import Any

import pytest
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from stillhere.transport.engine import QUIET, Underneath, switching
from stillhere.transport.picows import READ_CHUNK
from tests.unit.transport.peers import OpenGate, RawClient, running


def test_the_release_of_picows_is_one_that_the_adapter_was_written_for() -> None:
    assert version("picows").startswith("2.3.")


def test_picows_still_takes_the_arguments_that_the_adapter_gives() -> None:
    with pytest.raises(TypeError, match="exactly 15 positional arguments"):
        WSProtocol()


def test_picows_still_has_the_methods_that_the_adapter_overrides() -> None:
    names = ("connection_made", "connection_lost", "get_buffer", "buffer_updated", "eof_received")
    assert all(callable(inspect.getattr_static(WSProtocol, name)) for name in names)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_small_messages_are_not_delayed_by_nagle(loop: Any) -> None:
    gate = OpenGate()
    with running(gate, "picows", loop) as server, RawClient(server.port) as client:
        client.open()
        endpoint = gate.endpoint()
        endpoint.expect(("open",))
        sock = endpoint.socket._tcp.get_extra_info("socket")  # type: ignore[union-attr]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_connection_has_no_task_and_keeps_no_token(loop: Any) -> None:
    gate = OpenGate()
    with running(gate, "picows", loop) as server, RawClient(server.port) as client:
        client.open("/ws?token=canary", "Authorization: Bearer canary")
        endpoint = gate.endpoint()
        endpoint.expect(("open",))
        ws = endpoint.socket._ws  # type: ignore[union-attr]
        assert not any("canary" in f"{name}{value}" for name, value in ws.request.headers.items())
        assert b"canary" not in ws.request.path
        assert server.call(_tasks) == 1 + 1  # uvicorn's main loop, and its lifespan


def _tasks() -> int:
    import asyncio

    return len(asyncio.all_tasks())


def test_picows_is_spared_the_calls_of_the_system_that_nobody_needs() -> None:
    gate = OpenGate()
    with running(gate) as server, RawClient(server.port) as client:
        client.open()
        endpoint = gate.endpoint()
        endpoint.expect(("open",))
        tcp = endpoint.socket._tcp  # type: ignore[union-attr]
        seen = Underneath(tcp)
        assert seen.get_extra_info("socket").fileno() == tcp.get_extra_info("socket").fileno()
        assert seen.get_extra_info("peername") is None
        assert seen.get_extra_info("ssl_object") is None
        assert seen.is_closing() is False
        assert endpoint.socket._ws.underlying_transport.__class__ is Underneath  # type: ignore[union-attr]


@pytest.mark.parametrize(("subprotocol", "line"), [(None, b""), ("a", b"Sec-WebSocket-Protocol: a\r\n")])
def test_the_101_is_the_one_of_rfc_6455_section_1_3(subprotocol: str | None, line: bytes) -> None:
    answer = switching(subprotocol)
    answer.headers["Sec-WebSocket-Accept"] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert answer.to_bytes() == (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        + line
        + b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


def test_what_breaks_inside_picows_is_logged_and_a_peers_faults_are_not(caplog: pytest.LogCaptureFixture) -> None:
    QUIET.error("a parser error of %s", "somebody")
    assert caplog.records == []
    QUIET.exception("it broke: %s", "here")
    assert caplog.records[0].getMessage() == "it broke: here"


def test_a_read_takes_a_bounded_chunk() -> None:
    gate = OpenGate()
    with running(gate) as server, RawClient(server.port) as client:
        client.open()
        endpoint = gate.endpoint()
        endpoint.expect(("open",))
        protocol = endpoint.socket._protocol  # type: ignore[union-attr]
        assert len(protocol.get_buffer(-1)) <= READ_CHUNK


def test_a_stop_closes_what_the_drain_left_with_1012() -> None:
    gate = OpenGate()
    with running(gate) as server, RawClient(server.port) as client:
        client.open()
        server.server.stop()
        assert client.received_close() == 1012
        endpoint = gate.endpoint()
        endpoint.expect(("open",), ("lost", None))
