"""Rows 1, 2, 3, 14, 15, 16 and 24 of the failure matrix: what happens to nodes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import stillhere
from tests.acceptance.faults.cluster import (
    ABNORMAL,
    BEAT,
    CLIENT_CLOSE,
    DRAIN,
    LEASE,
    NODE_DRAIN,
    NODE_LOST,
    NODES,
    SWEEP,
    TOLERANCE,
    Cluster,
)
from tests.acceptance.faults.judge import Judge
from tests.acceptance.faults.people import Crowd
from tests.acceptance.faults.proxy import SWALLOW
from tests.acceptance.faults.redis_process import RedisProcess

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(store: RedisProcess) -> Iterator[Cluster]:
    """Clients come through proxies too: the storm is made there."""
    with Cluster(store.url, fronts=True) as found:
        yield found


def test_row_01_a_killed_node_shows_nobody_offline_who_comes_back_and_the_others_within_lease_and_window(
    cluster: Cluster, crowd: Crowd, judge: Judge
) -> None:
    doomed = crowd.on("n1")[:10]
    crowd.doom(doomed)
    cluster.nodes["n1"].kill()
    gone = crowd.departed(doomed, LEASE - BEAT + NODE_LOST)
    judge.verdict(gone, bound=LEASE + NODE_LOST + SWEEP, tolerance=TOLERANCE)


def test_row_02_a_node_that_stands_still_for_less_than_its_lease_is_not_noticed(
    cluster: Cluster, crowd: Crowd, judge: Judge
) -> None:
    still = LEASE - BEAT - 1.0
    cluster.nodes["n1"].pause()
    gone = crowd.leave(crowd.on("n2")[:5], "close")
    time.sleep(still)
    cluster.nodes["n1"].resume()
    judge.verdict(gone, bound=still + CLIENT_CLOSE + SWEEP)
    assert crowd.ended("n1") == []
    assert cluster.nodes["n1"].log("lease_lost") == []


def test_row_03_a_zombie_comes_back_as_a_new_incarnation_and_its_people_were_never_offline(
    cluster: Cluster, crowd: Crowd, judge: Judge
) -> None:
    zombie = cluster.nodes["n1"]
    zombie.pause()
    away = crowd.on("n1")[:5]
    gone = crowd.leave(away, "abort")
    time.sleep(LEASE + 3.0)
    zombie.resume()
    resumed = time.time()
    zombie.wait_log("lease_lost", timeout=10)
    judge.verdict(gone, bound=NODE_LOST + SWEEP, since=resumed)
    assert len(crowd.ended("n1")) == len(away), "only those who went have lost their connections"


def test_row_14_a_rolling_deploy_flips_nobody(cluster: Cluster, crowd: Crowd, judge: Judge) -> None:
    doomed: list[str] = []
    for name in NODES:
        if name == "n3":
            doomed = crowd.on(name)[:5]
            crowd.doom(doomed)
        node = cluster.nodes[name]
        assert node.terminate() == 0
        node.start()
        crowd.wait_connected()
    gone = crowd.departed(doomed, NODE_DRAIN)
    judge.verdict(gone, bound=NODE_DRAIN + DRAIN + SWEEP, tolerance=NODE_DRAIN)
    codes = {span.code for name in NODES for span in crowd.ended(name)}
    assert codes == {1012}, "everybody was told that this is a restart"


def test_row_15_a_reconnect_storm_flips_nobody(cluster: Cluster, crowd: Crowd, judge: Judge) -> None:
    doomed = crowd.on("n2")[:5]
    crowd.doom(doomed)
    for _ in range(4):
        for front in cluster.fronts.values():
            front.reset()
        crowd.departed(doomed, ABNORMAL)
        crowd.wait_connected()
    gone = crowd.departed(doomed, ABNORMAL)
    judge.verdict(gone, bound=ABNORMAL + SWEEP, tolerance=ABNORMAL)
    assert sum(len(crowd.ended(name)) for name in NODES) >= 4 * (len(crowd.names) - len(doomed))


def test_row_24_two_versions_of_the_library_serve_side_by_side_during_a_deploy(
    cluster: Cluster, crowd: Crowd, judge: Judge, store: RedisProcess, tmp_path: Path
) -> None:
    before = len(store.admin.function_list())
    cluster.nodes["n3"].terminate()
    newer = cluster.nodes["n3"] = cluster.new_node("n3", {"PYTHONPATH": str(with_another_library(tmp_path))})
    newer.start()
    cluster.fronts["n3"].lead_to("127.0.0.1", newer.port)
    crowd.wait_connected()
    assert len(store.admin.function_list()) == before + 1, "the nodes call two libraries"
    # whoever has moved away comes back: all three nodes write and sweep, each with its own library
    crowd.gather()
    gone = crowd.leave([user for name in NODES for user in crowd.on(name)[:3]], "close")
    crowd.lose([user for name in NODES for user in crowd.on(name)[:5]])
    # the windows of those who were on the node that was replaced may still be open
    judge.verdict(gone, bound=NODE_DRAIN + SWEEP, tolerance=ABNORMAL)
    assert newer.log("lease_lost") == []


def with_another_library(folder: Path) -> Path:
    """A copy of the package whose Lua is another text; returns what to put on the path."""
    package = Path(stillhere.__file__).parent
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__", "pages"))
    texts = list((folder / package.name).rglob("*.lua"))
    assert texts
    for text in texts:
        text.write_text(text.read_text("utf-8") + "\n-- another version\n", "utf-8")
    return folder


def test_row_16_when_the_sweeping_node_dies_another_one_goes_on(cluster: Cluster, crowd: Crowd, judge: Judge) -> None:
    leaving = crowd.on("n2")[:15] + crowd.on("n3")[:15]
    gone = crowd.leave(leaving, "close")
    due = max(departure.at for departure in gone) + CLIENT_CLOSE
    time.sleep(max(0.0, due - 0.2 - time.time()))
    cluster.roads["n1"].fault(down=SWALLOW)
    time.sleep(max(0.0, due + 0.05 - time.time()))
    cluster.nodes["n1"].kill()
    judge.verdict(gone, bound=CLIENT_CLOSE + 2 * SWEEP, tolerance=TOLERANCE)
