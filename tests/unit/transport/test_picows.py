"""What is special to picows, and what we rely on inside it."""

from __future__ import annotations

import gc
import inspect
import socket
import weakref
from importlib.metadata import version
from typing import Any

import pytest
from picows.picows import WSProtocol  # type: ignore[attr-defined]

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


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("farewell", [None, 1000])
def test_a_connection_that_has_ended_leaves_nothing_to_search_for(loop: Any, farewell: int | None) -> None:
    gate = OpenGate()
    gc.collect()
    gc.disable()
    try:
        with running(gate, "picows", loop) as server:
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


def _tasks() -> int:
    import asyncio

    return len(asyncio.all_tasks())


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
