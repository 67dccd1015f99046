"""Why a user was shown as they were: right at every instant, in sentences, and honest about what nobody knows."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings

from stillhere.core.clock import ClockLimits
from stillhere.core.events import Contributed, Returned, Transition
from stillhere.core.explain import Explanation, Rule, explain
from stillhere.core.leases import Limits
from stillhere.core.phrases import instant, length
from stillhere.core.record import NOBODY, Shown
from stillhere.core.replay import by_user
from stillhere.core.words import Availability, Cause, Status, UserId
from tests.unit.core.scripts import ALL, NODES, TROUBLE, USERS, Step, Teller, scripts
from tests.unit.core.world import ALICE, START, World

CLUSTER = Limits(watchers_outlive=True, clock=ClockLimits(gap_hold=6.0, recovery_hold=20.0))
PRESENT = {Rule.CONNECTED, Rule.IN_WINDOW, Rule.UPGRADE_IN_FLIGHT}
GONE = {Rule.WINDOW_RAN_OUT, Rule.NO_WINDOW, Rule.DEPARTED, Rule.INVISIBLE, Rule.NEVER_SHOWN}


def ask(world: World, ago: float = 0.0, *, shown: bool = True) -> Explanation:
    """What a server would answer, about an instant some seconds ago."""
    return explain(ALICE, world.entries, world.now - ago, world.now, world.shown() if shown else None)


# -- every instant ----------------------------------------------------------------------------------------------------


def history(
    script: Sequence[Step], limits: Limits | None = None
) -> tuple[World, list[tuple[float, dict[str, Status]]]]:
    """A random history, and what a watcher had at its instants."""
    world = World(nodes=NODES, limits=limits)
    truth: list[tuple[float, dict[str, Status]]] = []

    def look() -> None:
        had = {user: world.watcher.users.get(UserId(user), NOBODY).status for user in USERS}
        if truth and truth[-1][0] == world.now:
            truth.pop()
        truth.append((world.now, had))

    teller = Teller(world)
    teller.after = look
    teller.tell(script)
    return world, truth


@pytest.mark.parametrize("kinds", [ALL, TROUBLE], ids=["all", "trouble"])
@pytest.mark.parametrize("limits", [None, CLUSTER], ids=["one node's store", "a store that watchers outlive"])
def test_at_every_instant_the_status_is_what_a_watcher_had(limits: Limits | None, kinds: Sequence[str]) -> None:
    @settings(max_examples=2 * settings().max_examples, deadline=None)
    @given(scripts(kinds, most=25))
    def holds(script: list[Step]) -> None:
        world, truth = history(script, limits)
        timelines = by_user(world.entries)
        for user in map(UserId, USERS):
            entries, shown = timelines.get(user, []), world.ledger.shown(user)
            for at, had in truth:
                if entries and at < entries[0].at:
                    continue  # of that no timeline tells
                said = explain(user, entries, at, world.now, shown)
                assert said.status is had[user], said.sentence
                assert said.rule in (GONE if said.status is Status.OFFLINE else PRESENT), said.sentence
                assert list(said.evidence) == sorted(set(said.evidence)) and set(said.evidence) <= set(
                    range(len(entries))
                )

    holds()


@settings(max_examples=settings().max_examples, deadline=None)
@given(scripts(ALL, most=25))
def test_of_a_timeline_that_was_cut_nothing_wrong_is_said(script: list[Step]) -> None:
    world, truth = history(script)
    for user, entries in by_user(world.entries).items():
        for cut in range(0, len(entries), 3):
            rest = entries[cut:]
            for at, had in truth:
                said = explain(user, rest, at, world.now, world.ledger.shown(user))
                assert said.status in (had[user], Status.UNKNOWN), said.sentence
                assert (said.rule is Rule.UNRECORDED) >= (said.status is Status.UNKNOWN)


@settings(max_examples=settings().max_examples, deadline=None)
@given(scripts(ALL, most=25))
def test_the_rule_names_what_was_true_of_the_connections(script: list[Step]) -> None:
    world = World(nodes=NODES)
    teller = Teller(world)

    def look() -> None:
        for user in map(UserId, USERS):
            record = world.record(user)
            said = explain(user, [e for e in world.entries if e.user == user], world.now, world.now, record.shown)
            if said.status is not Status.OFFLINE:
                assert (said.rule is Rule.CONNECTED) == (record.active_count > 0), said.sentence
                assert (said.rule is Rule.IN_WINDOW) == (not record.active_count and bool(record.holds)), said.sentence

    teller.after = look
    teller.tell(script)


# -- sentences --------------------------------------------------------------------------------------------------------


def test_a_false_offline_is_told_with_the_window_that_would_have_covered_it() -> None:
    world = World({Cause.GOING_AWAY: 0.75})
    c = world.connect(tab="t_7f", info={"name": "Alice"})
    world.advance(10.0)
    world.end(c, 1001)
    world.advance(0.75)
    offline = world.now
    world.advance(1.0)
    world.connect(tab="t_7f")
    world.advance(5.0)
    said = explain(ALICE, world.entries, offline, world.now, world.shown())
    assert (said.status, said.rule, said.since) == (Status.OFFLINE, Rule.WINDOW_RAN_OUT, offline)
    assert said.sentence == (
        "alice was offline at 00:17:14.750, since 00:17:14.750: the last connection (tab t_7f, node n1) ended at "
        "00:17:14.000 with 1001 going_away, closed by the client; its window of 750 ms ran out. alice came back 1.8 s "
        "after the close: a false offline; a window of 2 s for going_away would have covered it."
    )
    assert said.advice is not None and said.advice.startswith("grace.going_away = 2000 (ms)")
    kinds = [type(world.entries[n]) for n in said.evidence]
    assert Returned in kinds and Contributed in kinds and kinds.count(Transition) == 2


def test_in_a_window_the_sentence_says_until_when() -> None:
    world = World()
    c = world.connect()
    world.advance(1.0)
    world.end(c, 1005)
    said = ask(world)
    assert (said.status, said.rule) == (Status.ONLINE, Rule.IN_WINDOW)
    assert said.sentence == (
        "alice is online since 00:17:04.000, though no connection is active: the last connection (tab t1, node n1) "
        "ended at 00:17:05.000 with 1005 client_close, closed by the client; its window of 3 s runs until 00:17:08.000."
    )
    assert said.advice == "grace.client_close sets how long that window is."


def test_the_longest_window_decides_and_the_sentence_says_whose_it_is() -> None:
    world = World()
    first, second = world.connect(tab="t1"), world.connect(tab="t2")
    world.lost(first)
    world.advance(1.0)
    world.end(second, 1000)
    assert "the longest window, that of tab t1 for abnormal, of 15 s runs until 00:17:19.000" in ask(world).sentence
    world.advance(14.0)
    said = ask(world)
    assert said.rule is Rule.WINDOW_RAN_OUT
    assert "the last connection (tab t2, node n1) ended at 00:17:05.000" in said.sentence
    assert "for tab t1, which had ended at 00:17:04.000 with abnormal, ran out." in said.sentence


def test_active_connections_are_named_oldest_first_and_no_more_than_three() -> None:
    world = World()
    for n in range(5):
        world.connect(tab=f"t{n}")
        world.advance(1.0)
    said = ask(world)
    assert (said.rule, said.since) == (Rule.CONNECTED, START)
    assert said.sentence.startswith(
        "alice is online since 00:17:04.000: 5 connections are active: tab t0, node n1, opened at 00:17:04.000, OPEN; "
    )
    assert "tab t2" in said.sentence and "tab t3" not in said.sentence and said.sentence.endswith("; and others.")


def test_away_is_explained_by_what_the_connections_say() -> None:
    world = World()
    c = world.connect()
    world.advance(1.0)
    world.state(c, Availability.AWAY)
    world.state(c, None, {"mood": "calm"})
    said = ask(world)
    assert (said.status, said.since) == (Status.AWAY, START + 1.0)
    assert said.sentence.endswith("OPEN. The most available of the user's connections says away.")
    assert ask(world, 0.5).status is Status.ONLINE


@pytest.mark.parametrize("hidden_from_the_start", [True, False])
def test_who_is_invisible_is_shown_offline_by_choice(hidden_from_the_start: bool) -> None:
    world = World()
    c = world.connect(availability=Availability.INVISIBLE if hidden_from_the_start else None)
    world.state(c, Availability.INVISIBLE)
    said = ask(world)
    assert (said.status, said.rule) == (Status.OFFLINE, Rule.INVISIBLE)
    assert said.sentence.endswith("alice chose to be invisible, while 1 connection is active.")
    world.end(c)
    assert ask(world).sentence.endswith("invisible.") or hidden_from_the_start


def test_goodbyes_and_kicks_are_told_with_their_reason() -> None:
    world = World()
    world.bye(world.connect())
    assert ask(world).sentence == (
        "alice is offline since 00:17:04.000: the last connection (tab t1, node n1) said goodbye at 00:17:04.000, "
        "which leaves no window."
    )
    world.advance(2.0)
    c = world.connect()
    world.nodes["n1"].roster.dismiss(ALICE, Cause.KICKED, world.now, 4004, "spam")
    world.turn()
    said = ask(world)
    assert said.rule is Rule.DEPARTED
    assert "was kicked at 00:17:06.000 (“spam”)" in said.sentence
    world.end(world.connect())
    world.nodes["n1"].roster.dismiss(ALICE, Cause.KICKED, world.now, 4004, "")
    world.turn()
    assert c.cause is Cause.KICKED
    assert ask(world).sentence.endswith("the user was kicked at 00:17:06.000, which ends every window.")


def test_a_cause_without_a_window_is_told_as_such() -> None:
    world = World({Cause.CLIENT_CLOSE: 0.0})
    world.end(world.connect(), 1000)
    said = ask(world)
    assert said.rule is Rule.NO_WINDOW
    assert said.sentence.endswith("grace.client_close is 0, so there was no window.")
    world.advance(60.0)
    world.connect()
    then = explain(ALICE, world.entries, world.now - 1.5, world.now, world.shown())
    assert then.sentence.endswith("alice came online again at 00:18:04.000.")


def test_offline_waits_for_an_upgrade_and_the_sentence_says_so() -> None:
    world = World()
    c = world.connect()
    world.begin(tab="t2")
    world.bye(c)
    said = ask(world)
    assert (said.status, said.rule) == (Status.ONLINE, Rule.UPGRADE_IN_FLIGHT)
    assert "an upgrade is in flight" in said.sentence


def test_of_a_lost_node_nobody_knows_when_the_connection_ended() -> None:
    world = World(nodes=("n1", "n2"))
    world.connect(node="n1")
    world.advance(3.0)
    world.kill("n1")
    world.advance(60.0)
    said = ask(world)
    assert said.rule is Rule.WINDOW_RAN_OUT
    assert "with node_lost" in said.sentence
    assert "when the connection really ended nobody knows" in said.sentence


def test_trouble_with_the_store_is_told() -> None:
    world = World(limits=CLUSTER)
    world.advance(30.0)
    c = world.connect()
    world.advance(1.0)
    world.end(c)
    world.now += 30.0
    world.advance(1.0)
    assert "nothing expires while the store is in trouble" in ask(world).sentence
    world.advance(60.0)
    assert "later than planned: nothing expires while the store is in trouble" in ask(world).sentence


def test_a_goodbye_while_nothing_expires_is_told() -> None:
    world = World(limits=CLUSTER)
    world.advance(30.0)
    c = world.connect()
    world.advance(1.0)
    world.now += 30.0
    world.bye(c)
    said = ask(world)
    assert (said.status, said.rule) == (Status.ONLINE, Rule.IN_WINDOW)
    assert "nobody goes while the store is coming back from trouble" in said.sentence
    assert "its clock had jumped: nothing expired then" in said.sentence


def test_a_window_that_a_restart_prolonged_is_told_with_its_new_end() -> None:
    world = World()
    world.end(world.connect(tab="t2"), 1000)
    world.lost(world.connect(), Cause.ABNORMAL)
    world.ledger.hold_everyone(world.now, Cause.NODE_DRAIN, 10.0)
    world.hear()
    said = ask(world)
    assert "with 1000 node_drain" in said.sentence or "for abnormal" in said.sentence or "15 s" in said.sentence
    world.advance(20.0)
    assert ask(world).status is Status.OFFLINE


# -- what nobody knows ------------------------------------------------------------------------------------------------


def test_the_future_is_unknown() -> None:
    world = World()
    world.connect()
    said = ask(world, -90.0)
    assert (said.status, said.rule, said.since) == (Status.UNKNOWN, Rule.FUTURE, None)
    assert said.sentence == (
        "1970-01-01 00:18:34.000 is 90 s ahead of the server's clock: nobody can tell how alice will be shown then."
    )


def test_what_was_before_the_timeline_begins_is_unknown() -> None:
    world = World()
    world.advance(100.0)
    world.connect()
    said = ask(world, 50.0)
    assert (said.status, said.rule) == (Status.UNKNOWN, Rule.UNRECORDED)
    assert said.sentence == "The timeline of alice begins at 00:18:44.000; of 00:17:54.000 it does not tell."
    assert said.advice is not None and "timeline.entries" in said.advice


def test_of_whom_nothing_is_known_is_offline() -> None:
    said = explain(ALICE, [], START, START, NOBODY)
    assert (said.status, said.rule) == (Status.OFFLINE, Rule.NEVER_SHOWN)
    assert explain(ALICE, [], START, START).sentence == "Nothing is known of alice: never seen, or forgotten since."


def test_a_timeline_that_has_aged_away_leaves_what_the_store_knows() -> None:
    shown = Shown(Status.BUSY, 7, START - 9e5)
    said = explain(ALICE, [], START, START, shown)
    assert (said.status, said.rule, said.since) == (Status.BUSY, Rule.UNRECORDED, START - 9e5)
    assert said.sentence.endswith("The timeline no longer tells of a connection.")
    gone = explain(ALICE, [], START, START, msgspec.structs.replace(shown, status=Status.OFFLINE))
    assert gone.sentence.endswith("The timeline no longer tells why.")
    before = explain(ALICE, [], START - 1e6, START, shown)
    assert (before.status, before.rule) == (Status.UNKNOWN, Rule.UNRECORDED)


def test_a_cut_timeline_tells_what_it_still_can() -> None:
    world = World()
    c = world.connect()
    world.advance(1.0)
    world.end(c)
    world.advance(1.0)
    middle = [e for e in world.entries if e.at > START]
    assert explain(ALICE, middle, world.now, world.now).rule is Rule.UNRECORDED
    world.advance(20.0)
    at = [e for e in world.entries if e.at > START + 2.0]
    offline = explain(ALICE, at, world.now, world.now)
    assert (offline.status, offline.rule) == (Status.OFFLINE, Rule.WINDOW_RAN_OUT)
    assert "The timeline no longer tells of the connection's end." in offline.sentence
    cut = explain(ALICE, [e for e in world.entries if e.at > START], START + 2.0, world.now)
    assert cut.status is Status.UNKNOWN and "online, away or busy, until 00:17:13.000" in cut.sentence


def test_who_never_was_shown_is_offline_from_the_beginning_of_the_timeline() -> None:
    world = World()
    world.begin()
    world.advance(1.0)
    said = explain(ALICE, world.entries, world.now, world.now, None)
    assert (said.status, said.rule) == (Status.OFFLINE, Rule.NEVER_SHOWN)
    assert "was not shown online since 00:17:04.000" in said.sentence


def test_before_the_first_online_the_user_was_offline() -> None:
    world = World()
    c = world.begin()
    world.advance(2.0)
    world.open(c)
    said = ask(world, 1.0)
    assert (said.status, said.rule) == (Status.OFFLINE, Rule.NEVER_SHOWN)
    assert said.sentence.endswith("and came online at 00:17:06.000.")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0 ms"), (0.8, "800 ms"), (1.84, "1.8 s"), (45.0, "45 s"), (123.0, "2 min 3 s"), (180.0, "3 min"),
        (7500.0, "2 h 5 min"), (2.5 * 86400, "2 d 12 h"), (1e9, "11574 d 1 h"),
    ],
)  # fmt: skip
def test_lengths_are_said_in_units_that_people_use(seconds: float, text: str) -> None:
    assert length(seconds) == text


def test_an_instant_bears_its_date_unless_it_is_of_the_same_day() -> None:
    assert instant(1_790_000_000.1234) == "2026-09-21 14:13:20.123"
    assert instant(1_790_000_000.1234, 1_790_000_100.0) == "14:13:20.123"
    assert instant(1e15) == "1000000000000000 s after 1970"
