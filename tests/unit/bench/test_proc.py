"""Reading /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from bench.machine import parse_cpu_model
from bench.proc import cpu_seconds, parse_pss, parse_stat, pss_bytes, tree

STAT = "4711 ({name}) S 42 4711 4711 0 -1 4194560 100 0 0 0 150 25 7 8 20 0 3 0 12345 1000 200 18446744073709551615"


@pytest.mark.parametrize("name", ["node", "a b", "x) S 9 (y", "((", "☃"])
def test_the_name_of_a_command_cannot_shift_the_fields(name: str) -> None:
    assert parse_stat(STAT.replace("{name}", name)) == (42, 175)


def test_the_proportional_set_size_is_in_bytes() -> None:
    assert parse_pss("00400000-7ffc [rollup]\nRss:  9000 kB\nPss:  2048 kB\nPss_Dirty:  5 kB\n") == 2048 * 1024


def test_a_report_without_it_is_refused() -> None:
    with pytest.raises(ValueError, match="Pss:"):
        parse_pss("Rss: 1 kB\n")


def test_the_model_of_the_processor_is_found_and_may_be_missing() -> None:
    assert parse_cpu_model("processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n") == "AMD EPYC"
    assert parse_cpu_model("Hardware\t: something\n") == "unknown"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_child_belongs_to_the_tree_and_costs_what_it_uses() -> None:
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        end = time.monotonic() + 20
        while cpu_seconds([child.pid]) < 0.05 and time.monotonic() < end:
            time.sleep(0.02)
        assert child.pid in tree(os.getpid())
        assert tree(child.pid) == [child.pid]
        assert cpu_seconds([child.pid]) >= 0.05
        assert pss_bytes([child.pid]) > 100_000
    finally:
        child.kill()
        child.wait()
