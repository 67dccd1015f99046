"""Rows 12 and 13 of the failure matrix: clocks that jump by hours.

A small library, compiled when the tests run, shifts the wall clock of one process and leaves its monotonic clock alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.faults.cluster import ABNORMAL, CLIENT_CLOSE, CLOCK_HOLD, NODES, SWEEP, Cluster
from tests.acceptance.faults.judge import Judge
from tests.acceptance.faults.people import Crowd
from tests.acceptance.faults.redis_process import RedisProcess

pytestmark = pytest.mark.slow

HOUR = 3600
SOURCE = Path(__file__).with_name("clock_shift.c")


class Clock:
    """The wall clock of one process."""

    def __init__(self, file: Path, library: Path) -> None:
        self._file = file
        self.environ = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_SHIFT": str(file)}
        self.set(0)

    def set(self, seconds: int) -> None:
        """Let it be so many seconds fast, or slow."""
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._file)  # never read half-written


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or os.uname().sysname != "Linux":
        pytest.skip("a process's clock is shifted with a preloaded library: that needs Linux and a C compiler (cc)")
    found = tmp_path_factory.mktemp("clock") / "clock_shift.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(found), str(SOURCE)], check=True)
    return found


@pytest.fixture(scope="module")
def store_clock(library: Path) -> Clock:
    return Clock(library.with_name("store"), library)


@pytest.fixture(scope="module")
def node_clock(library: Path) -> Clock:
    return Clock(library.with_name("node"), library)


@pytest.fixture(scope="module")
def store(store_clock: Clock) -> Iterator[RedisProcess]:
    with RedisProcess(persistent=True, environ=store_clock.environ) as server:
        yield server


@pytest.fixture(scope="module")
def cluster(store: RedisProcess, node_clock: Clock) -> Iterator[Cluster]:
    """Node n1 has a clock of its own."""
    own = {name: node_clock.environ[name] for name in ("LD_PRELOAD", "CLOCK_SHIFT")}
    with Cluster(store.url, environ={"n1": own}) as found:
        yield found


def test_row_13_a_clock_of_a_node_that_jumps_by_hours_changes_nothing(
    cluster: Cluster, crowd: Crowd, judge: Judge, node_clock: Clock
) -> None:
    gone = []
    for shift in (HOUR, -HOUR, 0):
        gone += crowd.leave([user for name in NODES for user in crowd.on(name)[:2]], "close")
        node_clock.set(shift)
        judge.gone_by(gone, CLIENT_CLOSE + SWEEP)
    judge.verdict(gone, bound=CLIENT_CLOSE + SWEEP, early=0.2)
    assert sum(len(crowd.ended(name)) for name in NODES) == len(gone), "nobody was sent away"


def test_row_12_a_clock_of_the_store_that_jumps_by_hours_shortens_no_window_by_more_than_it_may(
    cluster: Cluster, crowd: Crowd, judge: Judge, store: RedisProcess, store_clock: Clock
) -> None:
    gone = crowd.leave([crowd.on(name)[0] for name in NODES], "abort")
    crowd.lose(crowd.on("n1")[:10])
    before = store.admin.time()[0]
    store_clock.set(HOUR)
    assert store.admin.time()[0] - before >= HOUR
    time.sleep(2.0)
    gone += crowd.leave([crowd.on(name)[0] for name in NODES], "close")
    store_clock.set(-HOUR)
    jumped = time.time()
    judge.verdict(gone, bound=ABNORMAL + 2 * CLOCK_HOLD + SWEEP, since=jumped, tolerance=ABNORMAL)
