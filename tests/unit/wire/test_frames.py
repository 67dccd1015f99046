"""Frames joined from encoded parts say exactly what the typed messages say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.core.record import NOBODY, Shown, ShownMember
from stillhere.core.words import ConnectionId, Status
from stillhere.wire import frames
from stillhere.wire.messages import Member, MemberMeta, Presence, RequestId, Room, Snapshot, UserPresence, encode

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
metas = st.dictionaries(texts, st.none() | st.booleans() | st.integers(0, 1 << 53) | texts, max_size=3)
request_ids = st.none() | st.integers() | texts
statuses = st.sampled_from(Status)
versions = st.integers(0, 1 << 53)
times = st.integers(0, 1 << 44)
users = st.builds(
    UserPresence,
    texts,
    statuses,
    texts,
    versions,
    times,
    st.none() | times,
    st.none() | st.integers(0, 100),
    st.none() | metas,
    st.none() | metas,
)
members = st.builds(
    Member,
    texts,
    statuses,
    texts,
    versions,
    st.none() | times,
    st.none() | metas,
    st.none() | st.lists(st.builds(MemberMeta, texts, metas), max_size=2),
)
lists_of_members = st.lists(members, max_size=4)


def _parts(structs: list[Any]) -> list[bytes]:
    return [encode(struct) for struct in structs]


@given(st.lists(users, max_size=5))
def test_a_joined_presence_is_the_encoded_one(changes: list[UserPresence]) -> None:
    joined = frames.presence_frame(_parts(changes))
    assert msgspec.json.decode(joined) == msgspec.json.decode(encode(Presence(changes)))
    assert msgspec.json.decode(joined, type=Presence) == Presence(changes)


@given(request_ids, st.lists(users, max_size=5), st.booleans())
def test_a_joined_snapshot_is_the_encoded_one(id: RequestId, found: list[UserPresence], complete: bool) -> None:
    joined = frames.snapshot_frame(id, _parts(found), complete)
    assert msgspec.json.decode(joined) == msgspec.json.decode(encode(Snapshot(found, complete, id)))


@given(texts, request_ids, lists_of_members)
def test_a_joined_room_is_the_encoded_one(room: str, id: RequestId, there: list[Member]) -> None:
    joined = frames.members_frame(frames.encode_text(room), id, b",".join(_parts(there)))
    assert msgspec.json.decode(joined) == msgspec.json.decode(encode(Room(room, id, there)))


@given(texts, lists_of_members, lists_of_members, lists_of_members)
def test_a_joined_change_of_a_room_is_the_encoded_one(
    room: str, leaves: list[Member], joins: list[Member], updates: list[Member]
) -> None:
    (joined,) = frames.room_frames(frames.encode_text(room), _parts(leaves), _parts(joins), _parts(updates))
    typed = Room(room, None, None, joins or None, leaves or None, updates or None)
    assert msgspec.json.decode(joined) == msgspec.json.decode(encode(typed))


@given(
    st.tuples(*[st.lists(st.integers(0, frames.FRAME_BYTES * 2), max_size=6)] * 3),
)
def test_a_long_change_is_split_in_order_and_to_size(sizes: tuple[list[int], list[int], list[int]]) -> None:
    lists = [[b'"%d.%d%s"' % (k, i, b"x" * size) for i, size in enumerate(of)] for k, of in enumerate(sizes)]
    told: list[tuple[str, bytes]] = []
    for frame in frames.room_frames(b'"r"', *lists):
        parts = msgspec.json.decode(frame)
        assert parts.pop("type") == "room" and parts.pop("room") == "r"
        if sum(map(len, parts.values())) > 1:
            assert len(frame) <= frames.FRAME_BYTES + 200
        told += [(kind, b'"%s"' % part.encode()) for kind, of in parts.items() for part in of]
    wanted = [(kind, part) for kind, of in zip(("leaves", "joins", "updates"), lists, strict=True) for part in of]
    assert told == wanted


def test_a_change_that_fits_is_one_frame_and_one_part_too_long_is_one_too() -> None:
    half = b'"' + b"x" * (frames.FRAME_BYTES // 2 - 2) + b'"'
    assert len(frames.room_frames(b'"r"', [half], [half], [])) == 1
    assert len(frames.room_frames(b'"r"', [half], [half], [b"1"])) == 3
    assert len(frames.room_frames(b'"r"', [half + half], [], [])) == 1
    assert len(frames.room_frames(b'"r"', [half, b"1", half], [], [])) == 2


INFO, META = {"name": "Ann"}, {"mood": "fine"}


@pytest.mark.parametrize(
    ("shown", "wire"),
    [
        (NOBODY, {"user": "ann", "status": "offline", "epoch": "7", "version": 0, "changedAt": 0}),
        (
            Shown(Status.OFFLINE, 5, 12.3456, 11.0004, INFO),
            {
                "user": "ann",
                "status": "offline",
                "epoch": "7",
                "version": 5,
                "changedAt": 12346,
                "lastSeenAt": 11000,
                "info": INFO,
            },
        ),
        (
            Shown(Status.BUSY, 6, 12.0, None, INFO, META),
            {
                "user": "ann",
                "status": "busy",
                "epoch": "7",
                "version": 6,
                "changedAt": 12000,
                "info": INFO,
                "meta": META,
            },
        ),
        (
            Shown(Status.ONLINE, 7, 12.0),
            {"user": "ann", "status": "online", "epoch": "7", "version": 7, "changedAt": 12000},
        ),
    ],
    ids=["nobody", "offline", "busy", "online"],
)
def test_a_user_has_the_fields_of_the_protocol(shown: Shown, wire: dict[str, Any]) -> None:
    assert msgspec.json.decode(encode(frames.user_presence("ann", shown, "7"))) == wire


def test_devices_are_told_only_where_they_are_counted() -> None:
    told = msgspec.json.decode(encode(frames.user_presence("ann", Shown(Status.AWAY, 1, 1.0), "7", 0)))
    assert told["devices"] == 0


def test_unknown_says_nothing_but_that() -> None:
    told = msgspec.json.decode(encode(frames.unknown_presence("ann", "7")))
    assert told == {"user": "ann", "status": "unknown", "epoch": "7", "version": 0, "changedAt": 0}


def test_a_member_has_the_fields_of_the_protocol() -> None:
    there = ShownMember(Status.ONLINE, 9, 3.0, INFO, ((ConnectionId("c_1"), META), (ConnectionId("c_2"), {})))
    assert msgspec.json.decode(encode(frames.member("ann", there, "7"))) == {
        "user": "ann",
        "status": "online",
        "epoch": "7",
        "version": 9,
        "joinedAt": 3000,
        "info": INFO,
        "metas": [{"connectionId": "c_1", "meta": META}, {"connectionId": "c_2", "meta": {}}],
    }


def test_of_one_who_left_four_fields_are_told() -> None:
    told = msgspec.json.decode(encode(frames.left_member("ann", 9, "7")))
    assert told == {"user": "ann", "status": "offline", "epoch": "7", "version": 9}


@given(st.floats(0, 1e10))
def test_times_are_whole_milliseconds(seconds: float) -> None:
    assert abs(frames.ms(seconds) - seconds * 1000) <= 0.5


@given(
    texts,
    request_ids,
    st.dictionaries(statuses, st.integers(0, 1 << 40)),
    st.none() | lists_of_members,
    st.none() | texts,
)
def test_a_joined_count_is_the_encoded_one(
    room: str, id: RequestId, counts: dict[Status, int], page: list[Member] | None, cursor: str | None
) -> None:
    parts = None if page is None else _parts(page)
    joined = frames.count_frame(frames.encode_text(room), counts, id=id, page=parts, cursor=cursor)
    there = {status.value: number for status, number in counts.items() if number}
    message = Room(room, id, count=sum(counts.values()), statuses=there, page=page, cursor=cursor)
    assert msgspec.json.decode(joined) == msgspec.json.decode(encode(message))
    assert msgspec.json.decode(joined, type=Room) == message
