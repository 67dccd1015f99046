"""What other windows would have led to, asked of a server that recorded it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stillhere.core.quality import curves
from stillhere.core.words import Cause, UserId
from stillhere.http import whatif
from stillhere.http.policy import WAITING, PolicyCalls
from stillhere.http.whatif import Draining, try_windows
from tests.unit.http.stand import START, Stand, standing

PATH = "/v1/policy/replay"
EVERY = frozenset(Cause(name) for name in whatif.WITH_WINDOW)


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with standing(grace__going_away=2000) as made:
        yield made


async def reload(stand: Stand, user: str, gap: float, code: int = 1001) -> None:
    """A user's page is reloaded, and takes a while to come back."""
    wire = await stand.connect(user, tab="t_4f")
    await stand.wait(1.0)
    wire.leave(code)
    await stand.settle()
    await stand.wait(gap)
    await stand.connect(user, tab="t_4f")


def at(cause: dict[str, Any], window_ms: int) -> tuple[int, int]:
    """False offlines and ghost time of a window that was tried."""
    return next((t["falseOfflines"], t["ghostMs"]) for t in cause["tried"] if t["windowMs"] == window_ms)


async def test_a_longer_window_would_have_removed_exactly_the_false_offline_that_it_covers(stand: Stand) -> None:
    began = stand.clock.now
    await reload(stand, "alice", 4.0)
    await reload(stand, "bob", 12.0)
    await reload(stand, "carol", 1.0)
    told = await stand.get(PATH)
    (cause,) = told["causes"]
    assert (cause["cause"], cause["ends"], cause["windowMs"], cause["recordedMs"]) == ("going_away", 3, 2000, [2000])
    assert cause["recorded"] == {"falseOfflines": 2, "ghostMs": 4000}
    assert at(cause, 2000) == (2, 4000), "under the recorded window, what was recorded comes out"
    assert at(cause, 5000) == (1, 5000), "alice comes back in time, bob does not"
    assert at(cause, 15_000) == (0, 0), "bob too"
    assert at(cause, 0) == (3, 0), "without a window carol is shown offline as well"
    assert [t["windowMs"] for t in cause["tried"]] == sorted(t["windowMs"] for t in cause["tried"])
    assert (told["users"], told["usersKnown"], told["complete"], told["unfaithful"]) == (3, 3, True, 0)
    assert told["oldestAt"] == round(began * 1000) and told["entries"] > 20


async def test_the_curve_is_the_one_of_advise(stand: Stand) -> None:
    for number, gap in enumerate((1.0, 3.0, 6.0, 9.0)):
        await reload(stand, f"user{number}", gap)
        await reload(stand, f"user{number}", gap / 2, code=1005)
    told = await stand.get(PATH)
    timelines = {
        user: list((await stand.store.timeline(user, 0.0, 1e12, 10**6)).entries)
        for user in (UserId(f"user{number}") for number in range(4))
    }
    expected = curves(timelines, until=stand.clock.now)
    assert [cause["cause"] for cause in told["causes"]] == [curve.cause.value for curve in expected]
    for cause, curve in zip(told["causes"], expected, strict=True):
        assert cause["ends"] == curve.ends
        for point in curve.points:
            assert at(cause, round(point.window * 1000)) == (point.false_offlines, round(point.ghost * 1000))


async def test_a_window_of_ones_own_is_tried_and_no_setting_changes(stand: Stand) -> None:
    await reload(stand, "alice", 4.0)
    before = stand.image(), stand.node.settings, repr(stand.store._timelines)
    told = await stand.get(f"{PATH}?cause=going_away&windowMs=3900")
    (cause,) = told["causes"]
    assert at(cause, 3900) == (1, 3900)
    assert (stand.image(), stand.node.settings, repr(stand.store._timelines)) == before
    assert (await stand.get(f"{PATH}?cause=abnormal"))["causes"] == []


async def test_the_window_in_force_is_always_among_those_that_were_tried() -> None:
    async with standing(grace__going_away=2345) as stand:
        await reload(stand, "alice", 1.0)
        (cause,) = (await stand.get(PATH))["causes"]
        assert cause["windowMs"] == 2345 and at(cause, 2345) == (0, 0)
        assert (await stand.get("/v1/stats"))["falseOffline"]["windowMs"]["going_away"] == 2345


