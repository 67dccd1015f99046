"""A window on the log: order per user, and a place that never moves over what is not done."""

from __future__ import annotations

from stillhere.core.events import Change, Transition
from stillhere.core.words import UserId
from stillhere.server.webhooks.lane import Lane
from stillhere.store.contract import Cursor, LogPage

E = 5


def entry(version: int, user: str = "ann", change: Change = Change.ONLINE) -> Transition:
    return Transition(UserId(user), change, version, 100.0 + version, "connection_open")


def page(*entries: Transition, after: int = 0) -> LogPage:
    return LogPage(E, entries, Cursor(E, entries[-1].version if entries else after))


def lane(*entries: Transition, window: int = 10) -> Lane:
    made = Lane(0, Cursor(E, 0), window)
    made.take(page(*entries), lambda _: True)
    return made


def ready(lane: Lane, now: float = 0.0) -> list[int]:
    return [item.cursor.seq for item in lane.ready(now)]


def finish(lane: Lane, *versions: int) -> None:
    for item in lane.items:
        item.done = item.done or item.cursor.seq in versions
    lane.settle()


def test_of_each_user_the_first_is_ready() -> None:
    window = lane(entry(1), entry(2, "bob"), entry(3), entry(4, "carol"), entry(5, "bob"))
    assert ready(window) == [1, 2, 4]
    finish(window, 2)
    assert ready(window) == [1, 4, 5]


def test_what_is_under_way_doomed_or_to_wait_is_not_ready_and_neither_is_what_follows() -> None:
    window = lane(entry(1), entry(2), entry(3, "bob"), entry(4, "carol"))
    window.items[0].flying = True
    window.items[2].doomed = True
    window.items[3].retry_at = 7.0
    assert ready(window) == []
    assert ready(window, now=7.0) == [4]


def test_the_place_moves_over_what_is_done_without_a_hole() -> None:
    window = lane(entry(1), entry(2, "bob"), entry(3, "carol"))
    finish(window, 2, 3)
    assert window.done_at == Cursor(E, 0)
    finish(window, 1)
    assert window.done_at == Cursor(E, 3)


def test_what_nobody_wants_is_moved_over_once_nothing_waits_before_it() -> None:
    window = Lane(0, Cursor(E, 0), 10)
    entries = page(entry(1), entry(2, change=Change.OFFLINE))
    assert window.take(entries, lambda e: e.change is Change.ONLINE)
    assert (window.done_at, window.read_at) == (Cursor(E, 0), Cursor(E, 2))
    finish(window, 1)
    assert window.done_at == Cursor(E, 2)
    assert not window.take(page(after=2), lambda _: True)


def test_a_gap_comes_after_all_before_it_and_before_all_after_it() -> None:
    window = lane(entry(1))
    window.gap(Cursor(E, 50), 200.0)
    window.take(page(entry(51, "bob")), lambda _: True)
    assert ready(window) == [1]
    assert window.done_at == Cursor(E, 0)
    finish(window, 1)
    assert ready(window) == [50]
    finish(window, 50)
    assert (ready(window), window.done_at) == ([51], Cursor(E, 50))


def test_a_full_window_has_no_room() -> None:
    window = lane(*(entry(n) for n in range(1, 4)), window=3)
    assert window.room == 0
    finish(window, 1)
    assert window.room == 1
