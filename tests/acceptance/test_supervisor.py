"""The parent of workers, with workers that do nothing but end, hang or stay."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.server import environment

WATCHDOG = 0.5
"""Seconds."""

PARENT = """
import os, sys, time
from pathlib import Path
from stillhere.cli import logs
from stillhere.server.workers import Supervisor

LIVES, HOW, WATCHDOG = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
PARENT = os.getpid()

def work(name, line):
    with LIVES.open("a") as lives:
        lives.write(name + "\\n")
    life = LIVES.read_text().count(name)
    if HOW == "refused" and (name == "b" or life > 1):
        return 2
    if HOW == "raises":
        raise ValueError("a worker that fails")
    line.send("READY=1")
    if HOW == "ends" and name == "a" and life < 5:
        sys.exit(3)
    if HOW == "hangs" and life == 1:
        time.sleep(600)
    while os.getppid() == PARENT:
        time.sleep(WATCHDOG / 10 or 0.1)
        line.send("WATCHDOG=1")

logs.configure("json")
names = ["a", "b"]
sys.exit(Supervisor(names, work, notify=lambda word: print(word, flush=True), watchdog=WATCHDOG).run())
"""


@contextmanager
def parent(tmp_path: Path, how: str, watchdog: float = 0.0) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "lives"), how, str(watchdog)]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.terminate()


def lines(process: subprocess.Popen[str]) -> Iterator[Any]:
    """What the parent says: words for a service manager as they are, log lines as tables; until it ends."""
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line) if line.startswith("{") else line.strip()


def told(process: subprocess.Popen[str], event: str, number: int = 1, **fields: object) -> list[dict[str, Any]]:
    """The next so many log lines of this kind."""
    found: list[dict[str, Any]] = []
    for line in lines(process):
        if isinstance(line, dict) and line["event"] == event and fields.items() <= line.items():
            found.append(line)
            if len(found) == number:
                return found
    raise AssertionError(f"it ended after {found}")


def test_a_worker_that_keeps_ending_is_started_again_after_longer_and_longer_pauses(tmp_path: Path) -> None:
    with parent(tmp_path, "ends") as process:
        ends = told(process, "worker_ended", 4)
        assert {(end["worker"], end["status"]) for end in ends} == {("a", 3)}
        assert [end["again_in_s"] for end in ends] == [0.0, 0.5, 1.0, 2.0]
        told(process, "worker_started", worker="a")  # its fifth life is a long one


def test_a_worker_that_says_nothing_is_killed_and_replaced_and_a_service_manager_hears_of_the_whole(
    tmp_path: Path,
) -> None:
    with parent(tmp_path, "hangs", WATCHDOG) as process:
        told(process, "worker_silent", worker="a")
        (end,) = told(process, "worker_ended", worker="a")
        assert end["status"] == -signal.SIGKILL
        said = lines(process)
        assert "WATCHDOG=1" in said
        process.send_signal(signal.SIGTERM)
        assert "STOPPING=1" in said


def test_it_is_ready_when_all_workers_are_and_stops_with_the_status_of_the_stop(tmp_path: Path) -> None:
    with parent(tmp_path, "stays") as process:
        said = lines(process)
        assert next(line["event"] for line in said if isinstance(line, dict)) == "worker_started"
        assert "READY=1" in said
        process.send_signal(signal.SIGINT)  # these workers have no drain: they end by the signal
        assert process.wait(30) == 1


@pytest.mark.parametrize(("how", "status"), [("refused", 2), ("raises", 1)])
def test_a_worker_that_cannot_start_ends_the_start_with_its_status(tmp_path: Path, how: str, status: int) -> None:
    with parent(tmp_path, how) as process:
        _, error = process.communicate(timeout=30)
        assert process.returncode == status
        assert ("ValueError: a worker that fails" in error) is (how == "raises")
        assert (tmp_path / "lives").read_text().split() == (["a", "b"] if how == "refused" else ["a"])
