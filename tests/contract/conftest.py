"""The stores, started, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from stillhere.core.leases import Limits
from tests.contract.redis_servers import running, servers
from tests.contract.shared_place import SERVERS, Places
from tests.contract.shared_place import places as started
from tests.contract.stand import STORES, Clock, Kept, Make, Stand, make_sqlite

Open = Callable[..., Awaitable[Stand]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def places() -> Iterator[Places]:
    """The servers, started as they are needed."""
    yield from started()


@pytest.fixture(params=[*STORES, *SERVERS])
def make(request: pytest.FixtureRequest, places: Places) -> Make:
    return STORES[request.param] if request.param in STORES else places.of(request.param)


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
async def forgetful(make: Make, tmp_path: Path, clock: Clock) -> AsyncIterator[Stand]:
    """A store of each kind that knows users who went for a minute at most."""
    stand = await Stand(make, tmp_path, clock, Kept(limits=Limits(remember=60.0))).start()
    yield stand
    await stand.store.stop()


@pytest.fixture(params=["sqlite", *SERVERS])
async def lasting(request: pytest.FixtureRequest, places: Places, tmp_path: Path, clock: Clock) -> Stand:
    """A store of each kind that outlives its process; the test ends it."""
    make = STORES[request.param] if request.param in STORES else places.of(request.param)
    return await Stand(make, tmp_path, clock, Kept()).start()


@pytest.fixture(params=SERVERS)
async def shared(request: pytest.FixtureRequest, places: Places, tmp_path: Path, clock: Clock) -> AsyncIterator[Stand]:
    """A store that nodes share, on each kind of server."""
    stand = await Stand(places.of(request.param), tmp_path, clock, Kept()).start()
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
