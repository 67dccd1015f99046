"""What is followed: the newest state of a user or a room, encoded once."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stillhere.core.events import Change, Transition
from stillhere.core.record import NOBODY, Shown, ShownMember
from stillhere.core.words import RoomName, Status, UserId
from stillhere.server.socket import Socket
from stillhere.server.topics import RoomTopic, Topic, UserTopic
from stillhere.store.contract import Cursor, RoomSnapshot

ANN, BOB, EVE = UserId("ann"), UserId("bob"), UserId("eve")
LOBBY = RoomName("lobby")


class Ear:
    """A follower that keeps what it is sent."""

    congested = False
    socket: Socket | None = None

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def send(self, frame: bytes) -> None:
        self.heard.append(msgspec.json.decode(frame))

    def miss(self, topic: Topic) -> None: ...


def shown(version: int, status: Status = Status.ONLINE) -> Shown:
    return Shown(status, version, float(version))


def member(version: int, status: Status = Status.ONLINE) -> ShownMember:
    return ShownMember(status, version, 1.0)


def joined(user: UserId, version: int, status: Status = Status.ONLINE) -> Transition:
    return Transition(user, Change.JOINED, version, 0.0, "room", room=LOBBY, member=member(version, status))


def left(user: UserId, version: int) -> Transition:
    return Transition(user, Change.LEFT, version, 0.0, "room", room=LOBBY)


def snapshot(members: dict[UserId, ShownMember], epoch: int, seq: int) -> RoomSnapshot:
    return RoomSnapshot({0: Cursor(epoch, seq)}, members)


def one(user: UserId) -> int:
    """A store of one partition."""
    return 0


def room(**members: int) -> RoomTopic:
    """A room that is loaded with these members at these versions."""
    topic = RoomTopic(LOBBY)
    topic.load(
        snapshot(
            {UserId(user): member(version) for user, version in members.items()}, 7, max(members.values(), default=0)
        ),
        one,
    )
    return topic


def told(frames: list[bytes]) -> dict[str, dict[str, int]]:
    """Users and versions by list, of one frame or none."""
    if not frames:
        return {}
    (frame,) = map(msgspec.json.decode, frames)
    assert frame.pop("type") == "room" and frame.pop("room") == "lobby"
    return {kind: {m["user"]: m["version"] for m in members} for kind, members in frame.items()}


# -- a user ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 20), min_size=1))
def test_a_user_never_goes_back_to_an_older_version(versions: list[int]) -> None:
    topic = UserTopic(ANN)
    newest = -1
    for version in versions:
        assert topic.update(shown(version), "7") is (version > newest)
        newest = max(newest, version)
        assert topic.shown is not None and topic.shown.version == newest
        assert msgspec.json.decode(topic.part)["version"] == newest


def test_a_new_epoch_is_newer_whatever_its_versions_are() -> None:
    topic = UserTopic(ANN)
    assert topic.update(shown(90), "7")
    assert topic.update(shown(2), "8")
    assert msgspec.json.decode(topic.part)["epoch"] == "8"


def test_nobody_is_a_state_too_but_undoes_none() -> None:
    topic = UserTopic(ANN)
    assert topic.update(NOBODY, "7")
    assert topic.update(shown(1), "7")
    assert not topic.update(NOBODY, "7")


def test_who_missed_a_user_is_sent_the_newest_state() -> None:
    topic, ear = UserTopic(ANN), Ear()
    topic.update(shown(3), "7")
    topic.update(shown(4, Status.AWAY), "7")
    topic.catch_up(ear)
    (frame,) = ear.heard
    assert frame["type"] == "presence"
    assert [(u["status"], u["version"]) for u in frame["changes"]] == [("away", 4)]


# -- a room: folding ------------------------------------------------------------------------------------------------


def test_a_room_that_is_not_loaded_takes_no_changes() -> None:
    topic = RoomTopic(LOBBY)
    assert not topic.apply(joined(ANN, 1), 7, 0)
    topic.load(snapshot({ANN: member(1)}, 7, 1), one)
    assert topic.changes() == []


def test_what_is_not_newer_than_the_snapshot_is_dropped() -> None:
    topic = room(ann=5)
    assert not topic.apply(left(ANN, 4), 7, 0)
    assert not topic.apply(left(ANN, 5), 7, 0)
    assert set(topic.members) == {ANN}


def test_a_change_is_told_as_what_it_is() -> None:
    topic = room(ann=1, bob=2)
    for transition in (left(ANN, 3), joined(EVE, 4), joined(BOB, 5, Status.AWAY)):
        assert topic.apply(transition, 7, 0)
    assert told(topic.changes()) == {"leaves": {"ann": 3}, "joins": {"eve": 4}, "updates": {"bob": 5}}
    assert topic.changes() == []


def test_who_came_and_went_between_two_flushes_is_not_told() -> None:
    topic = room(ann=1)
    topic.apply(joined(EVE, 2), 7, 0)
    topic.apply(left(EVE, 3), 7, 0)
    assert topic.changes() == []


def test_who_went_and_came_back_between_two_flushes_is_an_update() -> None:
    topic = room(ann=1)
    topic.apply(left(ANN, 2), 7, 0)
    topic.apply(joined(ANN, 3), 7, 0)
    assert told(topic.changes()) == {"updates": {"ann": 3}}


def test_of_many_changes_of_one_the_newest_is_told() -> None:
    topic = room(ann=1)
    for version in range(2, 50):
        topic.apply(joined(ANN, version, Status.AWAY if version % 2 else Status.BUSY), 7, 0)
    assert told(topic.changes()) == {"updates": {"ann": 49}}


def test_a_leave_bears_the_version_of_the_last_one() -> None:
    topic = room(ann=1)
    topic.apply(left(ANN, 2), 7, 0)
    topic.apply(joined(ANN, 3), 7, 0)
    topic.apply(left(ANN, 4), 7, 0)
    assert told(topic.changes()) == {"leaves": {"ann": 4}}


@given(
    st.lists(st.sampled_from([ANN, BOB, EVE]), unique=True),
    st.lists(st.tuples(st.sampled_from([ANN, BOB, EVE]), st.booleans(), st.booleans())),
)
def test_whoever_applies_the_folded_changes_has_the_room(
    first: list[UserId], steps: list[tuple[UserId, bool, bool]]
) -> None:
    topic = room(**{str(user): i + 1 for i, user in enumerate(first)})
    mine = dict.fromkeys(map(str, first), 0)
    mine |= {str(user): m.version for user, m in topic.members.items()}
    version = len(first)
    for user, comes, flush in steps:
        version += 1
        topic.apply(joined(user, version) if comes else left(user, version), 7, 0)
        if not flush:
            continue
        change = told(topic.changes())
        for gone in change.get("leaves", {}):
            del mine[gone]
        assert not set(change.get("joins", {})) & set(mine)
        mine |= change.get("joins", {})
        assert set(change.get("updates", {})) <= set(mine)
        mine |= change.get("updates", {})
        assert mine == {str(user): m.version for user, m in topic.members.items()}
        whole = msgspec.json.decode(topic.snapshot(1))
        assert {m["user"]: m["version"] for m in whole["members"]} == mine


# -- a room: fresh snapshots ----------------------------------------------------------------------------------------


def test_a_fresh_snapshot_is_told_as_the_difference() -> None:
    topic = room(ann=1, bob=2)
    topic.load(snapshot({BOB: member(2), EVE: member(9)}, 7, 9), one)
    assert told(topic.changes()) == {"leaves": {"ann": 9}, "joins": {"eve": 9}}


def test_an_older_snapshot_changes_nothing() -> None:
    topic = room(ann=5)
    topic.load(snapshot({}, 7, 4), one)
    assert set(topic.members) == {ANN} and topic.changes() == []


def test_a_snapshot_of_a_new_epoch_is_told_whole_in_that_epoch() -> None:
    """Also of members that look the same: whoever compares versions must not mix those of two epochs."""
    topic = room(ann=5, bob=6)
    topic.load(snapshot({ANN: member(5)}, 8, 5), one)
    (frame,) = map(msgspec.json.decode, topic.changes())
    assert [(m["user"], m["epoch"]) for m in frame["updates"]] == [("ann", "8")]
    assert [(m["user"], m["epoch"]) for m in frame["leaves"]] == [("bob", "8")]
    assert {m["epoch"] for m in msgspec.json.decode(topic.snapshot())["members"]} == {"8"}


def test_who_missed_a_room_is_sent_all_of_it() -> None:
    topic, ear = room(ann=1, bob=2), Ear()
    topic.catch_up(ear)
    (frame,) = ear.heard
    assert "id" not in frame and [m["user"] for m in frame["members"]] == ["ann", "bob"]


def test_the_list_of_members_is_encoded_once_per_state() -> None:
    topic = room(ann=1)
    topic.snapshot(1)
    encoded = topic._joined
    topic.snapshot(2)
    assert topic._joined is encoded
    topic.apply(left(ANN, 2), 7, 0)
    assert msgspec.json.decode(topic.snapshot(3))["members"] == []
