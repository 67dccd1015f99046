"""One timer wheel for all connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from stillhere.server.wheel import Wheel
from tests.unit.server.clockwork import Clock, Loop

STRIDE = 0.25


class Rider:
    """Notes when it was called, and says when to come again."""

    def __init__(self, wheel: Wheel, again: Callable[[float], float | None] = lambda now: None) -> None:
        self.slot = -1
        self.called: list[float] = []
        self._again = again
        self._wheel = wheel

    def due(self, now: float) -> float | None:
        assert self.slot == -1 and now == self._wheel.now
        self.called.append(now)
        return self._again(now)


def _wheel(slots: int = 512) -> Wheel:
    return Wheel(stride=STRIDE, slots=slots, monotonic=lambda: 0.0)


def _turn(wheel: Wheel, seconds: float) -> None:
    for _ in range(round(seconds / STRIDE)):
        wheel.turn()


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 50)), max_size=20))
def test_a_rider_is_called_once_at_its_time_to_within_one_stride(wishes: list[tuple[float, float]]) -> None:
    wheel = _wheel()
    riders = []
    for start, ahead in sorted(wishes):
        _turn(wheel, max(0.0, start - wheel.now))
        rider = Rider(wheel)
        riders.append((rider, wheel.now + ahead))
        wheel.put(rider, wheel.now + ahead)
    _turn(wheel, 100)
    for rider, at in riders:
        assert len(rider.called) == 1
        assert at - 1e-9 <= rider.called[0] <= at + STRIDE + 1e-9


def test_a_time_that_is_over_comes_with_the_next_tick() -> None:
    wheel = _wheel()
    _turn(wheel, 10)
    rider = Rider(wheel)
    wheel.put(rider, 3.0)
    wheel.turn()
    assert rider.called == [10.25]


def test_a_time_beyond_the_reach_is_taken_round_by_round() -> None:
    wheel = _wheel(slots=8)
    rider = Rider(wheel, lambda now: 10.0 if now < 10.0 else None)
    wheel.put(rider, 10.0)
    _turn(wheel, 30)
    assert rider.called[-1] == 10.25 or rider.called[-1] == 10.0
    assert len(rider.called) < 10


def test_a_newer_wish_replaces_the_older_one() -> None:
    wheel = _wheel()
    rider = Rider(wheel)
    wheel.put(rider, 1.0)
    wheel.put(rider, 5.0)
    _turn(wheel, 10)
    assert rider.called == [5.25]


def test_a_rider_that_was_dropped_is_not_called() -> None:
    wheel = _wheel()
    rider = Rider(wheel)
    wheel.put(rider, 1.0)
    wheel.drop(rider)
    wheel.drop(rider)
    _turn(wheel, 10)
    assert rider.called == [] and rider.slot == -1


def test_riders_of_one_tick_may_drop_and_move_each_other() -> None:
    """In whichever order they are called: the one that is called first drops one of the others and moves another."""
    wheel = _wheel()
    riders: list[Rider] = []

    def meddle(now: float) -> None:
        if sum(len(rider.called) for rider in riders) == 1:
            others = [rider for rider in riders if not rider.called]
            wheel.drop(others[0])
            wheel.put(others[1], now + 1.0)

    riders += [Rider(wheel, meddle) for _ in range(3)]
    for rider in riders:
        wheel.put(rider, 1.0)
    wheel.turn()
    _turn(wheel, 10)
    assert sorted(tuple(rider.called) for rider in riders) == [(), (1.25,), (2.5,)]
    assert not any(wheel._slots)


def test_a_rider_may_put_itself_from_within_its_call() -> None:
    wheel = _wheel()

    def again(now: float) -> float | None:
        if now < 2:
            wheel.put(rider, 5.0)
        return None

    rider = Rider(wheel, again)
    wheel.put(rider, 1.0)
    _turn(wheel, 10)
    assert rider.called == [1.25, 5.25]


def _on_a_loop(script: Callable[[Wheel, Clock], None], seconds: float) -> Wheel:
    """Run a wheel on a loop for a while after a script has prepared it."""
    clock = Clock()
    ticks: list[float] = []
    wheel = Wheel(stride=STRIDE, monotonic=clock.monotonic, on_tick=lambda: ticks.append(clock.elapsed))

    async def run() -> None:
        wheel.start()
        script(wheel, clock)
        await asyncio.sleep(seconds)
        wheel.stop()
        count = len(ticks)
        await asyncio.sleep(5)
        assert len(ticks) == count, "a wheel that was stopped ticks no more"

    with asyncio.Runner(loop_factory=lambda: Loop(clock)) as runner:
        runner.run(run())
    assert ticks
    return wheel


def test_the_wheel_keeps_time_while_the_loop_does() -> None:
    wheel = _on_a_loop(lambda wheel, clock: None, 60.1)
    assert abs(wheel.now - 60.0) < STRIDE + 1e-6
    assert wheel.stalled == 0 and wheel.lag < 1e-6


def test_a_stall_moves_the_wheel_by_one_stride_only() -> None:
    def stall(wheel: Wheel, clock: Clock) -> None:
        asyncio.get_running_loop().call_later(10, lambda: vars(clock).update(elapsed=clock.elapsed + 300))

    wheel = _on_a_loop(stall, 320)
    assert 19.0 < wheel.now < 20.6
    assert 299 < wheel.stalled < 301


def test_after_a_stall_the_loop_reads_before_anybody_is_judged() -> None:
    order: list[str] = []

    def stall(wheel: Wheel, clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        near.setblocking(False)

        def read() -> None:
            order.append("read")
            loop.remove_reader(near)
            near.close()
            far.close()

        def judge(now: float) -> None:
            order.append("judged")

        def pause() -> None:
            clock.elapsed += 100
            loop.call_soon(far.send, b"x")  # what arrived meanwhile is seen by the selector's next look only

        loop.add_reader(near, read)
        wheel.put(Rider(wheel, judge), 5.0)
        loop.call_later(5.1, pause)  # between two ticks; the second one is late

    _on_a_loop(stall, 110)
    assert order == ["read", "judged"]


def test_a_wheel_that_is_stopped_right_after_a_stall_judges_nobody() -> None:
    clock = Clock()
    wheel = Wheel(stride=STRIDE, monotonic=clock.monotonic)
    rider = Rider(wheel)

    async def run() -> None:
        wheel.start()
        wheel.put(rider, 0.1)
        clock.elapsed += 50
        for _ in range(10):
            if wheel.stalled:
                break
            await asyncio.sleep(0)
        assert wheel.stalled
        wheel.stop()
        await asyncio.sleep(5)

    with asyncio.Runner(loop_factory=lambda: Loop(clock)) as runner:
        runner.run(run())
    assert rider.called == []
    wheel.stop()
