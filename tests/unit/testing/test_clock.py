"""The clock that a test moves by hand."""

from __future__ import annotations

import asyncio
import time

import pytest

from stillhere.testing import ManualClock, TimeStandsStill
from stillhere.testing import clock as module
from stillhere.testing.clock import START


async def test_time_stands_still_until_it_is_advanced() -> None:
    clock = ManualClock()
    fired: list[float] = []
    with clock.holding():
        loop = asyncio.get_running_loop()
        loop.call_later(5, lambda: fired.append(clock.elapsed))
        await asyncio.to_thread(time.sleep, 0.01)
        assert (fired, clock.now()) == ([], START)
        await clock.advance(4.9)
        assert fired == []
        await clock.advance(0.2)
        assert fired == [pytest.approx(5)]
        assert clock.elapsed == pytest.approx(5.1)


async def test_timers_fire_in_order_each_at_its_own_time() -> None:
    clock = ManualClock()
    fired: list[tuple[str, float]] = []

    def note(name: str) -> None:
        fired.append((name, round(clock.elapsed, 6)))

    with clock.holding():
        loop = asyncio.get_running_loop()
        for name, delay in (("c", 30.0), ("a", 1.0), ("b", 2.5)):
            loop.call_later(delay, note, name)
        await clock.advance(60)
    assert fired == [("a", 1.0), ("b", 2.5), ("c", 30.0)]


async def test_an_hour_passes_in_no_time() -> None:
    clock = ManualClock()
    begin = time.process_time()
    with clock.holding():
        await clock.advance(3600)
    assert time.process_time() - begin < 1


async def test_afterwards_the_loop_has_its_own_time_again() -> None:
    loop = asyncio.get_running_loop()
    with ManualClock().holding():
        pass
    begin = loop.time()
    await asyncio.sleep(0.01)
    assert 0.005 < loop.time() - begin < 5


async def test_a_loop_is_held_once() -> None:
    with ManualClock().holding(), pytest.raises(RuntimeError, match="held already"), ManualClock().holding():
        pass


async def test_time_does_not_go_back() -> None:
    clock = ManualClock()
    with clock.holding(), pytest.raises(ValueError, match="does not go back"):
        await clock.advance(-1)


def test_who_waits_for_time_without_letting_any_pass_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)

    async def script() -> None:
        with ManualClock().holding():
            await asyncio.sleep(1)

    with pytest.raises(TimeStandsStill, match="advance"):
        asyncio.run(script())
