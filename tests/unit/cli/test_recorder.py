"""The commands of the flight recorder over recordings in files: what they print, and what they say of a bad one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillhere.core.events import Entry
from stillhere.core.words import Cause
from stillhere.wire.recording import Header, read_recording, write_entry, write_header
from tests.unit.cli.test_commands import run
from tests.unit.core.world import World


def history() -> World:
    """Two users on one node: a false offline, a page that goes for good, a bye."""
    world = World({Cause.GOING_AWAY: 1.0})
    alice = world.connect("alice", "t_a")
    bob = world.connect("bob", "t_b", "s2")
    world.advance(2.0)
    world.end(alice)
    world.advance(3.0)
    alice = world.connect("alice", "t_a")
    world.advance(1.0)
    world.bye(bob)
    world.end(alice)
    world.advance(30.0)
    return world


def write(path: Path, entries: list[Entry], at: float) -> Path:
    path.write_bytes(b"".join([write_header(Header(exported_at=at)), *map(write_entry, entries)]))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    world = history()
    return write(tmp_path / "log.jsonl", world.entries, world.now)


# -- replay -----------------------------------------------------------------------------------------------------------


def test_a_replay_under_the_recorded_windows_changes_nothing(log: Path) -> None:
    told = run("replay", str(log))
    assert told.exit_code == 0, told.output
    assert "2 users" in told.output and "with the recorded windows" in told.output
    assert "shown otherwise" not in told.output
    assert [line.split()[-2:] for line in told.output.splitlines() if line.startswith("false")] == [["1", "1"]]


def test_a_replay_under_another_window_shows_what_would_have_been_shown(log: Path) -> None:
    told = run("replay", str(log), "--grace", "going_away=4000")
    assert told.exit_code == 0, told.output
    assert told.output.splitlines() == [
        "2 users, 19 entries; with going_away=4000",
        "                AS RECORDED    WITH THESE",
        "OFFLINE shown   3              2",
        "false offlines  1              0",
        "ghost time      2 s            4 s",
        "  bye           0 false, 0 ms  0 false, 0 ms",
        "  going_away    1 false, 2 s   0 false, 4 s",
        "",
        "shown otherwise (- as recorded, + with these windows; UTC):",
        "- 1970-01-01 00:17:07.000  alice  PRESENCE_OFFLINE  cause=going_away",
        "- 1970-01-01 00:17:09.000  alice  PRESENCE_ONLINE  cause=connection_open",
        "- 1970-01-01 00:17:11.000  alice  PRESENCE_OFFLINE  cause=going_away",
        "+ 1970-01-01 00:17:14.000  alice  PRESENCE_OFFLINE  cause=going_away",
    ]


def test_figures_come_as_json_too(log: Path) -> None:
    told = json.loads(run("replay", str(log), "--grace", "going_away=0", "--json").output)
    assert (told["users"], told["skipped"], told["unfaithful"]) == (2, 0, [])
    assert told["windowsMs"] == {"going_away": 0}
    assert told["recorded"]["tooShortMs"] == {"going_away": 2000}
    assert told["replayed"] == {
        "offline": 3, "falseOffline": {"going_away": 1}, "tooShortMs": {"going_away": 3000},
        "ghostMs": {"going_away": 0, "bye": 0},
    }  # fmt: skip


def test_a_profile_gives_the_windows_and_a_window_wins_over_it(log: Path) -> None:
    told = json.loads(run("replay", str(log), "--profile", "fast", "--grace", "abnormal=1000", "--json").output)
    assert (told["windowsMs"]["going_away"], told["windowsMs"]["abnormal"]) == (4000, 1000)


def test_long_lists_of_changes_are_cut_unless_all_are_asked_for(tmp_path: Path) -> None:
    world = World({Cause.GOING_AWAY: 1.0})
    for _ in range(15):
        world.end(world.connect())
        world.advance(2.0)
    log = write(tmp_path / "log.jsonl", world.entries, world.now)
    told = run("replay", str(log), "--grace", "going_away=30000").output
    assert told.splitlines()[-1] == "… and 9 more; --changes lists all"
    everything = run("replay", str(log), "--grace", "going_away=30000", "--changes").output
    assert "more;" not in everything and len(everything.splitlines()) == len(told.splitlines()) + 8


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("going_away", "it must be CAUSE=MS, with a cause out of client_close, going_away"),
        ("bye=1", "it must be CAUSE=MS"),
        ("boredom=1", "it must be CAUSE=MS"),
        ("going_away=soon", "the window must be 0 to 300000 milliseconds"),
        ("going_away=-1", "the window must be 0 to 300000 milliseconds"),
        ("going_away=300001", "the window must be 0 to 300000 milliseconds"),
    ],
)
def test_a_window_that_cannot_be_is_refused(log: Path, given: str, sentence: str) -> None:
    told = run("replay", str(log), "--grace", given)
    assert told.exit_code == 2 and sentence in told.output


def test_what_cannot_be_replayed_is_said(tmp_path: Path) -> None:
    world = history()
    cut = [e for e in world.entries if e.at > 1026.0]
    holes = [e for e in world.entries if type(e).__name__ != "GraceStarted"]
    told = run("replay", str(write(tmp_path / "cut.jsonl", cut, world.now)))
    assert "stillhere: of 2 users the timeline was cut: " in told.output
    told = run("replay", str(write(tmp_path / "holes.jsonl", holes, world.now)))
    assert "stillhere: what was recorded of alice does not follow from what was told of it" in told.output


# -- advise -----------------------------------------------------------------------------------------------------------


def test_advice_is_a_curve_and_the_shortest_window_that_is_good_enough(log: Path) -> None:
    before = log.read_bytes()
    told = run("advise", str(log), "--rate", "0.01")
    assert told.exit_code == 0, told.output
    lines = told.output.splitlines()
    assert lines[0] == "going_away: 2 ends"
    assert lines[1].split() == ["WINDOW", "FALSE", "OFFLINES", "RATE", "GHOST", "TIME"]
    assert "  1 s     1               50.00%  2 s         recorded" in lines
    assert "  5 s     0               0.00%   5 s         <-" in lines
    assert "  for a rate of at most 0.01: grace.going_away = 5000 (ms)" in lines
    assert "  2 ends are few for such a rate: record for longer before you trust it" in lines
    assert log.read_bytes() == before
    assert "are few" not in run("advise", str(log), "--rate", "1").output


def test_advice_comes_as_json_too(log: Path) -> None:
    (cause,) = json.loads(run("advise", str(log), "--json").output)["causes"]
    assert (cause["cause"], cause["ends"], cause["recordedMs"], cause["adviceMs"]) == ("going_away", 2, [1000], 5000)
    assert {"windowMs": 1000, "falseOfflines": 1, "rate": 0.5, "ghostMs": 2000} in cause["points"]


def test_where_nothing_ended_there_is_nothing_to_advise(tmp_path: Path) -> None:
    world = World()
    world.bye(world.connect())
    told = run("advise", str(write(tmp_path / "log.jsonl", world.entries, world.now)))
    assert told.output == "no connection ended in this recording with a cause that has a window\n"


# -- explain and timeline, out of a file ------------------------------------------------------------------------------


def test_a_recording_is_explained_like_a_server(log: Path) -> None:
    told = run("explain", "alice", "--from", str(log), "--at", "1027500")
    assert told.exit_code == 0, told.output
    lines = told.output.splitlines()
    assert "its window of 1 s ran out. alice came back 3 s after the close: a false offline; " in lines[0]
    assert lines[1].startswith("grace.going_away = 3500 (ms) would have covered it; `stillhere replay … --grace")
    assert any("PRESENCE_OFFLINE" in line for line in lines[3:])
    as_json = json.loads(run("explain", "alice", "--from", str(log), "--at=-20s", "--json").output)
    assert (as_json["status"], as_json["rule"]) == ("offline", "window_ran_out")
    assert (
        run("explain", "alice", "--from", str(log), "--at", "2030-01-01").output.count("ahead of the server's clock")
        == 1
    )


def test_a_recording_is_shown_as_lines_and_as_json(log: Path) -> None:
    told = run("timeline", "bob", "--from", str(log))
    assert [line.split()[2] for line in told.output.splitlines()] == [
        "opened",
        "PRESENCE_ONLINE",
        "closed",
        "PRESENCE_OFFLINE",
    ]
    both = run("timeline", "--all", "--from", str(log), "--after", "-30s").output.splitlines()
    assert both and all(line.startswith("alice  ") for line in both)
    items = [json.loads(line) for line in run("timeline", "bob", "--from", str(log), "--json").output.splitlines()]
    assert (items[0]["user"], items[0]["type"]) == ("bob", "opened")


def test_an_export_of_a_recording_can_be_pseudonymous_and_consistent(log: Path, tmp_path: Path) -> None:
    for name in ("one.jsonl", "two.jsonl"):
        told = run(
            "timeline", "--all", "--from", str(log), "--export", str(tmp_path / name), "--pseudonymise", "--key", "k"
        )
        assert told.exit_code == 0 and "19 entries of 2 users in" in told.output
    one, two = ((tmp_path / name).read_bytes() for name in ("one.jsonl", "two.jsonl"))
    assert one == two and b"alice" not in one
    assert (tmp_path / "one.jsonl").stat().st_mode & 0o077 == 0
    figures = [
        json.loads(run("replay", str(path), "--json").output)["recorded"] for path in (log, tmp_path / "one.jsonl")
    ]
    assert figures[0] == figures[1]
    told = run("timeline", "alice", "--from", str(log), "--export", "-")
    assert list(read_recording(told.stdout_bytes.splitlines()).timelines) == ["alice"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["timeline"], "name users, or say --all"),
        (["timeline", "a", "--key", "k"], "--pseudonymise and --key are for --export"),
        (["timeline", "a", "--export", "x", "--after", "-1m"], "--export takes timelines whole"),
        (["timeline", "carol", "--from", "LOG"], "has nothing of carol; it has alice, bob"),
        (["timeline", "alice", "--from", "LOG", "--after", "soon"], "'soon' is no instant"),
        (["timeline", "alice", "--from", "LOG", "--export", "/nonexistent/x"], "cannot be written: No such file"),
        (["explain", "carol", "--from", "LOG"], "has nothing of carol"),
        (["explain", "alice", "--from", "LOG", "--at", "soon"], "--at: 'soon' is no instant; it must be milliseconds"),
        (["replay", "/nonexistent.jsonl"], "/nonexistent.jsonl cannot be read: No such file"),
        (["advise", "/nonexistent.jsonl"], "/nonexistent.jsonl cannot be read: No such file"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(log: Path, arguments: list[str], sentence: str) -> None:
    told = run(*[str(log) if a == "LOG" else a for a in arguments])
    assert told.exit_code == 2 and sentence in told.output


def test_a_broken_line_is_named_with_its_number(log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines[:6], lines[6][:20], b"\n", *lines[7:]]))
    told = run("replay", str(log))
    assert told.exit_code == 2 and f"{log}, line 7: it is not JSON" in told.output
