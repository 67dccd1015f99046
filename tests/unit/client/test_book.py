"""The rule by which news replaces what is held, for every order in which it may arrive."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stillhere.client.book import Book
from stillhere.core.words import Status
from stillhere.wire.messages import Member, Room, UserPresence

VERSIONS = st.integers(1, 30)
STATUSES = st.sampled_from(["online", "away", "busy", "offline"])


def told(version: int, epoch: str = "1", status: str = "online", user: str = "bob") -> UserPresence:
    return UserPresence(user, status, epoch, version, version)


def live() -> Book:
    book = Book()
    book.live = True
    return book


def history(versions: list[int]) -> list[UserPresence]:
    """One report per version; the same version says the same, wherever it comes from."""
    words = ("online", "away", "busy", "offline")
    return [told(version, status=words[version % 4]) for version in versions]


@given(st.lists(VERSIONS, min_size=1))
def test_whatever_the_order_the_greatest_version_of_an_epoch_stays(versions: list[int]) -> None:
    book = live()
    for report in history(versions):
        book.apply_users([report])
    assert book.user("bob").changed_at == max(versions)


@given(st.lists(VERSIONS, min_size=1), st.data())
def test_reports_that_are_repeated_or_come_late_show_nothing(versions: list[int], data: st.DataObject) -> None:
    book = live()
    for report in history(versions):
        book.apply_users([report])
    again = data.draw(st.lists(st.sampled_from(versions)))
    assert [change for report in history(again) for change in book.apply_users([report])[0]] == []


@given(st.lists(st.tuples(st.sampled_from("ab"), VERSIONS), min_size=1))
def test_what_is_shown_is_what_was_told_change_by_change(reports: list[tuple[str, int]]) -> None:
    """The changes, applied one after the other, end in what the book holds, and none of them changes nothing."""
    book = live()
    shown: dict[str, Status] = {}
    for user, version in reports:
        changes, _ = book.apply_users([told(version, status="online" if version % 2 else "away", user=user)])
        for change in changes:
            assert (change.before.status if change.before else None) == shown.get(change.user)
            assert change.before is None or change.before != change.now
            shown[change.user] = change.now.status
    assert shown == {user: book.user(user).status for user in shown}


@given(VERSIONS, VERSIONS)
def test_another_epoch_is_newer_whatever_its_version_and_its_name(old: int, new: int) -> None:
    for before, after in (("1", "2"), ("2", "1"), ("9", "10")):
        book = live()
        book.apply_users([told(old, before)])
        changes, new_epoch = book.apply_users([told(new, after, "away")])
        assert new_epoch and book.user("bob").status is Status.AWAY and len(changes) == 1


@given(VERSIONS, VERSIONS, VERSIONS)
def test_an_epoch_that_was_replaced_does_not_come_back_on_the_same_connection(a: int, b: int, late: int) -> None:
    book = live()
    book.apply_users([told(a, "1")])
    book.apply_users([told(b, "2", "away")])
    assert book.apply_users([told(late, "1", "busy")]) == ([], False)
    assert book.user("bob").status is Status.AWAY
    book.begin()
    book.live = True
    book.apply_users([told(late, "1", "busy")])
    assert book.user("bob").status is Status.BUSY


@given(VERSIONS, STATUSES)
def test_unknown_casts_doubt_and_replaces_nothing(version: int, status: str) -> None:
    book = live()
    book.apply_users([told(version, status=status)])
    for word in ("unknown", "a word of a later version"):
        assert book.apply_users([told(99, status=word)]) == ([], False)
        view = book.user("bob")
        assert (str(view.status), view.stale) == (status, True)
    assert book.apply_users([told(version, status=status)]) == ([], False)
    assert not book.user("bob").stale


def test_somebody_of_whom_nothing_is_known_is_unknown_and_never_offline() -> None:
    view = Book().user("bob")
    assert (view.status, view.stale, view.online) == (Status.UNKNOWN, True, False)
    assert live().apply_users([told(0, status="unknown")])[0][0].now.status is Status.UNKNOWN


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40))
def test_a_room_holds_who_joined_and_did_not_leave(steps: list[tuple[str, bool]]) -> None:
    book, here = live(), dict[str, int]()
    book.apply_room(Room("r", members=[]))
    shown: set[str] = set()
    for version, (user, joins) in enumerate(steps, 1):
        one = Member(user, "online" if joins else "offline", "1", version, version, None, [] if joins else None)
        changes = book.apply_room(Room("r", joins=[one]) if joins else Room("r", leaves=[one]))
        for change in changes:
            if change.kind == "joined":
                assert change.user not in shown
                shown.add(change.user)
            elif change.kind == "left":
                shown.remove(change.user)
        here.pop(user, None) if not joins else here.__setitem__(user, version)
    assert {member.user for member in book.room("r").members} == set(here) == shown


def test_who_is_not_in_the_rooms_whole_state_has_left() -> None:
    book = live()
    book.apply_room(Room("r", members=[Member(user, "online", "1", 1) for user in ("a", "b")]))
    changes = book.apply_room(Room("r", members=[Member("b", "online", "1", 1)]))
    assert [(change.kind, change.user) for change in changes] == [("left", "a")]


def test_whoever_is_not_wanted_any_more_is_forgotten() -> None:
    book = live()
    book.apply_users([told(1)])
    book.apply_room(Room("r", members=[Member("a", "online", "1", 1)]))
    book.retain((), ())
    assert book.user("bob").status is Status.UNKNOWN and book.room("r").members == ()


def member(user: str, version: int) -> Member:
    return Member(user, "online", "1", version, version, None, [])


def test_a_room_that_is_told_by_its_count_names_nobody_and_is_not_stale() -> None:
    book = live()
    book.apply_room(Room("r", count=1500, statuses={"online": 1400, "away": 100}, page=[member("a", 1)]))
    view = book.room("r")
    assert (view.members, view.count, view.counted, view.stale) == ((), 1500, True, False)
    assert view.statuses == {"online": 1400, "away": 100}
    book.begin()
    assert book.room("r").stale and book.room("r").count == 1500
    book.apply_room(Room("r", count=0))
    assert (book.room("r").count, book.room("r").counted, book.room("r").statuses) == (0, True, {})


def test_a_room_that_is_told_by_names_again_shows_who_came_and_went_meanwhile() -> None:
    book = live()
    book.apply_room(Room("r", members=[member("a", 1), member("b", 2)]))
    assert (book.room("r").count, book.room("r").counted) == (2, False)
    assert book.apply_room(Room("r", count=9, statuses={"online": 9})) == []
    changes = book.apply_room(Room("r", members=[member("b", 2), member("c", 7)]))
    assert [(change.kind, change.user) for change in changes] == [("left", "a"), ("joined", "c")]
    view = book.room("r")
    assert ({one.user for one in view.members}, view.count, view.counted) == ({"b", "c"}, 2, False)
