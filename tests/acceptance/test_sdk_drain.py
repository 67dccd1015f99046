"""A crowd of TypeScript clients whose node drains: all of them come back, and not at once."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import pytest

from tests.acceptance.sdk_page import DIST, NOT_BUILT
from tests.acceptance.server import ServerProcess
from tests.acceptance.switch import Switch

CLIENTS = 200
DRAIN = 4.0
"""How long the node takes to send them away, in seconds."""
EARLY = 5
"""By how much a timer may be early, in milliseconds: Node's counts whole ones."""
LATE = 500
"""By how much a client on a busy machine may be late, in milliseconds."""

CROWD = DIST.parent / "test" / "crowd.mjs"
NODE = shutil.which("node")


def arguments() -> list[str] | None:
    """How to start Node so that it has a WebSocket; None if it has none, or there is no Node."""
    if NODE is None:
        return None
    for flags in ([], ["--experimental-websocket"]):
        asked = subprocess.run(
            [NODE, *flags, "-e", "process.exit(typeof WebSocket === 'function' ? 0 : 1)"],
            capture_output=True,
            timeout=20,
            check=False,
        )
        if asked.returncode == 0:
            return [NODE, *flags]
    return None


pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(not (DIST / "index.js").is_file(), reason=NOT_BUILT),
    pytest.mark.skipif(NODE is None, reason="there is no Node"),
]


class Crowd:
    """The clients, in a Node process of their own; a context manager."""

    def __init__(self, node: list[str], url: str, tokens: list[str]) -> None:
        """Prepare.

        Args:
            node: how to start Node.
            url: of the socket.
            tokens: of each client.
        """
        self._command = [*node, str(CROWD), url]
        self._tokens = tokens
        self._said: list[dict[str, Any]] = []
        self._complaints: list[str] = []

    def __enter__(self) -> Crowd:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_complaints)]
        for reader in self._readers:
            reader.start()
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{token}\n" for token in self._tokens))
        self._process.stdin.flush()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join(5)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def told(self, kind: str, since: float = 0.0) -> dict[int, list[dict[str, Any]]]:
        """What happened to each client, of one kind.

        Args:
            kind: ``status``, ``open``, ``moving`` or ``close``.
            since: Unix seconds.
        """
        found: dict[int, list[dict[str, Any]]] = {}
        for line in list(self._said):
            if kind in line and line["at"] >= since * 1000:
                found.setdefault(line["who"], []).append(line)
        return found

    def statuses(self) -> list[str]:
        """How the connection of each client stands."""
        return [lines[-1]["status"] for lines in self.told("status").values()]

    def wait(self, true: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until something is so."""
        end = time.monotonic() + seconds
        while not true():
            stands = {status: self.statuses().count(status) for status in set(self.statuses())}
            complaint = "".join(self._complaints)[-1000:]
            assert self._process.poll() is None, f"the clients ended: {complaint}"
            assert time.monotonic() < end, f"not within {seconds} s: {what}; {stands} {complaint}"
            time.sleep(0.05)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.append(json.loads(line))

    def _read_complaints(self) -> None:
        assert self._process.stderr is not None
        self._complaints.extend(self._process.stderr)


@pytest.fixture(scope="module")
def node() -> list[str]:
    found = arguments()
    if found is None:
        pytest.skip("this Node has no WebSocket")
    return found


def test_two_hundred_clients_leave_a_draining_node_at_the_times_that_it_dealt_out(node: list[str]) -> None:
    with (
        ServerProcess({"server.drain_s": DRAIN}) as old,
        ServerProcess({"auth.secret": old.secret, "server.node": "n2"}) as new,
        Switch(old.port, backlog=2 * CLIENTS) as switch,
        Crowd(node, switch.url, [old.token(f"user-{n}") for n in range(CLIENTS)]) as crowd,
    ):
        crowd.wait(lambda: crowd.statuses() == ["online"] * CLIENTS, 15, "everybody is online")
        began = time.time()
        switch.port = new.port
        old.signal(signal.SIGTERM)
        crowd.wait(lambda: len(crowd.told("moving")) == CLIENTS, DRAIN / 2 + 2, "everybody is told")
        assert old.wait(DRAIN + 10) == 0
        crowd.wait(
            lambda: len(crowd.told("open", began)) == CLIENTS and crowd.statuses() == ["online"] * CLIENTS,
            15,
            "everybody is online again",
        )
        moving, opened = crowd.told("moving"), crowd.told("open", began)
        closed, statuses = crowd.told("close", began), crowd.told("status", began)

    # one attempt each, at the time that the node had dealt out
    assert {len(attempts) for attempts in opened.values()} == {1}
    waits = []
    for who, (attempt,) in opened.items():
        (told,) = moving[who]
        waits.append(attempt["at"] - told["at"] - told["moving"])
    assert min(waits) >= -EARLY
    assert sorted(waits)[CLIENTS // 2] <= LATE

    # over the whole of the drain, so that no second sees more than its share and some luck
    times = sorted(attempt["at"] for (attempt,) in opened.values())
    assert times[-1] - times[0] >= 0.7 * DRAIN * 1000
    busiest = max(sum(at <= other < at + 1000 for other in times) for at in times)
    assert busiest <= 1.6 * CLIENTS / DRAIN

    # the node closed them itself, so that each had the longest window until it was back
    assert {line["close"] for lines in closed.values() for line in lines} == {1012}
    assert {line["status"] for lines in statuses.values() for line in lines} == {"reconnecting", "online"}
    assert old.log("PRESENCE_OFFLINE") == []
    assert new.log("PRESENCE_OFFLINE") == []
