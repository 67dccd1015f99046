"""``presence.sync``: the same questions from threads, and from programs that have no event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from stillhere.embed import NotRunning, Presence, StoreRefused

SECRET = "a secret for tests, and for nothing else"


@pytest.fixture
def presence() -> Presence:
    return Presence(store="memory:", secret=SECRET)


async def test_a_thread_of_the_application_gets_the_same_answers(presence: Presence) -> None:
    def view() -> list[object]:
        sync = presence.sync
        return [
            sync.status("alice"),
            sync.statuses(["alice", "bob"]),
            sync.room("kitchen").members,
            sync.diagnostics("alice").online,
            sync.disconnect("alice", "why not"),
        ]

    async with presence.lifespan():
        found = await asyncio.to_thread(view)
    assert found == ["offline", {"alice": "offline", "bob": "offline"}, (), False, 0]


async def test_errors_come_through(presence: Presence) -> None:
    async with presence.lifespan():
        with pytest.raises(ValueError, match="user id"):
            await asyncio.to_thread(presence.sync.status, "")


async def test_on_its_own_loop_it_says_what_to_do_instead_of_waiting_for_itself(presence: Presence) -> None:
    async with presence.lifespan():
        with pytest.raises(RuntimeError, match="await presence"):
            presence.sync.status("alice")


def test_where_nothing_runs_it_says_how_to_run_it(presence: Presence) -> None:
    with pytest.raises(NotRunning, match=r"presence\.lifespan.*presence\.sync\.start"):
        presence.sync.status("alice")


async def test_an_answer_that_does_not_come_is_a_time_out(presence: Presence, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(user: str) -> None:
        await asyncio.Event().wait()

    async with presence.lifespan():
        monkeypatch.setattr(presence, "status", never)
        with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
            await asyncio.to_thread(presence.sync.status, "alice", timeout=0.05)


def test_a_program_without_a_loop_runs_it_on_a_thread(presence: Presence) -> None:
    with presence.sync.start() as sync:
        assert sync.status("alice") == "offline"
        assert "stillhere" in {thread.name for thread in threading.enumerate()}
        with pytest.raises(RuntimeError, match="runs already"):
            presence.sync.start()
    assert not presence.running
    assert "stillhere" not in {thread.name for thread in threading.enumerate()}
    presence.sync.stop()
    with presence.sync.start() as sync:
        assert sync.status("alice") == "offline"


def test_a_start_that_fails_leaves_no_thread(tmp_path: Path) -> None:
    presence = Presence(store=f"sqlite:///{tmp_path}/no/such/folder/presence.db", secret=SECRET)
    with pytest.raises(StoreRefused):
        presence.sync.start()
    assert "stillhere" not in {thread.name for thread in threading.enumerate()}


async def test_many_threads_may_ask_at_once(presence: Presence) -> None:
    async with presence.lifespan():
        begin = time.perf_counter()
        found = await asyncio.gather(*(asyncio.to_thread(presence.sync.status, f"user-{n}") for n in range(200)))
    assert set(found) == {"offline"}
    assert time.perf_counter() - begin < 10
