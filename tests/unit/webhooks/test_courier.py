"""What a hook promises: everything at least once, each user's in order, whatever the endpoint does."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from stillhere.server.webhooks.courier import BACK_OFF_MAX, CONCURRENT, REFUSALS, WINDOW
from stillhere.server.webhooks.letters import Letter, Letters
from stillhere.server.webhooks.sender import Answer
from stillhere.store.contract import StoreUnavailable
from stillhere.store.memory import MemoryStore
from tests.unit.server.clockwork import Clock
from tests.unit.webhooks.desk import DOWN, GIVE_UP, NO_HOLD, OK, Desk, Sent, timed


async def pass_time(seconds: float) -> None:
    """The clock is moved by waiting."""
    await asyncio.sleep(seconds)


@timed
async def test_every_change_is_told_once_and_in_order_while_all_goes_well(clock: Clock) -> None:
    desk = await (await Desk(clock).open()).begin()
    await desk.flip("ann", "bob", times=50)
    await pass_time(5)
    assert sorted(desk.versions()) == list(range(1, 201))
    assert desk.versions("ann") == sorted(desk.versions("ann"))
    assert {sent.type for sent in desk.sent} == {"presence.online", "presence.offline"}
    assert desk.counted == {"delivered": 200}
    assert desk.courier.lag == 0.0


@timed
async def test_a_hook_begins_at_the_present(clock: Clock) -> None:
    desk = await Desk(clock).open()
    await desk.flip("ann")
    await desk.begin()
    await pass_time(5)
    assert desk.sent == []
    await desk.flip("ann")
    await pass_time(5)
    assert desk.versions() == [3, 4]


@timed
async def test_a_hook_is_told_what_it_asked_for(clock: Clock) -> None:
    desk = Desk(clock)
    desk.courier = desk.make("offline")
    await (await desk.open()).begin()
    await desk.flip("ann", times=3)
    await pass_time(5)
    assert desk.versions() == [2, 4, 6]


@timed
async def test_never_two_messages_of_one_user_are_under_way(clock: Clock) -> None:
    desk = await (await Desk(clock).open()).begin()
    desk.latency = 1.0
    await desk.flip("ann", times=4)
    await pass_time(20)
    assert desk.most == 1 and desk.versions() == list(range(1, 9))
    await desk.flip(*(f"u{n}" for n in range(40)))
    await pass_time(60)
    assert desk.most == CONCURRENT


@timed
async def test_a_message_that_fails_holds_up_its_user_alone(clock: Clock) -> None:
    desk = await (await Desk(clock).open()).begin()
    desk.takes = lambda sent: DOWN if sent.data.get("version") == 1 and clock.elapsed < 60 else OK
    await desk.flip("ann", "bob", "carol")
    await pass_time(20)
    assert set(desk.versions("bob")) == {3, 4} and set(desk.versions("carol")) == {5, 6}
    assert set(desk.versions("ann")) == {1}
    await pass_time(600)
    assert desk.versions("ann")[-2:] == [1, 2]
    assert desk.versions("bob") == [3, 4]


@timed
async def test_the_same_change_has_the_same_id_at_every_attempt(clock: Clock) -> None:
    desk = await (await Desk(clock).open()).begin()
    desk.takes = lambda sent: None if len(desk.sent) < 4 else OK
    await desk.flip("ann")
    await pass_time(120)
    assert len(set(desk.ids()[:4])) == 1
    assert len(set(desk.ids())) == 2


@timed
async def test_an_endpoint_that_is_down_is_probed_by_one_request_at_a_time_and_ever_more_rarely(clock: Clock) -> None:
    desk = await (await Desk(clock).open()).begin()
    desk.takes, desk.latency = (lambda sent: None), 0.5
    await desk.flip(*(f"u{n}" for n in range(100)))
    await pass_time(5)
    desk.most, first = 0, len(desk.sent)
    await pass_time(5400)
    assert desk.most == 1
    probes = [sent.at for sent in desk.sent[first:]]
    waits = [after - before for before, after in itertools.pairwise(probes)]
    assert max(waits) < BACK_OFF_MAX + 2 and 5400 / len(probes) > BACK_OFF_MAX / 4
    assert len({round(wait) for wait in waits[-20:]}) > 10, "full jitter: no two waits are alike"
    desk.takes = lambda sent: OK
    await pass_time(BACK_OFF_MAX + 60)
    assert set(desk.versions()) == set(range(1, 201))


@timed
async def test_an_endpoint_that_asks_to_be_left_alone_is(clock: Clock) -> None:
    desk = await (await Desk(clock).open()).begin()
    desk.takes = lambda sent: Answer(429, 120.0) if len(desk.sent) == 1 else OK
    await desk.flip("ann", "bob")
    await pass_time(100)
    early = len(desk.sent)
    await pass_time(100)
    assert early <= CONCURRENT and desk.sent[early].at >= 120.0
    assert set(desk.versions()) == {1, 2, 3, 4}


@timed
async def test_who_comes_after_a_crash_goes_on_from_the_mark(clock: Clock) -> None:
    desk = await (await Desk(clock).open()).begin()
    await desk.flip("ann", times=3)
    await pass_time(5)
    await desk.end()
    await desk.flip("ann", times=2)
    desk.courier = desk.make()
    await desk.begin()
    await pass_time(5)
    assert desk.versions() == list(range(1, 11))


@timed
async def test_what_was_not_taken_before_a_restart_is_sent_after_it(clock: Clock) -> None:
    desk = await (await Desk(clock).open()).begin()
    desk.takes = lambda sent: None if sent.user == "ann" else OK
    await desk.flip("ann", "bob")
    await pass_time(5)
    await desk.end()
    desk.takes, before = (lambda sent: OK), len(desk.sent)
    desk.courier = desk.make()
    await desk.begin()
    await pass_time(5)
    again = [sent.data["version"] for sent in desk.sent[before:]]
    assert [v for v in again if v < 3] == [1, 2], "nothing is left out"
    assert set(again) <= {1, 2, 3, 4}, "some are repeated, with the ids that they had"
    assert set(desk.ids("bob")) == set(desk.ids("bob")[:2])


@timed
async def test_a_log_that_was_trimmed_is_told_as_a_gap_and_then_it_goes_on(clock: Clock) -> None:
    desk = await (await Desk(clock, log_kept=20).open()).begin()
    desk.takes = lambda sent: None
    await desk.flip("ann")
    await pass_time(1)
    await desk.end()
    await desk.flip("bob", times=100)
    desk.takes = lambda sent: OK
    before = len(desk.sent)
    desk.courier = desk.make()
    await desk.begin()
    await pass_time(5)
    await desk.flip("carol")
    await pass_time(5)
    told = [(sent.type, sent.user) for sent in desk.sent[before:]]
    assert told == [("log.gap", ""), ("presence.online", "carol"), ("presence.offline", "carol")]
    assert desk.sent[before].data["cursor"].endswith("-202")


@timed
async def test_after_failing_for_long_the_old_become_dead_letters_and_the_young_go_on(clock: Clock) -> None:
    desk = await (await Desk(clock).open()).begin()
    desk.takes = lambda sent: DOWN
    await desk.flip("ann", times=3)
    await pass_time(GIVE_UP - 3600)
    assert "dead" not in desk.counted
    await desk.flip("bob")
    await pass_time(3600 + BACK_OFF_MAX)
    box = await desk.courier.letters.read()
    assert [letter.id.split("-")[1] for letter in box.letters] == list("123456")
    assert len(box.letters) == 6 and desk.counted["dead"] == 6
    assert box.letters[0].reason == "the endpoint answered 503"
    assert (await desk.courier.known()).dead == 6
    desk.takes = lambda sent: OK
    await pass_time(2 * BACK_OFF_MAX)
    assert desk.versions("bob")[-2:] == [7, 8]
    assert desk.courier.lag == 0.0


@timed
async def test_one_event_that_alone_is_refused_does_not_hold_up_the_hook_for_long(clock: Clock) -> None:
    desk = await (await Desk(clock).open()).begin()
    desk.takes = lambda sent: Answer(400) if sent.data.get("version") == 1 else OK
    await desk.flip("ann")
    for n in range(600):
        await desk.flip(f"u{n}")
        await pass_time(1)
    await pass_time(BACK_OFF_MAX)
    (letter,) = (await desk.courier.letters.read()).letters
    assert letter.attempts >= REFUSALS and letter.reason == "the endpoint answered 400"
    assert set(desk.versions()) == set(range(1, 1203))


@timed
async def test_what_a_hook_holds_is_bounded_however_far_it_is_behind(clock: Clock) -> None:
    desk = await (await Desk(clock).open()).begin()
    desk.takes = lambda sent: None
    for n in range(20):
        await desk.flip(*(f"u{n}-{k}" for k in range(50)))
        await pass_time(1)
        assert sum(len(lane.items) for lane in desk.courier._lanes) <= WINDOW
    assert desk.courier.lag > 15
    desk.takes = lambda sent: OK
    await pass_time(BACK_OFF_MAX)
    assert set(desk.versions()) == set(range(1, 2001))


@timed
async def test_dead_letters_can_be_sent_again_and_are_then_gone(clock: Clock) -> None:
    desk = await (await Desk(clock).open()).begin()
    desk.takes = lambda sent: DOWN
    await desk.flip("ann", times=2)
    await pass_time(GIVE_UP + 2 * BACK_OFF_MAX)
    dead = [letter.id for letter in (await desk.courier.letters.read()).letters]
    desk.takes = lambda sent: OK if sent.data["version"] < 4 else DOWN
    before = len(desk.sent)
    await desk.courier.ask_replay()
    await pass_time(10)
    assert desk.ids()[before:] == dead, "oldest first, with the ids that they had"
    assert [letter.id for letter in (await desk.courier.letters.read()).letters] == dead[3:]
    desk.takes = lambda sent: OK
    await desk.courier.ask_replay()
    await pass_time(10)
    assert (await desk.courier.letters.read()).letters == []
    assert (await desk.courier.known()).dead == 0


@timed
async def test_a_wish_for_a_replay_waits_for_whoever_delivers(clock: Clock) -> None:
    desk = await (await Desk(clock).open()).begin()
    await desk.courier.letters.add([Letter("msg_1", "presence.online", b'{"type":"t","data":{}}', 0, 1, 9, "why")])
    other = desk.make()
    await other.ask_replay()
    await pass_time(10)
    assert desk.ids() == ["msg_1"]


@timed
async def test_dead_letters_are_bounded_and_what_was_dropped_is_counted(clock: Clock) -> None:
    store = MemoryStore(clock.now)
    box = Letters(store, "wh_1")
    for n in range(30):
        await box.add([Letter(f"msg_{n}-{k}", "t", b"x" * 1000, 0, 1, 9, "why") for k in range(10)])
    kept = await box.read()
    assert (len(kept.letters), kept.dropped, kept.letters[-1].id) == (200, 100, "msg_29-9")
    await box.add([Letter("msg_big", "t", b"x" * 500_000, 0, 1, 9, "why")])
    assert sum(len(letter.body) for letter in (await box.read()).letters) <= 512 * 1024
    await box.add([Letter("msg_big", "t", b"x", 0, 2, 9, "why")])
    assert [letter.id for letter in (await box.read()).letters].count("msg_big") == 1


@timed
async def test_who_is_not_chosen_sends_nothing(clock: Clock) -> None:
    desk = await (await Desk(clock).open()).begin()
    desk.courier.chosen = False
    desk.courier.wake()
    await pass_time(1)
    await desk.flip("ann")
    await pass_time(60)
    assert desk.sent == []
    desk.courier.chosen = True
    desk.courier.wake()
    await pass_time(5)
    assert desk.versions() == [1, 2]


class Shaky(MemoryStore):
    """A store that is out of reach for a while."""

    away = False

    async def get_mark(self, name: str) -> bytes | None:
        if self.away:
            raise StoreUnavailable("out of reach")
        return await super().get_mark(name)

    async def set_mark(self, name: str, value: bytes | None) -> None:
        if self.away:
            raise StoreUnavailable("out of reach")
        await super().set_mark(name, value)


@timed
async def test_an_outage_of_the_store_repeats_a_little_and_loses_nothing(clock: Clock) -> None:
    store = Shaky(clock.now, limits=NO_HOLD)
    desk = await (await Desk(clock, store).open()).begin()
    await desk.flip("ann")
    await pass_time(3)
    store.away = True
    await desk.flip("ann", times=2)
    await pass_time(30)
    store.away = False
    await desk.flip("ann")
    await pass_time(10)
    assert set(desk.versions()) == set(range(1, 9))
    first: dict[int, Sent] = {}
    for sent in desk.sent:
        first.setdefault(sent.data["version"], sent)
    assert list(first) == sorted(first), "each is first told in order"


@pytest.mark.parametrize("kept", [b"", b"\xff\xff", b"\x92\x01\x02"])
def test_a_mark_that_cannot_be_read_begins_anew(kept: bytes) -> None:
    @timed
    async def run(clock: Clock) -> None:
        desk = await Desk(clock).open()
        await desk.store.set_mark("webhook/wh_1", kept)
        await desk.begin()
        await desk.flip("ann")
        await pass_time(5)
        assert desk.versions() == [1, 2]

    run()
