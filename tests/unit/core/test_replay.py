"""A recorded timeline, run again: the same events under the same windows, and the right ones under others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings

from stillhere.core.clock import ClockLimits
from stillhere.core.events import Change, Contributed, Entry, Event, Returned, Transition
from stillhere.core.grace import PROFILES
from stillhere.core.leases import Answer, Limits
from stillhere.core.quality import compare, curves, enough
from stillhere.core.record import ConnectionSummary, Contribution, Ending
from stillhere.core.replay import by_user, replay, without_version
from stillhere.core.words import Cause, ConnectionId, Incarnation, ReadyState, SessionId, TabId, UserId
from tests.unit.core.scripts import ALL, NODES, PLAIN, TROUBLE, USERS, Step, Teller, scripts
from tests.unit.core.world import ALICE, START, World

SHORT = {Cause.GOING_AWAY: 0.5, Cause.ABNORMAL: 2.0, Cause.CLIENT_CLOSE: 0.0, Cause.EXPIRED: 20.0}
CLUSTER = Limits(watchers_outlive=True, clock=ClockLimits(gap_hold=6.0, recovery_hold=20.0))


def told(script: Sequence[Step], windows: dict[Cause, float] | None = None, limits: Limits | None = None) -> World:
    world = World(windows, nodes=NODES, limits=limits)
    Teller(world).tell(script)
    return world


def events_of(world: World, user: str) -> list[Event]:
    return [without_version(e) for e in world.events if e.user == user]


@pytest.mark.parametrize("kinds", [ALL, TROUBLE], ids=["all", "trouble"])
@pytest.mark.parametrize("limits", [None, CLUSTER], ids=["one node's store", "a store that watchers outlive"])
def test_the_recorded_events_follow_again_from_any_history(limits: Limits | None, kinds: Sequence[str]) -> None:
    @settings(max_examples=3 * settings().max_examples, deadline=None)
    @given(scripts(kinds))
    def holds(script: list[Step]) -> None:
        world = told(script, limits=limits)
        for user, entries in by_user(world.entries).items():
            run = replay(entries)
            assert run.skipped == 0
            assert [without_version(e) for e in run.twin] == events_of(world, user)
            assert run.faithful

    holds()


@settings(max_examples=4 * settings().max_examples, deadline=None)
@given(scripts(PLAIN))
def test_under_other_windows_happens_what_would_have_happened(script: list[Step]) -> None:
    recorded, other = told(script), told(script, SHORT)
    timelines = by_user(recorded.entries)
    for user in USERS:
        entries = timelines.get(UserId(user), [])
        events = replay(entries, SHORT, until=recorded.now).events if entries else ()
        assert shown(events) == shown(events_of(other, user))
        assert falsely(events) == falsely(events_of(other, user))


def shown(events: Sequence[Event]) -> list[tuple[object, ...]]:
    """What watchers see of a user; until everybody has gone, windows of both may still be running."""
    return [(e.at, e.change, e.cause, e.shown and e.shown.last_seen_at) for e in events if isinstance(e, Transition)]


def falsely(events: Sequence[Event]) -> list[tuple[float, str]]:
    return [(e.at, e.cause) for e in events if isinstance(e, Returned) and e.false_offline]


@settings(max_examples=2 * settings().max_examples, deadline=None)
@given(scripts(ALL))
def test_a_timeline_that_was_cut_is_replayed_from_where_nothing_is_missing(script: list[Step]) -> None:
    for entries in by_user(told(script).entries).values():
        for cut in range(0, len(entries), 5):
            rest = entries[cut:]
            run = replay(rest)
            assert run.skipped + len(run.recorded) <= len(rest)
            if run.skipped < len(rest):
                first = rest[run.skipped]
                assert isinstance(first, Contributed) and first.fresh
            assert [loosely(e) for e in run.twin] == [loosely(e) for e in run.recorded]


def loosely(event: Event) -> object:
    """A cut timeline may not know any more what a token said of the user, or an end of long ago."""
    if isinstance(event, Transition):
        return event.at, event.change, event.cause, event.room, event.connections
    return None if isinstance(event, Returned) else event


def test_the_end_of_a_connection_that_a_store_forgot_is_replayed_as_one_that_watchers_may_know_of() -> None:
    world = World(limits=CLUSTER, nodes=())
    world.ledger.hello(world.now, "another run", known_epoch=7)  # so it had something, and lost it
    c = ConnectionSummary(ConnectionId("c1"), SessionId("s1"), TabId("t1"), ReadyState.OPEN, world.now - 60.0)
    end = Ending(c.id, c.session, c.tab, Cause.GOING_AWAY, 8.0, 1.0, 1001, c, "client")
    node = Incarnation("n1")
    assert world.ledger.join(world.now, node, 1, 60.0) is Answer.OK
    assert world.ledger.put(world.now, node, 1, [Contribution(ALICE, 1, (), (end,))]) is Answer.OK
    world.hear()
    assert world.changes() == [Change.ONLINE]
    world.advance(30.0)
    assert world.changes() == [Change.ONLINE, Change.OFFLINE]
    assert replay(world.entries).faithful


# -- false offlines, ghost time, advice -------------------------------------------------------------------------------


def reloads(gap: float, code: int = 1001) -> list[Entry]:
    """A page that is reloaded and takes a while, then goes for good."""
    world = World()
    c = world.connect()
    world.advance(2.0)
    world.end(c, code)
    world.advance(gap)
    world.end(world.connect(), code)
    world.advance(60.0)
    return world.entries


def test_a_shorter_window_would_have_shown_a_false_offline_and_less_of_a_ghost() -> None:
    found = compare({ALICE: reloads(4.0)}, {Cause.GOING_AWAY: 2.0})
    assert found.unfaithful == []
    assert (found.recorded.offline, found.recorded.false_offlines, found.recorded.ghost_seconds) == (1, 0, 8.0)
    assert (found.other.offline, found.other.false_offline) == (2, {"going_away": 1})
    assert found.other.too_short == {"going_away": 2.0}
    assert found.other.ghost == {"going_away": 4.0}
    changes = [e.change for e in found.runs[0].events if isinstance(e, Transition)]
    assert changes == [Change.ONLINE, Change.OFFLINE, Change.ONLINE, Change.OFFLINE]


def test_a_longer_window_would_have_spared_a_false_offline() -> None:
    entries = reloads(12.0)
    found = compare({ALICE: entries}, {Cause.GOING_AWAY: 15.0}, until=START + 100.0)
    assert (found.recorded.false_offline, found.other.false_offline) == ({"going_away": 1}, {})
    assert (found.recorded.ghost_seconds, found.other.ghost_seconds) == (16.0, 15.0)


def test_a_profile_changes_the_windows_of_all_causes_and_no_departure_gets_any() -> None:
    world = World()
    world.bye(world.connect())
    world.advance(60.0)
    world.lost(world.connect())
    world.advance(60.0)
    found = compare(by_user(world.entries), PROFILES["fast"])
    at = [e.at - START for e in found.runs[0].events if isinstance(e, Transition)]
    assert at == [0.0, 0.0, 60.0, 68.0]


def test_a_window_that_runs_longer_than_the_recording_shows_nobody_offline() -> None:
    entries = reloads(4.0)
    assert compare({ALICE: entries}, {Cause.GOING_AWAY: 300.0}, until=START + 66.0).other.offline == 0


def test_windows_after_a_restart_are_those_of_the_restarts_cause() -> None:
    world = World()
    world.end(world.connect())
    world.ledger.hold_everyone(world.now, Cause.NODE_DRAIN, 20.0)
    world.hear()
    world.advance(30.0)
    assert [e.at - START for e in world.watcher.seen] == [0.0, 20.0]
    run = replay(world.entries, {Cause.NODE_DRAIN: 11.0})
    assert run.faithful
    assert [e.at - START for e in run.events if isinstance(e, Transition)] == [0.0, 11.0]


def test_a_restart_prolongs_no_window_that_other_windows_had_ended() -> None:
    world = World()
    world.end(world.connect())
    world.advance(1.0)
    world.ledger.hold_everyone(world.now, Cause.NODE_DRAIN, 20.0)
    world.hear()
    run = replay(world.entries, {Cause.GOING_AWAY: 0.0}, until=world.now)
    assert [e.change for e in run.events if isinstance(e, Transition)] == [Change.ONLINE, Change.OFFLINE]


def test_a_timeline_of_which_everything_is_missing_is_told_of_as_such() -> None:
    world = World()
    c = world.connect()
    seen = len(world.entries)
    world.end(c)
    run = replay(world.entries[seen:])
    assert (run.skipped, run.recorded, run.twin, run.faithful) == (2, (), (), True)


def test_a_timeline_that_does_not_follow_from_itself_is_noticed() -> None:
    entries = [e for e in reloads(4.0) if not (isinstance(e, Transition) and e.change is Change.OFFLINE)]
    assert [run.user for run in compare({ALICE: entries}, {}).unfaithful] == [ALICE]


def test_the_curve_of_a_cause_says_what_each_window_would_have_cost() -> None:
    world = World()
    for gap in (0.5, 1.5, 4.0, 60.0):
        c = world.connect()
        world.advance(1.0)
        world.end(c)
        world.advance(gap)
    [curve] = curves(by_user(world.entries), tried=(0.0, 1.0, 2.0, 5.0))
    assert (curve.cause, curve.ends, curve.recorded) == (Cause.GOING_AWAY, 4, (8.0,))
    by_window = {point.window: (point.false_offlines, point.ghost) for point in curve.points}
    assert by_window == {0.0: (3, 0.0), 1.0: (2, 3.0), 2.0: (1, 4.0), 5.0: (0, 5.0), 8.0: (0, 8.0)}
    chosen = curve.choose(0.25)
    assert chosen is not None and (chosen.window, chosen.rate) == (2.0, 0.25)
    assert curve.choose(0.0) == curve.points[3]
    assert curves(by_user(world.entries), tried=())[0].choose(-1.0) is None


def test_departures_have_no_curve() -> None:
    world = World()
    world.bye(world.connect())
    assert curves(by_user(world.entries)) == []


@pytest.mark.parametrize(
    ("gap", "window"), [(0.2, 0.5), (0.5, 1.0), (1.8, 2.0), (4.75, 5.0), (5.5, 6.0), (19.5, 20.0), (33.0, 35.0)]
)
def test_a_window_that_covers_a_gap_is_round_and_longer(gap: float, window: float) -> None:
    assert enough(gap) == window
