"""Whoever iterates slowly is told less often, and never anything that is not so any more."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.client.errors import Kicked
from stillhere.client.feed import Feed, presence_feed, room_feed, status_feed
from stillhere.client.views import ConnectionStatus, MemberView, PresenceChange, RoomChange, UserView
from stillhere.core.words import Status

STATUSES = st.sampled_from([Status.ONLINE, Status.AWAY, Status.OFFLINE])


def view(user: str, status: Status) -> UserView:
    return UserView(user, status, stale=False)


async def taken(feed: Feed[PresenceChange]) -> list[PresenceChange]:
    feed.end()
    return [change async for change in feed]


@given(st.lists(st.tuples(st.sampled_from("ab"), STATUSES)))
def test_a_slow_reader_is_told_the_newest_of_each_user_and_only_what_differs(news: list[tuple[str, Status]]) -> None:
    start = {user: view(user, Status.BUSY) for user in "ab"}
    now = dict(start)
    feed = presence_feed(())
    for user, status in news:
        feed.put(PresenceChange(user, now[user], view(user, status)))
        now[user] = view(user, status)
    changes = asyncio.run(taken(feed))
    assert {change.user: change.now for change in changes} == {
        user: now[user] for user in now if now[user] != start[user]
    }
    assert all(change.before == start[change.user] for change in changes)
    assert len(changes) <= 2


async def test_who_went_and_came_back_unseen_is_not_told_of() -> None:
    feed = presence_feed(())
    feed.put(PresenceChange("a", view("a", Status.ONLINE), view("a", Status.OFFLINE)))
    feed.put(PresenceChange("a", view("a", Status.OFFLINE), view("a", Status.ONLINE)))
    assert await taken(feed) == []


@given(st.lists(st.booleans(), max_size=12))
def test_a_slow_reader_of_a_room_can_still_count_who_is_in_it(steps: list[bool]) -> None:
    """``True`` is a step in or out, ``False`` another meta; the reader takes everything at the end."""
    here = True
    feed = room_feed((), None)
    for is_move in steps:
        if is_move:
            here = not here
            feed.put(RoomChange("joined" if here else "left", MemberView("a", Status.ONLINE)))
        elif here:
            feed.put(RoomChange("updated", MemberView("a", Status.AWAY)))
    feed.end()

    async def count() -> bool:
        inside = True
        async for change in feed:
            assert (change.kind == "joined") == (not inside)
            inside = change.kind != "left"
        return inside

    assert asyncio.run(count()) == here


async def test_a_feed_that_waits_wakes_up_for_news_and_for_the_end() -> None:
    feed = status_feed(ConnectionStatus.CONNECTING)
    assert await anext(feed) is ConnectionStatus.CONNECTING
    waiting = asyncio.create_task(anext(feed))
    await asyncio.sleep(0)
    feed.put(ConnectionStatus.ONLINE)
    assert await waiting is ConnectionStatus.ONLINE
    waiting = asyncio.create_task(anext(feed))
    await asyncio.sleep(0)
    feed.end(Kicked("by an operator", 4004))
    with pytest.raises(Kicked):
        await waiting
    with pytest.raises(Kicked):
        await anext(feed)


async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    feed = presence_feed(())
    waiting = asyncio.create_task(anext(feed))
    await asyncio.sleep(0)
    feed.put(PresenceChange("a", None, view("a", Status.ONLINE)))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await anext(feed)).user == "a"
