"""Recordings: what is written is read again, what is wrong is said with its line, pseudonyms keep all that matters."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings

from stillhere.core.clock import ClockLimits
from stillhere.core.events import Given
from stillhere.core.leases import Limits
from stillhere.core.replay import by_user, replay, without_version
from stillhere.core.words import Cause, ConnectionId, Incarnation, SessionId
from stillhere.wire.pseudonyms import Masks, Pseudonyms
from stillhere.wire.recording import BrokenRecording, Header, read_recording, write_entry, write_header
from tests.unit.core.scripts import ALL, NODES, Step, Teller, scripts
from tests.unit.core.world import ALICE, World

CLUSTER = Limits(watchers_outlive=True, clock=ClockLimits(gap_hold=6.0, recovery_hold=20.0))
HEAD = write_header(Header(exported_at=1.5, horizon=20.0, windows={"going_away": 8.0}))


def history(script: list[Step] | None = None) -> World:
    world = World(nodes=NODES, limits=CLUSTER)
    if script is not None:
        Teller(world).tell(script)
        return world
    c = world.connect(info={"name": "Alice", "big": 10**30})
    world.state(c, None, {"mood": {"deep": [1, None]}})
    world.join(c, "lobby", {"seat": 3})
    world.end(c)
    world.advance(20.0)
    return world


@settings(max_examples=settings().max_examples, deadline=None)
@given(scripts(ALL))
def test_what_is_written_is_read_again_to_the_last_digit(script: list[Step]) -> None:
    entries = history(script).entries
    found = read_recording([HEAD, *map(write_entry, entries)])
    assert found.timelines == by_user(entries)
    assert (found.exported_at, found.horizon, found.windows) == (1.5, 20.0, {"going_away": 8.0})


@settings(max_examples=settings().max_examples, deadline=None)
@given(scripts(ALL))
def test_under_pseudonyms_the_same_happens_again(script: list[Step]) -> None:
    masks = Pseudonyms(b"a key")
    entries = history(script).entries
    hidden = [masks.entry(entry) for entry in entries]
    for user, timeline in by_user(hidden).items():
        run = replay(timeline)
        was = [e for e in entries if masks.user(e.user) == user]
        assert [without_version(e) for e in run.twin] == [without_version(e) for e in run.recorded]
        assert len(was) == len(timeline)


def test_a_line_can_be_read_by_people() -> None:
    lines = [json.loads(write_entry(entry)) for entry in history().entries]
    assert [line["entry"] for line in lines][:2] == ["told", "transition"]
    assert lines[0]["connections"][0] == {
        "id": "c0001", "session": "s1", "tab": "t1", "ready": "OPEN", "openedAt": 1024.0,
        "info": {"name": "Alice", "big": 10**30},
    }  # fmt: skip
    assert lines[0]["fresh"] is True


def test_several_recordings_may_stand_one_after_the_other() -> None:
    world = World()
    world.connect("alice")
    world.connect("bob")
    first, second = (
        [write_header(Header(exported_at=at)), *map(write_entry, entries)]
        for at, entries in zip((9.0, 7.0), by_user(world.entries).values(), strict=True)
    )
    found = read_recording([*first, b"\n", *second])
    assert found.exported_at == 9.0
    assert found.entries == len(world.entries) and list(found.timelines) == ["alice", "bob"]


def test_an_older_reader_passes_over_fields_that_it_does_not_know() -> None:
    line = json.loads(write_entry(history().entries[0])) | {"weather": "fine"}
    assert read_recording([HEAD, json.dumps(line).encode()]).entries == 1


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "line 1: there is nothing; a recording begins with a header"),
        ([b"\n", b"hello\n"], "line 2: it is not JSON"),
        ([b"\xff\xfe"], "line 1: it is not JSON"),
        ([b"[" * 5000], "line 1: it is not JSON"),
        ([b"{}"], "line 1: it is no header; a recording begins with"),
        ([b'{"stillhere":"settings"}'], "line 1: it is the header of something else: 'settings'"),
        ([b'{"stillhere":"recording","version":2,"exportedAt":1}'], "line 1: it is of version 2 of the format"),
        ([b'{"stillhere":"recording","version":1}'], "line 1: the header is not right: .*exportedAt"),
        ([HEAD, b"7"], "line 2: its entry is 'None'; it must be one of told"),
        ([HEAD, b'{"entry":"gossip"}'], "line 2: its entry is 'gossip'"),
        ([HEAD, b'{"entry":"told","user":"a"}'], "line 2: the entry is not right: .*at"),
        (
            [HEAD, b'{"entry":"grace_started","user":"a","at":1,"cause":"boredom","window":1,"endedAt":1}'],
            "line 2: the entry is not right: .*boredom",
        ),
    ],
)
def test_a_line_that_is_wrong_is_named_with_the_reason(lines: list[bytes], sentence: str) -> None:
    with pytest.raises(BrokenRecording, match=sentence):
        read_recording(lines)


def test_a_line_that_was_cut_off_is_named() -> None:
    lines = [HEAD, *map(write_entry, history().entries)]
    with pytest.raises(BrokenRecording, match=f"line {len(lines)}: it is not JSON .*; was it cut off\\?"):
        read_recording([*lines[:-1], lines[-1][:-9]])


def test_lines_out_of_order_are_noticed() -> None:
    world = history()
    told = [n for n, e in enumerate(world.entries) if isinstance(e, Given)]
    shown = [n for n, e in enumerate(world.entries) if type(e).__name__ == "Transition"]
    lines = list(map(write_entry, world.entries))
    with pytest.raises(
        BrokenRecording, match=r"line 3: the store clock of 'alice' goes back from .* the lines are out of"
    ):
        read_recording([HEAD, lines[told[-1]], lines[told[0]]])
    with pytest.raises(BrokenRecording, match="line 3: version 1 of 'alice' comes after version"):
        read_recording([HEAD, lines[shown[-1]], lines[shown[0]]])
    with pytest.raises(BrokenRecording, match="or the user is in the recording twice"):
        read_recording([HEAD, *lines, *lines])


# -- pseudonyms -------------------------------------------------------------------------------------------------------


def test_of_a_pseudonymous_recording_nobody_can_read_who_it_was() -> None:
    world = history()
    world.connect()
    world.nodes["n1"].roster.dismiss(ALICE, Cause.KICKED, world.now, 4004, "for spam")
    world.turn()
    masks = Pseudonyms(b"a key")
    text = b"".join(write_entry(masks.entry(entry)) for entry in world.entries).decode()
    assert not re.search(r'alice|"s1"|"t1"|c000|lobby|Alice|mood|calm|seat|n1|spam', text)
    other = Pseudonyms(b"another key")
    assert masks.user(ALICE) == Pseudonyms(b"a key").user(ALICE) != other.user(ALICE)


def test_nodes_keep_their_names_apart_and_incarnations_too() -> None:
    masks = Pseudonyms(b"a key")
    first, second, other = (masks.node(Incarnation(name)) for name in ("n1-aa", "n1-bb", "n2-aa"))
    assert first.split("-")[0] == second.split("-")[0] != other.split("-")[0]
    assert len({first, second, other, masks.node(Incarnation("n1"))}) == 4


def test_nobodys_ids_stay_nobodys() -> None:
    for masks in (Masks(b"a key"), Pseudonyms(b"a key")):
        assert masks.connection(ConnectionId("")) == "" == masks.session(SessionId(""))


def test_what_a_server_gives_away_is_enough_to_follow_and_not_to_use() -> None:
    masks = Masks(b"a key")
    entries = history().entries
    text = b"".join(write_entry(masks.entry(entry)) for entry in entries).decode()
    assert '"alice"' in text and '"lobby"' in text and "mood" in text
    assert masks.connection(ConnectionId("c_1234567890")).startswith("c_123456…")
    assert masks.session(SessionId("secret-session")).startswith("sec…")
    assert "c_1234567890" not in masks.connection(ConnectionId("c_1234567890"))
    assert replay([masks.entry(entry) for entry in entries]).faithful
