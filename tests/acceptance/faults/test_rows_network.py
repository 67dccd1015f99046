"""Rows 4, 5, 11, 17, 18 and 20 of the failure matrix: what happens between a node and the store."""

from __future__ import annotations

import time

import pytest

from tests.acceptance.faults.cluster import (
    ABNORMAL,
    BEAT,
    CLIENT_CLOSE,
    GOING_AWAY,
    LEASE,
    NODE_LOST,
    SWEEP,
    TOLERANCE,
    Cluster,
)
from tests.acceptance.faults.judge import Judge
from tests.acceptance.faults.people import Crowd
from tests.acceptance.faults.proxy import BLACK_HOLE, SWALLOW
from tests.acceptance.faults.redis_process import RedisProcess
from tests.acceptance.watching import wait_until

pytestmark = pytest.mark.slow

REQUEST = 2.0
"""After so many seconds a node gives up a request to the store."""


def test_row_04_a_node_that_is_cut_off_for_long_moves_its_people_to_the_others_before_its_lease_ends(
    cluster: Cluster, crowd: Crowd, judge: Judge
) -> None:
    doomed = crowd.on("n1")[:5]
    crowd.doom(doomed)
    cut = time.time()
    cluster.roads["n1"].black_hole()
    gone = crowd.departed(doomed, NODE_LOST - BEAT, timeout=LEASE + BEAT)
    wait_until(lambda: crowd.on("n1") == [], LEASE, "everybody has left the node that is cut off")
    assert {span.code for span in crowd.ended("n1")} == {1013}
    assert max(span.end for span in crowd.ended("n1")) < cut + LEASE + BEAT
    own = next(node for node in cluster.nodes["n1"].get("/v1/nodes")[1]["nodes"] if node["node"] == "n1")
    assert own["isolated"] and not own["ready"]
    (line,) = cluster.nodes["n1"].wait_log("node_isolated")
    assert line["reachedBy"] in ("n2", "n3")
    assert not any(cluster.nodes[name].log("node_isolated") for name in ("n2", "n3"))
    crowd.wait_connected()
    wait_until(lambda: cluster.ready() == ["n2", "n3"], BEAT, "the others are ready, and they alone")
    judge.gone_by(gone, LEASE + NODE_LOST + SWEEP, since=cut, on=["n2", "n3"])
    cluster.roads["n1"].heal()
    judge.verdict(gone, bound=LEASE + NODE_LOST + SWEEP + BEAT, since=time.time(), tolerance=TOLERANCE)
    cluster.nodes["n1"].wait_log("isolation_over")


def test_row_05_a_partition_shorter_than_the_lease_only_delays(cluster: Cluster, crowd: Crowd, judge: Judge) -> None:
    cluster.roads["n1"].black_hole()
    leaving = crowd.on("n1")[:5] + crowd.on("n2")[:5]
    gone = crowd.leave(leaving, "close")
    time.sleep(LEASE - BEAT - 1.0)
    cluster.roads["n1"].heal()
    judge.verdict(gone, bound=REQUEST + CLIENT_CLOSE + SWEEP, since=time.time())
    assert len(crowd.ended("n1")) == 5, "only those who went have lost their connections"


def test_row_11_a_slow_redis_only_delays(cluster: Cluster, crowd: Crowd, judge: Judge, store: RedisProcess) -> None:
    gone = crowd.leave(crowd.on("n1")[:3], "close")
    store.admin.client_pause(1500, all=True)
    time.sleep(1.6)
    gone += crowd.leave(crowd.on("n2")[:3], "close")
    store.pause()
    time.sleep(1.2)
    store.resume()
    gone += crowd.leave(crowd.on("n3")[:3], "close")
    for road in cluster.roads.values():
        road.delay(0.2)
    time.sleep(2.0)
    judge.gone_by(gone, CLIENT_CLOSE + SWEEP + 2 * REQUEST)
    for road in cluster.roads.values():
        road.heal()
    judge.verdict(gone, bound=CLIENT_CLOSE + SWEEP + 2 * REQUEST)
    assert len(crowd.ended("n1") + crowd.ended("n2") + crowd.ended("n3")) == len(gone), "nobody was closed"


def test_row_17_what_was_applied_while_its_reply_was_lost_counts_once(
    cluster: Cluster, crowd: Crowd, judge: Judge
) -> None:
    cluster.roads["n1"].fault(down=SWALLOW)
    gone = crowd.leave(crowd.on("n1")[:5], "close")
    crowd.lose(crowd.on("n1")[:10])
    crowd.reload(crowd.on("n1")[:5])
    time.sleep(1.0)
    cluster.roads["n1"].reset()
    cluster.roads["n1"].heal()
    judge.verdict(gone, bound=REQUEST + CLIENT_CLOSE + SWEEP, since=time.time(), tolerance=GOING_AWAY)


def test_row_18_an_old_request_that_is_executed_late_changes_nothing(
    cluster: Cluster, crowd: Crowd, judge: Judge
) -> None:
    road = cluster.roads["n1"]
    road.fault(up=BLACK_HOLE, new=False)
    back = crowd.on("n1")[:10]
    crowd.reload(back)
    wait_until(lambda: road.held() > 0, what="a request that is on its way")
    time.sleep(REQUEST + 1.0)
    crowd.wait_connected()
    wait_until(lambda: cluster.ready() == ["n1", "n2", "n3"], LEASE, "the node speaks over new connections")
    assert road.detach() > 0
    assert road.deliver() > 0
    time.sleep(GOING_AWAY + SWEEP)
    judge.verdict(tolerance=ABNORMAL)


def test_row_20_a_reader_that_starves_on_a_healthy_connection_is_noticed(
    cluster: Cluster, crowd: Crowd, judge: Judge
) -> None:
    road = cluster.roads["n1"]
    assert road.count(saying=b"XREAD") > 0
    road.fault(BLACK_HOLE, BLACK_HOLE, saying=b"XREAD")
    gone = crowd.leave(crowd.on("n2")[:5], "close")
    judge.verdict(gone, bound=CLIENT_CLOSE + SWEEP + BEAT + 2 * REQUEST)
    assert crowd.ended("n1") == [], "nobody was closed"
