"""Rows 6, 7, 8, 19, 21 and 22 of the failure matrix: what happens to the store itself."""

from __future__ import annotations

import time

import pytest
from websockets.exceptions import WebSocketException

from tests.acceptance.faults.cluster import (
    BEAT,
    CLIENT_CLOSE,
    CLOCK_HOLD,
    LEASE,
    NODE_LOST,
    NODES,
    RECOVERY,
    SWEEP,
    TOLERANCE,
    Cluster,
)
from tests.acceptance.faults.judge import Judge
from tests.acceptance.faults.people import Crowd, enter
from tests.acceptance.faults.redis_process import RedisProcess
from tests.acceptance.raw import HandshakeRefused, Raw
from tests.acceptance.watching import wait_until

pytestmark = pytest.mark.slow

REQUEST = 2.0
"""After so many seconds a node gives up a request to the store."""


def epochs(cluster: Cluster, users: list[str]) -> dict[str, str]:
    """The epoch under which each user is shown."""
    return {user: told["epoch"] for user, told in cluster.ask("n2", users)[0].items()}


def none_ready(cluster: Cluster) -> None:
    """Wait until every node says that it has no store."""
    wait_until(lambda: cluster.ready() == [], LEASE, "no node ready")


def test_row_06_while_the_store_is_down_for_all_nobody_is_judged_and_nobody_is_sent_away(
    cluster: Cluster, crowd: Crowd, judge: Judge
) -> None:
    for road in cluster.roads.values():
        road.refuse()
    down = time.time()
    gone = crowd.leave([crowd.on(name)[0] for name in NODES], "close")
    none_ready(cluster)
    here = crowd.on("n1")
    told, complete = cluster.ask("n1", crowd.names)
    assert not complete
    assert {told[user]["status"] for user in here} == {"online"}
    assert "offline" not in {entry["status"] for entry in told.values()}
    time.sleep(max(0.0, down + LEASE + BEAT - time.time()))
    assert judge.offlines() == []
    for node in cluster.nodes.values():
        with pytest.raises(HandshakeRefused) as refused:
            Raw.open(node.ws_url, cluster.token("newcomer"), tab="newcomer")
        assert refused.value.status == 503
        assert int(refused.value.headers["retry-after"]) > 0
        assert node.log("node_isolated") == []
    assert sum(len(crowd.ended(name)) for name in NODES) == len(gone), "nobody was sent away"
    for road in cluster.roads.values():
        road.heal()
    judge.verdict(gone, bound=CLOCK_HOLD + CLIENT_CLOSE + SWEEP, since=time.time())


def test_row_07_a_restart_that_keeps_the_data_begins_an_epoch_and_shows_only_what_is_true(
    cluster: Cluster, crowd: Crowd, judge: Judge, store: RedisProcess
) -> None:
    before = epochs(cluster, crowd.names)
    gone = crowd.leave([crowd.on(name)[0] for name in NODES], "close")
    store.kill()
    time.sleep(1.0)
    store.start()
    # a close that the store had not heard of counts, when its node has come back, as a connection that was lost
    judge.verdict(gone, bound=REQUEST + NODE_LOST + SWEEP, since=time.time())
    after = epochs(cluster, crowd.names)
    assert all(after[user] != before[user] for user in before)
    assert sum(len(crowd.ended(name)) for name in NODES) == len(gone), "nobody was sent away"


def test_row_08_a_restart_that_lost_the_data_is_rebuilt_from_the_nodes_and_who_died_with_one_is_noticed(
    cluster: Cluster, crowd: Crowd, judge: Judge, store: RedisProcess
) -> None:
    doomed = crowd.on("n3")[:10]
    crowd.doom(doomed)
    gone = crowd.leave(crowd.on("n1")[:5], "close")
    store.kill()
    store.wipe()
    cluster.nodes["n3"].kill()
    store.start()
    gone += crowd.departed(doomed, 0.0)
    judge.verdict(gone, bound=RECOVERY + LEASE + NODE_LOST + SWEEP, since=time.time(), tolerance=TOLERANCE)


