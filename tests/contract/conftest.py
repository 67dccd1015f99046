"""The stores, started, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.redis_servers import running, servers
from tests.contract.stand import STORES, Clock, Kept, Make, Stand, make_sqlite

Open = Callable[..., Awaitable[Stand]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=list(STORES))
def make(request: pytest.FixtureRequest) -> Make:
    return STORES[request.param]


@pytest.fixture
async def stand(make: Make, tmp_path: Path, clock: Clock) -> AsyncIterator[Stand]:
    """A store of each kind with the usual limits."""
    stand = await Stand(make, tmp_path, clock, Kept()).start()
    yield stand
    await stand.store.stop()


@pytest.fixture
async def small(make: Make, tmp_path: Path, clock: Clock) -> AsyncIterator[Stand]:
    """A store of each kind that keeps little."""
    stand = await Stand(make, tmp_path, clock, Kept(log=40, timeline=12)).start()
    yield stand
    await stand.store.stop()


@pytest.fixture
async def file(tmp_path: Path, clock: Clock) -> Stand:
    """A sqlite store; the test ends it."""
    return await Stand(make_sqlite, tmp_path, clock, Kept()).start()


@pytest.fixture(scope="module", params=["redis", "valkey"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A real server of each kind, empty; Valkey where it is installed."""
    program = servers().get(request.param)
    if program is None:
        pytest.skip(f"there is no {request.param} server on this machine")
    with running(program) as number:
        yield number
