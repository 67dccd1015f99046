"""A process with a sqlite store under load is killed at any moment, fifty times in a row on the same file."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stillhere.core.events import Change, Transition
from stillhere.core.record import Record
from stillhere.core.show import counted
from stillhere.core.words import Availability, Incarnation, Phase, RoomName, Status, UserId
from stillhere.store.sqlite_file import Loaded, open_file

KILLS = 50
APP = Path(__file__).with_name("sqlite_kill_app.py")
READY_WITHIN = 20.0


class Story:
    """What one killed process had told."""

    def __init__(self, said: str) -> None:
        self.shown: dict[str, str] | None = None
        self.tried: dict[str, dict[int, list[str]]] = {}
        self.acknowledged: dict[str, int] = {}
        self.version = 0
        for line in said.splitlines(keepends=True):
            if line.endswith("\n"):
                self.hear(json.loads(line))

    def hear(self, line: list[Any]) -> None:
        match line:
            case ["ready", shown]:
                self.shown = shown
            case ["try", user, revision, connections]:
                self.tried.setdefault(user, {})[revision] = connections
            case ["ack", user, revision, version]:
                self.acknowledged[user] = revision
                self.version = max(self.version, version)


class File:
    """What is in the file, followed over all kills."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seq = 0
        self.users: dict[UserId, Transition] = {}
        self.rooms: dict[tuple[UserId, RoomName], Transition] = {}
        self.online: set[UserId] = set()
        self.epochs: list[tuple[int, int]] = []

    def check(self, story: Story, incarnation: Incarnation) -> None:
        connection, loaded = open_file(self.path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT seq, entry FROM log WHERE seq > ? ORDER BY seq", (self.seq,)).fetchall()
        connection.close()
        if loaded.state is None:
            assert story.shown is None, "it had started, and nothing of it is in the file"
            return
        assert not loaded.clean
        self.check_restart(story, loaded)
        self.check_log([(seq, msgspec.msgpack.decode(entry, type=Transition)) for seq, entry in rows])
        assert self.seq == loaded.state.seq >= story.version
        for record in loaded.records:
            self.check_record(record)
        assert {record.user for record in loaded.records if record.shown.version} == set(self.users)
        check_acknowledged(story, {record.user: record for record in loaded.records}, incarnation)

    def check_restart(self, story: Story, loaded: Loaded) -> None:
        """Nobody who was shown before the start was flipped by it."""
        assert loaded.epochs[: len(self.epochs)] == self.epochs
        assert loaded.epochs == sorted(set(loaded.epochs))
        self.epochs = loaded.epochs
        if story.shown is not None:
            assert {user for user, status in story.shown.items() if status != Status.OFFLINE} == self.online

    def check_log(self, entries: list[tuple[int, Transition]]) -> None:
        """Contiguous, and each user alternates."""
        for seq, entry in entries:
            self.seq += 1
            assert seq == entry.version == self.seq
            if entry.room is not None:
                before = self.rooms.get((entry.user, entry.room))
                there = before is not None and before.change is not Change.LEFT
                assert there is (entry.change is not Change.JOINED), f"{entry} after {before}"
                self.rooms[entry.user, entry.room] = entry
            else:
                assert (entry.user in self.online) is (entry.change is not Change.ONLINE), entry
                (self.online.discard if entry.change is Change.OFFLINE else self.online.add)(entry.user)
                self.users[entry.user] = entry

    def check_record(self, record: Record) -> None:
        """The record agrees with itself and with the log."""
        held = [hold for tab, hold in record.holds.items() if hold.connection.tab == tab]
        assert len(held) == len(record.holds)
        if record.active_count:
            assert record.phase is Phase.ONLINE
        else:
            assert record.phase is (Phase.HELD if record.holds else Phase.OFFLINE)
        assert (record.grace is not None) is (record.phase is Phase.HELD)
        if record.grace is not None:
            assert record.grace.deadline == max(hold.deadline for hold in held)
        hidden = any(c.availability is Availability.INVISIBLE for c in counted(record))
        assert (record.shown.status is Status.OFFLINE) is (record.phase is Phase.OFFLINE or hidden)
        if record.user in self.users:
            assert record.shown == self.users[record.user].shown
        for (user, room), entry in self.rooms.items():
            if user == record.user:
                assert record.members.get(room) == entry.member


def check_acknowledged(story: Story, records: dict[UserId, Record], incarnation: Incarnation) -> None:
    """Of each user the file has what was acknowledged last, or what was on its way after that."""
    if story.shown is None:
        return  # killed before it had started
    for record in records.values():
        assert set(record.shares) <= {incarnation}
    for user, tried in story.tried.items():
        found = records.get(UserId(user))
        share = found.shares.get(incarnation) if found is not None else None
        revision = story.acknowledged.get(user, 0)
        possible = [tried.get(revision, []), tried.get(revision + 1, tried.get(revision, []))]
        assert ([c.id for c in share.connections] if share else []) in possible, f"{user} after revision {revision}"
        if share is not None:
            assert share.revision in (revision, revision + 1)


def run_and_kill(path: Path, incarnation: Incarnation, seed: int, chance: random.Random) -> Story:
    """Start the process and kill it: mostly at work, now and then on its way there."""
    out = path.with_name("said.jsonl")
    with (
        out.open("wb") as said,
        subprocess.Popen([sys.executable, str(APP), str(path), incarnation, str(seed)], stdout=said) as child,
    ):
        try:
            if chance.random() < 0.8:
                end = time.monotonic() + READY_WITHIN
                while not out.stat().st_size and child.poll() is None and time.monotonic() < end:
                    time.sleep(0.005)
                time.sleep(chance.uniform(0.0, 0.3))
            else:
                time.sleep(chance.uniform(0.05, 0.4))
            assert child.poll() is None, "it ended by itself"
        finally:
            child.kill()
    return Story(out.read_text("utf-8"))


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_the_process_is_killed_fifty_times(tmp_path: Path) -> None:
    path = tmp_path / "stillhere.db"
    chance = random.Random(7)
    file = File(path)
    acknowledged = 0
    for number in range(KILLS):
        incarnation = Incarnation(f"n1.{number}")
        story = run_and_kill(path, incarnation, number, chance)
        if path.exists():
            file.check(story, incarnation)
        acknowledged += sum(story.acknowledged.values())
    assert acknowledged > 100 * KILLS, "there was no load to speak of"
    assert file.seq > 100 * KILLS