def test_row_19_a_reader_that_missed_what_was_trimmed_takes_a_snapshot(
    cluster: Cluster, crowd: Crowd, judge: Judge, store: RedisProcess
) -> None:
    cluster.roads["n1"].black_hole()
    gone = crowd.leave(crowd.on("n2")[:10], "bye")
    gone += crowd.leave(crowd.on("n3")[:5], "close")
    judge.gone_by(gone, CLIENT_CLOSE + SWEEP, on=["n2", "n3"])
    streams = list(store.admin.scan_iter(_type="stream"))
    assert streams
    for stream in streams:
        store.admin.xtrim(stream, 0, approximate=False)
    cluster.roads["n1"].heal()
    judge.verdict(gone, bound=REQUEST + BEAT + SWEEP, since=time.time(), tolerance=TOLERANCE)


def test_row_19_a_kick_and_a_newer_connection_are_heeded_although_their_notices_were_trimmed(
    cluster: Cluster, crowd: Crowd, judge: Judge, store: RedisProcess
) -> None:
    n1, n2 = cluster.nodes["n1"], cluster.nodes["n2"]
    kicked_token, doubled_token = cluster.token("kicked"), cluster.token("doubled")
    with (
        Raw.open(n1.ws_url, kicked_token, tab="k") as kicked,
        Raw.open(n1.ws_url, doubled_token, tab="d") as older,
    ):
        cluster.roads["n1"].refuse()  # no reply is on its way that would bring the notices later
        assert n2.post("/v1/users/kicked/disconnect", {})[0] == 200
        with (
            Raw.open(n2.ws_url, doubled_token, tab="d") as newer,
            Raw.open(n2.ws_url, kicked_token, tab="another") as back,
        ):
            for stream in store.admin.scan_iter(_type="stream"):
                store.admin.xtrim(stream, 0, approximate=False)
            cluster.roads["n1"].heal()
            assert (kicked.closed().code, older.closed().code) == (4004, 4005)
            for client in (back, newer):
                client.send({"type": "ping", "id": 1})
                client.expect("pong", id=1)
    judge.verdict(tolerance=TOLERANCE)


def test_row_21_after_a_flushall_the_nodes_tell_again_what_they_carry(
    cluster: Cluster, crowd: Crowd, judge: Judge, store: RedisProcess
) -> None:
    before = epochs(cluster, crowd.names)
    gone = crowd.leave([crowd.on(name)[0] for name in NODES], "close")
    store.admin.flushall()
    judge.verdict(gone, bound=RECOVERY + CLIENT_CLOSE + SWEEP, since=time.time())
    after = epochs(cluster, crowd.names)
    assert all(after[user] != before[user] for user in before)
    assert sum(len(crowd.ended(name)) for name in NODES) == len(gone), "nobody was sent away"


async def test_row_22_while_the_memory_is_full_nobody_is_judged_and_nobody_new_comes_in(
    cluster: Cluster, crowd: Crowd, judge: Judge, store: RedisProcess
) -> None:
    store.admin.config_set("maxmemory-policy", "noeviction")
    store.admin.config_set("maxmemory", "1mb")
    try:
        gone = crowd.leave([crowd.on(name)[0] for name in NODES], "close")
        none_ready(cluster)
        with pytest.raises((OSError, WebSocketException, TimeoutError)):
            await enter(cluster.ws_url("n1"), cluster.token("newcomer"), "newcomer")
        time.sleep(CLIENT_CLOSE + SWEEP)
        assert judge.offlines() == []
    finally:
        store.admin.config_set("maxmemory", "0")
    judge.verdict(gone, bound=CLOCK_HOLD + CLIENT_CLOSE + SWEEP, since=time.time())
    assert sum(len(crowd.ended(name)) for name in NODES) == len(gone), "nobody was sent away"