async def test_nothing_longer_than_the_longest_window_is_tried() -> None:
    async with standing(grace__max_ms=40_000) as stand:
        await reload(stand, "alice", 1.0)
        (cause,) = (await stand.get(PATH))["causes"]
        assert max(t["windowMs"] for t in cause["tried"]) == 30_000
        problem = await stand.get(f"{PATH}?windowMs=40001", status=400)
        assert "no window may be longer than grace.max_ms, which is 40000" in problem["detail"]
        parameters = (await stand.get("/openapi.json"))["paths"][PATH]["get"]["parameters"]
        (window,) = (one["schema"] for one in parameters if one["name"] == "windowMs")
        assert (window["minimum"], window["maximum"]) == (0, 40_000), "the document says so beforehand"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("cause=tired", "the query parameter cause is 'tired'; it must be a cause that has a window: one of abnormal"),
        ("cause=bye", "the query parameter cause is 'bye'; it must be a cause that has a window"),
        ("windowMs=-1", "the query parameter windowMs is '-1'; it must be a whole number from 0 to 86400000"),
        ("windowMs=soon", "the query parameter windowMs is 'soon'; it must be a whole number"),
    ],
)
async def test_a_question_that_is_wrong_is_refused_with_a_sentence(stand: Stand, query: str, sentence: str) -> None:
    problem = await stand.get(f"{PATH}?{query}", status=400)
    assert problem["detail"].startswith(sentence)


async def test_what_was_recorded_is_not_for_everybody(stand: Stand) -> None:
    assert (await stand.client.get(PATH)).status_code == 401
    headers = {"Authorization": f"Bearer {stand.token(watch='*')}"}
    assert (await stand.client.get(PATH, headers=headers)).status_code == 403


async def test_of_a_server_that_recorded_nothing_the_answer_is_empty(stand: Stand) -> None:
    told = await stand.get(PATH)
    assert (told["users"], told["entries"], told["oldestAt"], told["causes"]) == (0, 0, None, [])
    assert told["complete"]


async def test_the_same_question_is_answered_from_memory_for_a_moment_only(stand: Stand) -> None:
    await reload(stand, "alice", 1.0)
    first = await stand.get(PATH)
    await reload(stand, "bob", 1.0)
    assert await stand.get(PATH) == first
    await stand.wait(10.0)
    assert (await stand.get(PATH))["users"] == 2


# -- bounds -----------------------------------------------------------------------------------------------------


async def test_the_work_is_bounded_and_the_answer_says_that_it_is_a_part(stand: Stand) -> None:
    for number in range(5):
        await reload(stand, f"user{number}", 3.0)
    whole = await try_windows(stand.node, EVERY)
    part = await try_windows(stand.node, EVERY, work=whole.entries * 17 // 2)
    assert (whole.users, whole.complete) == (5, True)
    assert 1 <= part.users < 5 and not part.complete
    assert part.entries < whole.entries


async def test_only_the_newest_entries_of_a_long_timeline_are_replayed(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(6):
        await reload(stand, "alice", 3.0)
    monkeypatch.setattr(whatif, "ENTRIES", 25)
    told = await try_windows(stand.node, EVERY)
    assert told.users == 1 and told.entries + told.skipped == 25 and not told.complete
    assert told.oldest is not None and told.oldest > START


async def test_a_server_that_goes_away_gives_the_work_up(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    await reload(stand, "alice", 3.0)
    seconds = iter(range(1000))
    monkeypatch.setattr(stand.node, "draining", True)
    with pytest.raises(Draining):
        await try_windows(stand.node, EVERY, clock=lambda: float(next(seconds)))


async def test_others_have_their_turn_between_the_slices(stand: Stand) -> None:
    await reload(stand, "alice", 3.0)
    pauses: list[float] = []
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.003
        return now

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    await try_windows(stand.node, EVERY, clock=clock, sleep=sleep)
    assert len(pauses) > 5
    assert all(0.008 < pause < 0.02 for pause in pauses), "twice as long as the work before it"


async def test_when_many_ask_at_once_those_who_wait_too_long_are_told_to_come_again(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reload(stand, "alice", 3.0)
    free = asyncio.Event()
    timeline = stand.store.timeline

    async def slow(*given: Any) -> Any:
        await free.wait()
        return await timeline(*given)

    monkeypatch.setattr(stand.store, "timeline", slow)
    asked = [asyncio.create_task(stand.get(PATH)) for _ in range(WAITING)]
    for _ in range(1000):
        await asyncio.sleep(0)
        if _waiting(stand) == WAITING:
            break
    problem = await stand.get(PATH, status=503)
    free.set()
    answers = await asyncio.gather(*asked)
    assert "try again" in problem["detail"]
    assert all(answer == answers[0] for answer in answers)


def _waiting(stand: Stand) -> int:
    """How many wait for an answer."""
    entries = stand.app.routes[0]._entries  # type: ignore[attr-defined]
    calls = [operation.handler.__self__ for _, operation in entries if operation.path == PATH]
    assert isinstance(calls[0], PolicyCalls)
    return calls[0]._waiting
