"""What happens before the 101, on both transports."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Awaitable
from typing import Literal

import msgspec
import pytest

from stillhere.server.socket import Refusal, UpgradeRequest, Verdict, Welcome
from stillhere.transport.head import problem
from stillhere.transport.message_layer import TEXT
from tests.unit.transport.peers import PATIENCE, FunctionGate, OpenGate, RawClient, Recorder, running

TRANSPORTS: list[Literal["native", "asgi"]] = ["native", "asgi"]
both = pytest.mark.parametrize("websocket", TRANSPORTS)
Transport = Literal["native", "asgi"]


@both
def test_a_browser_is_welcomed_with_its_subprotocol(websocket: Transport) -> None:
    gate = OpenGate()
    with running(gate, websocket) as server, RawClient(server.port) as client:
        status, headers, _ = client.request(
            "/ws?tab=t1", "Sec-WebSocket-Protocol: stillhere.v1, bearer.abc", Connection="keep-alive, Upgrade"
        )
        assert status == 101
        assert headers["sec-websocket-protocol"] == "stillhere.v1"
        assert "sec-websocket-extensions" not in headers
        assert "server" not in headers
        assert gate.endpoint().next() == ("open",)
    (request,) = gate.requests
    assert request.path == "/ws"
    assert request.query == {"tab": "t1"}
    assert request.headers["sec-websocket-protocol"] == "stillhere.v1, bearer.abc"
    assert request.remote == "127.0.0.1"


@both
def test_compression_is_not_agreed_to(websocket: Transport) -> None:
    with running(OpenGate(), websocket) as server, RawClient(server.port) as client:
        _, headers, _ = client.request("/ws", "Sec-WebSocket-Extensions: permessage-deflate")
        assert "sec-websocket-extensions" not in headers


@both
def test_a_refusal_is_an_http_answer_before_any_101(websocket: Transport) -> None:
    gate = FunctionGate(lambda _: problem(401, "The token has expired.", WWW_Authenticate="Bearer"))
    with running(gate, websocket) as server, RawClient(server.port) as client:
        status, headers, body = client.request()
        assert status == 401
        assert headers["content-type"] == "application/problem+json"
        assert headers["www-authenticate"] == "Bearer"
        assert headers["connection"] == "close"
        assert msgspec.json.decode(body)["detail"] == "The token has expired."
        assert client.at_end()


@both
@pytest.mark.parametrize(
    ("target", "replaced", "status"),
    [("/elsewhere", {}, 404), ("/ws", {"Sec_WebSocket_Version": "8"}, 426), ("/ws", {"Sec_WebSocket_Key": "x"}, 400)],
)
def test_what_is_no_websocket_request_never_reaches_the_gate(
    websocket: Transport, target: str, replaced: dict[str, str], status: int
) -> None:
    gate = OpenGate()
    with running(gate, websocket) as server, RawClient(server.port) as client:
        answered, headers, _ = client.request(target, **replaced)
        assert answered == status
        if status == 426:
            assert headers["sec-websocket-version"] == "13"
    assert gate.requests == []


@both
def test_http_1_0_cannot_become_a_websocket(websocket: Transport) -> None:
    with running(OpenGate(), websocket) as server, RawClient(server.port) as client:
        client.sock.sendall(client.head().replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert client.answer()[0] == 426


@both
def test_the_gate_may_take_its_time(websocket: Transport) -> None:
    endpoint = Recorder()

    async def think(_: UpgradeRequest) -> Verdict:
        await asyncio.sleep(0)
        return Welcome(endpoint, None)

    with running(FunctionGate(think), websocket) as server, RawClient(server.port) as client:
        client.open()
        client.text("hi")
        endpoint.expect(("open",), ("text", b"hi"))


@both
def test_the_gate_may_refuse_after_a_while(websocket: Transport) -> None:
    async def think(_: UpgradeRequest) -> Verdict:
        await asyncio.sleep(0)
        return problem(403, "Not you.")

    with running(FunctionGate(think), websocket) as server, RawClient(server.port) as client:
        assert client.request()[0] == 403


@both
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_cancels_the_gate(websocket: Transport, how: str) -> None:
    told: queue.Queue[str] = queue.Queue()

    async def think(_: UpgradeRequest) -> Verdict:
        told.put("asked")
        try:
            await asyncio.Event().wait()
        finally:
            told.put("cancelled")
        raise AssertionError

    with running(FunctionGate(think), websocket) as server:
        client = RawClient(server.port)
        client.sock.sendall(client.head())
        assert told.get(timeout=PATIENCE) == "asked"
        if how == "close":
            client.sock.close()
        else:
            client.reset()
        assert told.get(timeout=PATIENCE) == "cancelled"


@both
def test_a_gate_that_takes_too_long_is_cancelled_and_the_client_told(websocket: Transport) -> None:
    cancelled = threading.Event()

    async def think(_: UpgradeRequest) -> Verdict:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    with running(FunctionGate(think), websocket, verdict_timeout=0.05) as server, RawClient(server.port) as client:
        status, headers, _ = client.request()
        assert status == 503
        assert headers["retry-after"] == "1"
        assert cancelled.wait(PATIENCE)


@both
@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_gate_that_fails_is_logged_and_answered_with_500(
    websocket: Transport, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def later() -> Verdict:
        raise KeyError("lost")

    def think(_: UpgradeRequest) -> Verdict | Awaitable[Verdict]:
        if when == "at once":
            raise KeyError("lost")
        return later()

    with running(FunctionGate(think), websocket) as server, RawClient(server.port) as client:
        status, headers, body = client.request()
        assert status == 500
        assert headers["content-type"] == "application/problem+json"
        assert b"lost" not in body
    assert any(record.exc_info and record.exc_info[0] is KeyError for record in caplog.records)


def test_a_refusal_with_an_unsendable_header_is_answered_with_500() -> None:
    gate = FunctionGate(lambda _: Refusal(401, b"{}", {"X-Bad": "a\r\nb: c"}))
    with running(gate) as server, RawClient(server.port) as client:
        status, headers, _ = client.request()
        assert status == 500
        assert "b" not in headers


def test_a_client_that_does_not_wait_for_the_101_is_refused() -> None:
    asked = threading.Event()

    async def think(_: UpgradeRequest) -> Verdict:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    with running(FunctionGate(think)) as server, RawClient(server.port) as client:
        client.sock.sendall(client.head())
        assert asked.wait(PATIENCE)
        client.send(TEXT, b"early")
        assert client.answer()[0] == 400


@both
def test_a_stop_refuses_who_still_waits(websocket: Transport) -> None:
    asked = threading.Event()

    async def think(_: UpgradeRequest) -> Verdict:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    with running(FunctionGate(think), websocket) as server, RawClient(server.port) as client:
        client.sock.sendall(client.head())
        assert asked.wait(PATIENCE)
        server.server.stop()
        assert client.answer()[0] in (500, 503)  # uvicorn's own is 500


@both
@pytest.mark.parametrize("outcome", ["welcome", "refusal", "elsewhere", "bad"])
def test_no_token_gets_into_any_log(websocket: Transport, outcome: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    gate = OpenGate() if outcome == "welcome" else FunctionGate(lambda _: problem(401, "No."))
    target = "/elsewhere" if outcome == "elsewhere" else "/ws"
    with running(gate, websocket) as server, RawClient(server.port) as client:
        key = {"Sec_WebSocket_Key": "x"} if outcome == "bad" else {}
        client.request(f"{target}?token=canary", "Authorization: Bearer canary", "Cookie: canary", **key)
    assert "canary" not in caplog.text
