"""Who does not read is spared what he cannot take, then sent away; and nobody else waits for him."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.raw import Closed, Raw
from tests.acceptance.server import TRANSPORTS, ServerProcess, Transport
from tests.acceptance.watching import Watcher, enter, wait_until, watch

SPEAKERS, META = 20, 2000
"""How many users change all the time, and how much each shows: a change of all is a frame of 40 KB."""

LAG = 3.0
SETTINGS: dict[str, object] = {
    "limits.message_bytes": 8192,
    "limits.outbox_bytes": 8192,
    "limits.lag_timeout_ms": round(LAG * 1000),
    "limits.messages_per_second": 1000,
    "limits.messages_burst": 2000,
    "grace.slow_consumer": 1500,
}


class Speakers:
    """Users who change what they show of themselves."""

    def __init__(self, server: ServerProcess) -> None:
        self.names = [f"speaker-{n}" for n in range(SPEAKERS)]
        self.round = 0
        self._clients = [enter(server, name) for name in self.names]

    def speak(self) -> None:
        """Change everybody, once, and have it acknowledged."""
        self.round += 1
        meta = {"n": self.round, "text": "x" * META}
        for client in self._clients:
            client.send({"type": "state", "id": self.round, "meta": {**meta, "n": self.round}})
        for client in self._clients:
            client.expect("ok", id=self.round)
        time.sleep(0.005)

    def told(self, watcher: Watcher) -> set[int | None]:
        """Which round each speaker is shown at."""
        return {(watcher.history(name)[-1].told.get("meta") or {}).get("n") for name in self.names}

    def close(self) -> None:
        """End all."""
        for client in self._clients:
            client.tcp.close()


def metric(server: ServerProcess, name: str) -> float:
    """A counter without labels."""
    found = re.search(rf"^{name} (\S+)$", server.get("/metrics")[1], re.MULTILINE)
    assert found is not None
    return float(found[1])


@pytest.fixture(params=TRANSPORTS)
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A server with a small outbox."""
    transport: Transport = request.param
    with ServerProcess(SETTINGS, websocket=transport) as running:
        yield running
        assert running.terminate() == 0
        assert running.stderr == ""


def mute_watcher(server: ServerProcess, users: list[str], name: str) -> Raw:
    """Somebody who watches and, from now on, does not read; the kernel keeps little for him."""
    client = Raw.open(server.ws_url, server.token(name), tab="t", receive_buffer=4096)
    client.ask({"type": "watch", "id": "w", "users": users}, "snapshot")
    return client


@pytest.mark.timeout(90)
def test_a_client_that_does_not_read_is_told_the_newest_state_only_or_closed_with_4102(server: ServerProcess) -> None:
    speakers = Speakers(server)
    with watch(server, *speakers.names, "mute", "late") as watcher:
        late = mute_watcher(server, speakers.names, "late")
        while metric(server, "stillhere_frames_folded_total") == 0:
            for _ in range(10):
                speakers.speak()
            assert speakers.round < 2000
        for _ in range(5):
            speakers.speak()
        # the bystander has all of it, at once
        wait_until(lambda: speakers.told(watcher) == {speakers.round}, 2)

        # who reads again is told the newest state of each, and not all that was in between
        newest: dict[str, int] = {}
        while set(newest.values()) != {speakers.round} or len(newest) < SPEAKERS:
            for told in late.expect("presence")["changes"]:
                assert told["meta"]["n"] > newest.get(told["user"], 0)
                newest[told["user"]] = told["meta"]["n"]
        assert sum(seen["type"] == "presence" for seen in late.seen) < speakers.round * SPEAKERS
        late.round_trip()
        assert server.log("active_socket_closed", user="late") == []

        late.send({"type": "bye"})
        late.answer_close(late.closed())

        # who does not is closed after a while, with the cause of it, and has a window like everybody
        mute = mute_watcher(server, speakers.names, "mute")
        closed: list[dict[str, Any]] = []
        began = time.monotonic()
        while not closed:
            speakers.speak()
            closed = server.log("active_socket_closed", user="mute")
            assert time.monotonic() - began < LAG + 20
        assert (closed[0]["code"], closed[0]["cause"]) == (4102, "slow_consumer")
        assert metric(server, "stillhere_slow_consumer_closes_total") == 1
        wait_until(lambda: speakers.told(watcher) == {speakers.round}, 2)
        assert watcher.wait_for("mute", "offline").told["lastSeenAt"] > 0
        assert watcher.statuses("mute") == ["online", "offline"]
        with pytest.raises(Closed):  # noqa: PT012 - what is still on its way comes first
            while True:
                mute.receive()
        assert watcher.statuses("late") == ["online", "offline"]  # by its bye
        mute.tcp.close()
        speakers.close()


@pytest.mark.timeout(90)
def test_a_client_that_asks_and_never_reads_the_answers_is_closed_before_they_pile_up(server: ServerProcess) -> None:
    """Each answer is 40 KB; a thousand questions would be 40 MB of them."""
    speakers = Speakers(server)
    speakers.speak()
    with watch(server, *speakers.names) as watcher:
        greedy = Raw.open(server.ws_url, server.token("greedy"), receive_buffer=4096)
        before = resident(server)
        try:
            for n in range(1000):
                greedy.send({"type": "query", "id": n, "users": speakers.names})
        except OSError:
            pass  # the server had enough
        (closed,) = server.wait_log("active_socket_closed", user="greedy", timeout=LAG + 10)
        assert (closed["code"], closed["cause"]) == (4102, "slow_consumer")
        assert resident(server) - before < 16 << 20
        speakers.speak()
        wait_until(lambda: speakers.told(watcher) == {speakers.round}, 2)
        greedy.tcp.close()
    speakers.close()


def resident(server: ServerProcess) -> int:
    """How much memory the process has ever had, in bytes."""
    with open(f"/proc/{server.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
