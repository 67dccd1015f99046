"""What the store keeps, and how it looks from outside."""

from __future__ import annotations

import msgspec

from stillhere.core.record import NOBODY, ConnectionSummary, Record, Share, Shown, ShownMember
from stillhere.core.words import ConnectionId, Incarnation, ReadyState, SessionId, Status, TabId, UserId

ALICE = UserId("alice")


def summary(id: str, opened_at: float, ready: ReadyState = ReadyState.OPEN) -> ConnectionSummary:
    return ConnectionSummary(ConnectionId(id), SessionId("s"), TabId("t"), ready, opened_at)


def test_of_whom_nothing_is_known_offline_is_shown_at_version_zero() -> None:
    assert (NOBODY.status, NOBODY.version, NOBODY.last_seen_at) == (Status.OFFLINE, 0, None)
    assert Record(ALICE).shown is NOBODY


def test_connections_of_all_nodes_come_oldest_first_and_ties_by_id() -> None:
    record = Record(
        ALICE,
        shares={
            Incarnation("n1"): Share(1, (summary("c", 2.0), summary("b", 3.0))),
            Incarnation("n2"): Share(1, (summary("a", 3.0), summary("d", 1.0, ReadyState.CONNECTING))),
        },
    )
    assert [(inc, c.id) for inc, c in record.connections()] == [("n2", "d"), ("n1", "c"), ("n2", "a"), ("n1", "b")]
    assert record.active_count == 3


def test_versions_and_times_of_change_are_no_difference_to_a_watcher() -> None:
    shown = Shown(Status.ONLINE, 1, 1.0, None, {"name": "A"}, {"mood": "tea"})
    assert shown.looks_like(Shown(Status.ONLINE, 2, 2.0, None, {"name": "A"}, {"mood": "tea"}))
    for other in (
        Shown(Status.AWAY, 1, 1.0, None, {"name": "A"}, {"mood": "tea"}),
        Shown(Status.ONLINE, 1, 1.0, 1.0, {"name": "A"}, {"mood": "tea"}),
        Shown(Status.ONLINE, 1, 1.0, None, {"name": "B"}, {"mood": "tea"}),
        Shown(Status.ONLINE, 1, 1.0, None, {"name": "A"}, None),
    ):
        assert not shown.looks_like(other)


def test_a_member_differs_by_status_public_object_and_metadata() -> None:
    member = ShownMember(Status.ONLINE, 1, 1.0, {"name": "A"}, ((ConnectionId("c"), {}),))
    assert member.looks_like(ShownMember(Status.ONLINE, 9, 9.0, {"name": "A"}, ((ConnectionId("c"), {}),)))
    for other in (
        ShownMember(Status.AWAY, 1, 1.0, {"name": "A"}, ((ConnectionId("c"), {}),)),
        ShownMember(Status.ONLINE, 1, 1.0, None, ((ConnectionId("c"), {}),)),
        ShownMember(Status.ONLINE, 1, 1.0, {"name": "A"}, ((ConnectionId("d"), {}),)),
    ):
        assert not member.looks_like(other)


def test_records_do_not_share_what_they_hold() -> None:
    first, second = Record(ALICE), Record(ALICE)
    first.holds.clear()
    assert first.holds is not second.holds and first.shares is not second.shares
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(first), type=Record) == second
