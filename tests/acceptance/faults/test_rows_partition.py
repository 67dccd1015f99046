"""Rows 4, 5 and 6 of the failure matrix with a true partition: packets are lost, nothing is refused or closed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.faults.cluster import BEAT, CLIENT_CLOSE, LEASE, NODE_LOST, NODES, RECOVERY, SWEEP, Cluster
from tests.acceptance.faults.judge import Judge
from tests.acceptance.faults.namespace import IsolatedRedis
from tests.acceptance.faults.people import Crowd
from tests.acceptance.watching import wait_until

pytestmark = pytest.mark.slow

REQUEST = 2.0
"""After so many seconds a node gives up a request to the store."""


@pytest.fixture(scope="module")
def redis() -> Iterator[IsolatedRedis]:
    with IsolatedRedis(NODES) as found:
        yield found


@pytest.fixture(scope="module")
def cluster(redis: IsolatedRedis) -> Iterator[Cluster]:
    environ = {name: {"STILLHERE_STORE__URL": redis.url(name)} for name in NODES}
    with Cluster(redis.url(NODES[0]), direct=True, environ=environ) as found:
        yield found


@pytest.fixture(scope="module")
def crowd(cluster: Cluster) -> Iterator[Crowd]:
    with Crowd(cluster) as found:
        yield found


@pytest.fixture
def judge(
    redis: IsolatedRedis, cluster: Cluster, crowd: Crowd, record_property: Callable[[str, object], None]
) -> Iterator[Judge]:
    for name in NODES:
        redis.plug(name)
    cluster.mend()
    crowd.gather()
    cluster.calm()
    with Judge(cluster, crowd, record_property) as found:
        yield found


def test_row_05_a_true_partition_shorter_than_the_lease_only_delays(
    redis: IsolatedRedis, crowd: Crowd, judge: Judge
) -> None:
    redis.pull("n1")
    leaving = crowd.on("n1")[:5] + crowd.on("n2")[:5]
    gone = crowd.leave(leaving, "close")
    time.sleep(LEASE / 2)
    redis.plug("n1")
    judge.verdict(gone, bound=3 * REQUEST + CLIENT_CLOSE + SWEEP, since=time.time())
    assert len(crowd.ended("n1")) == 5, "only those who went have lost their connections"


def test_row_06_a_true_partition_of_everybody_shows_nobody_offline_and_sends_nobody_away(
    redis: IsolatedRedis, cluster: Cluster, crowd: Crowd, judge: Judge
) -> None:
    for name in NODES:
        redis.pull(name)
    gone = crowd.leave([crowd.on(name)[0] for name in NODES], "close")
    wait_until(lambda: cluster.ready() == [], LEASE, "no node is ready")
    time.sleep(1.5 * LEASE)
    assert sum(len(crowd.ended(name)) for name in NODES) == len(gone), "nobody was sent away"
    for name in NODES:
        redis.plug(name)
    judge.verdict(gone, bound=RECOVERY + NODE_LOST + CLIENT_CLOSE + SWEEP, since=time.time())


def test_row_04_a_node_that_a_true_partition_cuts_off_moves_its_people_to_the_others(
    redis: IsolatedRedis, cluster: Cluster, crowd: Crowd, judge: Judge
) -> None:
    cut = time.time()
    redis.pull("n1")
    wait_until(lambda: crowd.on("n1") == [], LEASE + BEAT, "everybody has left the node that is cut off")
    assert {span.code for span in crowd.ended("n1")} == {1013}
    assert max(span.end for span in crowd.ended("n1")) < cut + LEASE + BEAT
    crowd.wait_connected()
    redis.plug("n1")
    judge.verdict([], bound=LEASE + NODE_LOST + SWEEP, since=time.time())
