"""What most rows share: a Redis that keeps its data, three nodes, and the crowd, once per file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.faults.cluster import Cluster
from tests.acceptance.faults.judge import Judge
from tests.acceptance.faults.people import Crowd
from tests.acceptance.faults.redis_process import RedisProcess


@pytest.fixture(scope="module")
def store() -> Iterator[RedisProcess]:
    """A Redis with an append-only file."""
    with RedisProcess(persistent=True) as server:
        yield server


@pytest.fixture(scope="module")
def cluster(store: RedisProcess) -> Iterator[Cluster]:
    """Three nodes."""
    with Cluster(store.url) as found:
        yield found


@pytest.fixture(scope="module")
def crowd(cluster: Cluster) -> Iterator[Crowd]:
    """Everybody."""
    with Crowd(cluster) as found:
        yield found


@pytest.fixture
def judge(cluster: Cluster, crowd: Crowd, record_property: Callable[[str, object], None]) -> Iterator[Judge]:
    """What the row before has broken is mended, everybody is there, and the record begins."""
    cluster.mend()
    crowd.gather()
    with Judge(cluster, crowd, record_property) as found:
        yield found
