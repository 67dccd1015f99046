from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.transport.peers import HIGH, LIMIT, LOW, OpenGate, Party, running

PARTIES = [("native", "uvloop"), ("native", "asyncio"), ("asgi", "uvloop")]


@pytest.fixture(scope="module", params=PARTIES, ids="-".join)
def party(request: pytest.FixtureRequest) -> Iterator[Party]:
    websocket, loop = request.param
    gate = OpenGate()
    with running(gate, websocket, loop, max_message_bytes=LIMIT, high_water=HIGH, low_water=LOW) as server:
        yield Party(websocket, gate, server)


@pytest.fixture(scope="module", params=PARTIES[:2], ids="-".join)
def native(request: pytest.FixtureRequest) -> Iterator[Party]:
    websocket, loop = request.param
    gate = OpenGate()
    with running(gate, websocket, loop, max_message_bytes=LIMIT, high_water=HIGH, low_water=LOW) as server:
        yield Party(websocket, gate, server)
