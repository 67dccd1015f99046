"""Rows 9, 10 and 23 of the failure matrix: another server takes over.

Each of them uses its servers up, so each has its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import redis

from tests.acceptance.faults.cluster import (
    CLIENT_CLOSE,
    LEASE,
    NODE_LOST,
    NODES,
    RECOVERY,
    SWEEP,
    TOLERANCE,
    Cluster,
)
from tests.acceptance.faults.judge import Judge
from tests.acceptance.faults.people import Crowd
from tests.acceptance.faults.proxy import FaultProxy
from tests.acceptance.faults.redis_cluster import running_cluster
from tests.acceptance.faults.redis_process import RedisProcess, follow, promote
from tests.acceptance.watching import wait_until
from tests.contract.redis_topologies import sentinels

pytestmark = pytest.mark.slow

Record = Callable[[str, object], None]


class Pair:
    """A master, its replica, the proxy that carries the replication, and the nodes on the master."""

    def __init__(self, master: RedisProcess, replica: RedisProcess, cluster: Cluster) -> None:
        self.master = master
        self.replica = replica
        self.cluster = cluster
        self.replication = FaultProxy(cluster.background, "127.0.0.1", master.port)
        follow(replica, self.replication.port)

    def lead(self, *nodes: str) -> None:
        """Have these nodes find the former replica at the address of the master."""
        for name in nodes:
            self.cluster.roads[name].lead_to("127.0.0.1", self.replica.port)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with (
        RedisProcess(persistent=True) as master,
        RedisProcess(persistent=True) as replica,
        Cluster(master.url) as cluster,
    ):
        found = Pair(master, replica, cluster)
        yield found
        found.replication.close()


def test_row_09_a_failover_that_lost_writes_shows_nobody_offline_and_nobody_online_again(
    pair: Pair, record_property: Record
) -> None:
    with Crowd(pair.cluster) as crowd, Judge(pair.cluster, crowd, record_property) as judge:
        pair.replication.black_hole()
        said = crowd.leave(crowd.on("n1")[:5], "bye")
        judge.gone_by(said, SWEEP)
        gone = crowd.leave(crowd.on("n2")[:5], "close")
        crowd.lose(crowd.on("n3")[:10])
        time.sleep(1.0)
        pair.master.kill()
        promote(pair.replica)
        pair.lead(*NODES)
        judge.verdict([*said, *gone], bound=RECOVERY + NODE_LOST + SWEEP, since=time.time(), tolerance=TOLERANCE)
        for departure in said:
            for watcher in crowd.watchers.values():
                entries = [entry.status for entry in watcher.views[departure.user].entries]
                assert "online" not in entries[entries.index("offline") :], "who had been lost is not shown again"


def test_row_09_a_failover_by_sentinels_shows_nobody_offline(record_property: Record) -> None:
    with (
        sentinels() as servers,
        Cluster(servers.url, direct=True) as cluster,
        Crowd(cluster) as crowd,
        Judge(cluster, crowd, record_property) as judge,
    ):
        gone = crowd.leave(crowd.on("n1")[:5], "close")
        judge.gone_by(gone, CLIENT_CLOSE + SWEEP)
        master = servers.master()
        master.kill()
        wait_until(lambda: servers.master_port() != master.port, 20, "the sentinels agree on another master")
        gone += crowd.leave(crowd.on("n2")[:5], "close")
        judge.verdict(gone, bound=RECOVERY + NODE_LOST + SWEEP, since=time.time(), tolerance=TOLERANCE)
        assert sum(len(crowd.ended(name)) for name in NODES) == len(gone), "nobody was sent away"


def test_row_10_an_old_master_that_is_cut_off_refuses_writes_and_its_node_loses_nobody(
    pair: Pair, record_property: Record
) -> None:
    pair.master.admin.config_set("min-replicas-to-write", "1")
    pair.master.admin.config_set("min-replicas-max-lag", "1")
    with Crowd(pair.cluster) as crowd, Judge(pair.cluster, crowd, record_property) as judge:
        gone = crowd.leave(crowd.on("n2")[:5], "close")
        pair.replication.black_hole()
        wait_until(lambda: refuses(pair.master), 10, "the old master refuses writes")
        promote(pair.replica)
        pair.lead("n2", "n3")
        split = time.time()
        gone += crowd.leave(crowd.on("n1")[:5], "close")
        wait_until(lambda: {"n2", "n3"} <= set(pair.cluster.ready()), RECOVERY, "the others have the new master")
        time.sleep(max(0.0, split + LEASE - time.time()))
        assert "n1" not in pair.cluster.ready()
        assert judge.false_offlines({departure.user for departure in gone}) == []
        pair.lead("n1")
        judge.verdict(gone, bound=RECOVERY + NODE_LOST + SWEEP, since=time.time(), tolerance=TOLERANCE)


def refuses(master: RedisProcess) -> bool:
    """Whether a master takes no writes, since its replica does not hear it."""
    try:
        return not master.admin.set("probe", "1")
    except redis.ResponseError as error:
        return "NOREPLICAS" in str(error)


def test_row_23_slots_that_move_to_another_master_are_followed(record_property: Record) -> None:
    with (
        running_cluster() as servers,
        Cluster(servers.url, direct=True) as cluster,
        Crowd(cluster) as crowd,
        Judge(cluster, crowd, record_property) as judge,
    ):
        gone = crowd.leave([crowd.on(name)[0] for name in NODES], "close")
        slots = servers.slots_in_use()
        assert len(slots) > 1, "the partitions lie on several slots"
        for slot, source in slots:
            others = [master for master in servers.masters if master is not source]
            assert servers.move(slot, source, others[slot % len(others)]) > 0
        judge.verdict(gone, bound=RECOVERY + CLIENT_CLOSE + SWEEP, since=time.time())
        assert sum(len(crowd.ended(name)) for name in NODES) == len(gone), "nobody was sent away"
