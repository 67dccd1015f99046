"""An upgrade that is in flight when the window runs out: OFFLINE waits for its outcome, and no longer.

The application takes its time (``apps/slow_admit.py``): whether somebody is let in is said by a file.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.raw import Raw, dial, upgrade_head
from tests.acceptance.server import START, TRANSPORTS, ServerProcess, Transport, environment
from tests.acceptance.watching import Watcher, enter, faults, log_faults, wait_until, watch

WINDOW, HANDSHAKE = 1200, 4500
"""Milliseconds. The handshake outlives the window by far, so that what is shown in between is the promise."""

ROOT = Path(__file__).parents[2]


class SlowToAdmit(ServerProcess):
    """The server of ``apps/slow_admit.py``."""

    def start(self) -> ServerProcess:
        """Start it, and wait until it serves."""
        process = self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.apps.slow_admit", str(self.directory)],
            env=environment(self._settings),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        pipes = {"stdout": process.stdout, "stderr": process.stderr}
        self._readers = [
            threading.Thread(target=self._read, args=(name, pipe), daemon=True)
            for name, pipe in pipes.items()
            if pipe is not None
        ]
        for reader in self._readers:
            reader.start()
        self.url = self.wait_log("serving", timeout=START)[-1]["url"]
        self._until(lambda: self.get("/readyz")[0] == 200, START, "be ready")
        return self

    def decide(self, name: str, answer: str) -> float:
        """Answer an upgrade; returns when, Unix seconds."""
        draft = self.directory / f"{name}.draft"
        draft.write_text(answer)
        draft.rename(self.directory / name)
        return time.time()


@pytest.fixture(params=TRANSPORTS)
def slow(request: pytest.FixtureRequest) -> Iterator[SlowToAdmit]:
    """Over both transports."""
    settings = {"grace.going_away": WINDOW, "limits.handshake_timeout_ms": HANDSHAKE}
    transport: Transport = request.param
    with SlowToAdmit(settings, websocket=transport) as server:
        assert isinstance(server, SlowToAdmit)
        yield server
        assert server.terminate() == 0
        assert log_faults(server.log()) == []


def knock(server: ServerProcess, user: str) -> Raw:
    """Begin an upgrade that waits for the answer in the file of the user's name."""
    client = Raw(dial(server.url))
    client.raw(upgrade_head(f"{server.ws_url}?tab=t&hold={user}", token=server.token(user)))
    return client


def connecting(server: ServerProcess, user: str) -> bool:
    """Whether an upgrade of the user is in flight."""
    status, told = server.get(f"/v1/users/{user}/diagnostics")
    assert status == 200
    return [c["readyState"] for c in told["connections"]] == ["CONNECTING"]


def offline_after(watcher: Watcher, user: str, moment: float) -> None:
    """The one OFFLINE that was shown came right after this moment."""
    shown = watcher.wait_for(user, "offline")
    assert moment - 0.002 <= shown.told["changedAt"] / 1000 <= moment + 0.5
    assert watcher.statuses(user) == ["online", "offline"]
    assert faults(watcher.history(user)) == []


def test_offline_waits_for_an_upgrade_in_flight_and_follows_its_failure_at_once(slow: SlowToAdmit) -> None:
    users = ("refused", "granted", "left", "undecided")
    with watch(slow, *users) as watcher:
        for user in users:
            page = enter(slow, user, "t")
            watcher.wait_for(user, "online")
            page.leave(1001)
        gone = time.time()
        clients = {user: knock(slow, user) for user in users}
        knocked = time.time()
        for user in users:
            wait_until(lambda user=user: connecting(slow, user))  # type: ignore[misc]
        assert time.time() - gone < WINDOW / 1000, "the machine is too slow to say anything"

        time.sleep(gone + WINDOW / 1000 + 1.2 - time.time())  # the window is over for certain, the handshake is not
        watcher.settle()
        for user in users:
            assert watcher.statuses(user) == ["online"]
            status, told = slow.get(f"/v1/users/{user}")
            assert (status, told["status"]) == (200, "online")

        said = slow.decide("refused", "no")
        status, _, _ = clients["refused"].response()
        assert status == 403
        offline_after(watcher, "refused", said)

        slow.decide("granted", "yes")
        clients["granted"].upgraded()
        assert clients["granted"].expect("welcome")["user"] == "granted"

        said = time.time()
        clients["left"].tcp.close()
        offline_after(watcher, "left", said)

        shown = watcher.wait_for("undecided", "offline")  # nobody ever answers: the time-out of the handshake does
        status, headers, _ = clients["undecided"].response()
        assert (status, headers["retry-after"]) == (503, "1") or (status, headers["retry-after"]) == (503, "2")
        assert shown.told["changedAt"] / 1000 - knocked <= HANDSHAKE / 1000 + 1
        for user in ("refused", "left", "undecided"):  # it is the close that is told, not what came later
            told = watcher.history(user)[-1].told
            assert told["lastSeenAt"] / 1000 <= gone + 0.3
        watcher.settle()
        assert watcher.statuses("granted") == ["online"]
        for client in clients.values():
            client.tcp.close()
