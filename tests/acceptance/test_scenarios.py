"""The scenarios in which the project's ancestor showed people offline who were online, against a real server.

Bounds from below are those of the promise and hold on any machine; bounds from above are taken from the server's own
stamps where it has them (``changedAt`` and ``lastSeenAt``), so that a busy client proves nothing wrong.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.raw import Raw, dial
from tests.acceptance.server import TRANSPORTS, ServerProcess, Transport
from tests.acceptance.watching import Shown, Watcher, enter, faults, log_faults, wait_until, watch

CLIENT_CLOSE, GOING_AWAY, ABNORMAL, EXPIRED, HEARTBEAT_LOST = 800, 1500, 1000, 1000, 800
WINDOWS: dict[str, object] = {
    "grace.client_close": CLIENT_CLOSE,
    "grace.going_away": GOING_AWAY,
    "grace.abnormal": ABNORMAL,
    "grace.expired": EXPIRED,
    "grace.heartbeat_lost": HEARTBEAT_LOST,
    "auth.leeway_ms": 0,
}
SWEEP = 1000
"""How late after the end of its window an OFFLINE may be, in milliseconds."""

FILTER = re.compile(
    "active_socket_closed|PRESENCE_(ONLINE|OFFLINE)|connection_established|ws_closed|user_reconnected|user_disconnected"
)
"""Of docs/protocol.md section 3."""

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Transport:
    """Every test runs over both."""
    chosen: Transport = request.param
    return chosen


@pytest.fixture(scope="module")
def server(transport: Transport) -> Iterator[ServerProcess]:
    """A server with short windows, whose log is judged as a whole in the end."""
    with ServerProcess(WINDOWS, websocket=transport) as running:
        yield running
        assert running.terminate() == 0
        assert log_faults(running.log()) == []
        assert running.stderr == ""


def diagnostics(server: ServerProcess, user: str) -> dict[str, Any]:
    """What the server says of a user."""
    status, answer = server.get(f"/v1/users/{user}/diagnostics")
    assert status == 200, answer
    found: dict[str, Any] = answer
    return found


def held_for(shown: Shown) -> int:
    """Milliseconds between the end of the last connection and the OFFLINE, by the server's clock."""
    return int(shown.told["changedAt"] - shown.told["lastSeenAt"])


def assert_offline_once(watcher: Watcher, user: str, window: int, closed: tuple[float, float]) -> Shown:
    """Exactly one OFFLINE comes, after the window and soon after it, with the close as ``lastSeenAt``.

    Args:
        watcher: who is shown it.
        user: whose.
        window: in milliseconds.
        closed: between which Unix times the last connection ended.
    """
    shown = watcher.wait_for(user, "offline")
    watcher.settle()
    assert watcher.statuses(user) == ["offline"]
    assert window - 1 <= held_for(shown) <= window + SWEEP
    assert closed[0] - 0.002 <= shown.told["lastSeenAt"] / 1000 <= closed[1] + 0.3
    assert faults(watcher.history(user)) == []
    return shown


# -- 1: CLOSING ----------------------------------------------------------------------------------------------------


def pipelined(server: ServerProcess, path: str, count: int, batch: int = 50) -> list[bytes]:
    """The bodies of so many GETs over one connection, each different body once, in the order of appearance."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {server.api_key}\r\n\r\n".encode()
    bodies: dict[bytes, None] = {}
    with Raw(dial(server.url)) as client:
        for _ in range(count // batch):
            client.raw(request * batch)
            for _ in range(batch):
                status, _, body = client.response()
                assert status == 200
                bodies[body] = None
    return list(bodies)


def still_closing(server: ServerProcess, user: str, reads: int) -> None:
    """However often it is read: online, one connection, CLOSING; and all answers are the same."""
    told = diagnostics(server, user)
    assert (told["online"], told["status"], told["activeConnectionCount"]) == (True, "online", 1)
    assert [c["readyState"] for c in told["connections"]] == ["CLOSING"]
    assert len(told["connectionKeys"]) == 1 and told["grace"] is None
    bodies = pipelined(server, f"/v1/users/{user}/diagnostics", reads)
    assert len({re.sub(rb'"lastHeardAt":\d+', b"", body) for body in bodies}) == 1
    assert diagnostics(server, user)["connections"][0]["readyState"] == "CLOSING"


@pytest.mark.timeout(90)
def test_a_closing_connection_counts_until_the_close_timeout_however_often_it_is_read(transport: Transport) -> None:
    """One client ignores the close frame that its expired token brings, another sent a close frame and keeps TCP open.

    Over ASGI the second cannot be shown: the ASGI server ends TCP itself as soon as it has answered the close frame.
    There the close is complete, and its window has begun.
    """
    # uvicorn bounds the wait for a close frame itself, at ten seconds
    timeout, reads = (12_000, 10_000) if transport == "native" else (4_000, 1_000)
    settings = {**WINDOWS, "limits.close_timeout_ms": timeout}
    with ServerProcess(settings, websocket=transport) as server, watch(server, "mute", "lingering") as watcher:
        lingering = enter(server, "lingering")
        mute = enter(server, "mute", ttl=1.3)
        server.wait_log("active_socket_closing", user="mute", cause="expired", code=4001)
        lingering.close_frame(1001)
        assert lingering.closed().code == 1001
        began = time.time()
        if transport == "native":
            still_closing(server, "lingering", 500)
        else:
            wait_until(lambda: diagnostics(server, "lingering")["activeConnectionCount"] == 0)
            assert diagnostics(server, "lingering")["online"]
        still_closing(server, "mute", reads)
        watcher.settle()
        assert watcher.statuses("mute") == ["online"]

        closed = server.wait_log("active_socket_closed", user="mute", timeout=timeout / 1000 + 2)[0]
        assert (closed["cause"], closed["code"], closed["activeConnectionsForUser"]) == ("expired", 4001, 0)
        told = diagnostics(server, "mute")
        assert told["online"] and told["activeConnectionCount"] == 0
        assert told["grace"]["cause"] == "expired"
        shown = watcher.wait_for("mute", "offline")
        assert EXPIRED - 1 <= held_for(shown) <= EXPIRED + SWEEP
        # the close is the end of CLOSING, at most closeTimeout after its beginning, to within a tick of the wheel
        assert shown.told["lastSeenAt"] / 1000 - began <= timeout / 1000 + 1
        if transport == "native":
            assert shown.told["lastSeenAt"] / 1000 - began >= timeout / 1000 - 1
        assert mute.closed().code == 4001 and mute.eof()
        gone = watcher.wait_for("lingering", "offline")
        assert GOING_AWAY - 1 <= held_for(gone) <= GOING_AWAY + SWEEP
        assert watcher.statuses("mute") == watcher.statuses("lingering") == ["online", "offline"]
        lingering.tcp.close()
        mute.tcp.close()


# -- 2: reload -----------------------------------------------------------------------------------------------------

GAPS = (0, 20, 80, 500)


def test_a_reload_shows_a_watcher_nothing_at_all(server: ServerProcess) -> None:
    users = [f"reload-{gap}" for gap in GAPS] + ["reload-early", "reload-other-tab"]
    with watch(server, *users) as watcher:
        pages = {user: enter(server, user, "t") for user in users}
        for user in users:
            watcher.wait_for(user, "online")
        # the new socket is there before the old one says that it goes
        pages["reload-early-new"] = enter(server, "reload-early", "t")
        assert pages["reload-early"].closed().code == 4005
        pages["reload-other-tab-new"] = enter(server, "reload-other-tab", "t2")
        pages["reload-other-tab"].leave(1001)
        for gap in GAPS:
            user = f"reload-{gap}"
            pages[user].leave(1001)
            time.sleep(gap / 1000)
            pages[user] = enter(server, user, "t")
        time.sleep((GOING_AWAY + SWEEP) / 1000)
        watcher.settle()
        for user in users:
            assert watcher.statuses(user) == ["online"], user
            assert diagnostics(server, user)["activeConnectionCount"] == 1
            assert server.log("PRESENCE_OFFLINE", user=user) == []
        for gap in GAPS[1:]:  # after no gap at all the new one may be there before the store heard of the old one
            server.wait_log("grace_cancelled", user=f"reload-{gap}", cause="going_away")
        for page in pages.values():
            page.tcp.close()


def false_offlines(server: ServerProcess, cause: str) -> float:
    """The counter, as Prometheus would see it."""
    _, text = server.get("/metrics")
    found = re.search(rf'^stillhere_false_offline_total{{cause="{cause}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_without_a_window_the_same_reload_is_a_false_offline_and_is_counted(transport: Transport) -> None:
    with (
        ServerProcess({**WINDOWS, "grace.going_away": 0}, websocket=transport) as server,
        watch(server, "alice") as watcher,
    ):
        page = enter(server, "alice", "t")
        watcher.wait_for("alice", "online")
        page.leave(1001)
        time.sleep(0.08)
        with enter(server, "alice", "t"):
            wait_until(lambda: len(watcher.changes("alice")) == 3)
            assert watcher.statuses("alice") == ["online", "offline", "online"]
            assert faults(watcher.history("alice")) == []
            (line,) = server.wait_log("user_reconnected", user="alice")
            assert line["falseOffline"] is True and line["cause"] == "going_away"
            assert false_offlines(server, "going_away") == 1.0


def test_the_log_of_a_reload_reads_as_documented(server: ServerProcess) -> None:
    page = enter(server, "logged", "t")
    page.leave(1001)
    server.wait_log("grace_started", user="logged")
    with enter(server, "logged", "t"):
        server.wait_log("grace_cancelled", user="logged")
    events = [line["event"] for line in server.log(user="logged")]
    assert events[:10] == [
        "connection_established",
        "PRESENCE_ONLINE",
        "active_socket_closing",
        "active_socket_closed",
        "user_disconnected",
        "ws_closed",
        "connection_cleanup",
        "grace_started",
        "connection_established",
        "user_reconnected",
    ]
    assert events[10] == "grace_cancelled"
    # what the filter of the documentation leaves, applied to the lines as they were written
    lines = [line for line in server.stdout.splitlines() if '"user":"logged"' in line and FILTER.search(line)]
    assert [FILTER.search(line)[0] for line in lines[2:]][:5] == [  # type: ignore[index]
        "active_socket_closed",
        "user_disconnected",
        "ws_closed",
        "connection_established",
        "user_reconnected",
    ]
    closing = server.log("active_socket_closing", user="logged")[0]
    closed = server.log("active_socket_closed", user="logged")[0]
    assert closing["activeConnectionsForUser"] == 1 and closed["activeConnectionsForUser"] == 0
    assert closing["connKey"] == closed["connKey"] and closed["code"] == 1001 and closed["cause"] == "going_away"


# -- 4: two tabs ---------------------------------------------------------------------------------------------------


def test_of_two_tabs_the_first_close_is_silent_and_the_second_is_one_offline_after_the_window(
    server: ServerProcess,
) -> None:
    with watch(server, "tabs", "tabs2") as watcher:
        first, second = enter(server, "tabs", "t1"), enter(server, "tabs", "t2")
        both = enter(server, "tabs2", "t1"), enter(server, "tabs2", "t2")
        watcher.wait_for("tabs", "online")
        watcher.wait_for("tabs2", "online")
        watcher.frames.clear()
        first.leave(1001)
        time.sleep((GOING_AWAY + SWEEP) / 1000)
        watcher.settle()
        assert watcher.changes("tabs") == []
        assert diagnostics(server, "tabs")["activeConnectionCount"] == 1
        began = time.time()
        second.leave(1000)
        ended = time.time()
        assert diagnostics(server, "tabs")["online"]
        both[0].leave(1001)
        both[1].leave(1000)
        after = time.time()
        assert_offline_once(watcher, "tabs", CLIENT_CLOSE, (began, ended))
        # of the windows of both tabs, the longer one counts
        shown = watcher.wait_for("tabs2", "offline")
        assert shown.told["changedAt"] / 1000 >= ended + GOING_AWAY / 1000 - 0.002
        assert shown.told["lastSeenAt"] / 1000 <= after + 0.3
        assert watcher.statuses("tabs2") == ["offline"]


# -- 5: abrupt ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["reset", "fin"])
def test_tcp_that_ends_without_a_close_frame_is_abnormal_and_has_its_window(server: ServerProcess, end: str) -> None:
    user = f"abrupt-{end}"
    with watch(server, user) as watcher:
        client = enter(server, user)
        watcher.wait_for(user, "online")
        watcher.frames.clear()
        began = time.time()
        client.rst() if end == "reset" else client.fin()
        (closed,) = server.wait_log("active_socket_closed", user=user)
        assert closed["cause"] == "abnormal" and closed["activeConnectionsForUser"] == 0
        told = diagnostics(server, user)
        assert (told["online"], told["activeConnectionCount"], told["grace"]["cause"]) == (True, 0, "abnormal")
        assert told["grace"]["deadline"] - told["grace"]["startedAt"] == ABNORMAL
        assert_offline_once(watcher, user, ABNORMAL, (began, time.time()))


def test_a_client_that_stands_still_is_lost_to_the_heartbeat_within_its_bound(transport: Transport) -> None:
    """Over ASGI it is uvicorn that pings, without jitter; the cause is the same."""
    interval, timeout = 1000, 500
    settings = {**WINDOWS, "heartbeat.interval_ms": interval, "heartbeat.timeout_ms": timeout}
    with ServerProcess(settings, websocket=transport) as server, watch(server, "frozen") as watcher:
        command = [sys.executable, "-m", "tests.acceptance.raw", server.ws_url, "t"]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            try:
                assert client.stdin is not None and client.stdout is not None
                client.stdin.write(server.token("frozen") + "\n")
                client.stdin.flush()
                assert client.stdout.readline() == "open\n"
                time.sleep(1.5 * (interval + timeout) / 1000)  # as long as it runs, it answers
                assert server.log("active_socket_closed", user="frozen") == []
                watcher.frames.clear()
                client.send_signal(signal.SIGSTOP)
                stopped = time.time()
                shown = watcher.wait_for("frozen", "offline")
            finally:
                client.kill()
        (closed,) = server.wait_log("active_socket_closed", user="frozen")
        assert closed["cause"] == "heartbeat_lost"
        assert HEARTBEAT_LOST - 1 <= held_for(shown) <= HEARTBEAT_LOST + SWEEP
        # the last sign of life, a ping after 1.1 intervals at most, its time-out, and two ticks of the wheel for each
        assert shown.told["lastSeenAt"] / 1000 - stopped <= (1.1 * interval + timeout) / 1000 + 1.5
        assert watcher.statuses("frozen") == ["offline"]


# -- 6: departures -------------------------------------------------------------------------------------------------


def test_bye_is_offline_at_once(server: ServerProcess) -> None:
    users = [f"bye-{n}" for n in range(5)]
    delays = []
    with watch(server, *users) as watcher:
        for user in users:
            client = enter(server, user)
            watcher.wait_for(user, "online")
            said = time.time()
            client.send({"type": "bye"})
            delays.append(watcher.wait_for(user, "offline").at - said)
            assert client.closed().code == 1000
            client.tcp.close()
            assert watcher.statuses(user) == ["online", "offline"]
    # every one is far below any window; on a machine that is busy at some moment, the best one tells how it works
    assert min(delays) <= 0.1 and max(delays) <= CLIENT_CLOSE / 1000 - 0.1


def test_bye_in_one_of_two_sessions_is_silent_and_ends_only_the_windows_of_its_own(server: ServerProcess) -> None:
    with watch(server, "two-sessions") as watcher:
        home = enter(server, "two-sessions", "t1", sid="home")
        work = [enter(server, "two-sessions", tab, sid="work") for tab in ("t2", "t3")]
        watcher.wait_for("two-sessions", "online")
        watcher.frames.clear()
        home.send({"type": "bye"})
        assert home.closed().code == 1000
        work[0].leave(1001)  # its window is open when the other tab of the session logs out
        server.wait_log("active_socket_closed", user="two-sessions", cause="going_away")
        watcher.settle()
        assert watcher.changes("two-sessions") == []
        said = time.time()
        work[1].send({"type": "bye"})
        shown = watcher.wait_for("two-sessions", "offline")
        assert shown.told["changedAt"] / 1000 - said < GOING_AWAY / 1000 / 2
        assert watcher.statuses("two-sessions") == ["offline"]


def test_a_kick_closes_every_connection_with_4004_and_is_offline_at_once_even_in_a_window(
    server: ServerProcess,
) -> None:
    with watch(server, "kicked", "kicked-away") as watcher:
        tabs = [enter(server, "kicked", f"t{n}") for n in range(3)]
        away = enter(server, "kicked-away")
        for user in ("kicked", "kicked-away"):
            watcher.wait_for(user, "online")
        away.leave(1001)
        wait_until(lambda: diagnostics(server, "kicked-away")["grace"])
        for user in ("kicked", "kicked-away"):
            said = time.time()
            status, _ = server.post(f"/v1/users/{user}/disconnect", {"reason": "house rules"})
            assert status == 200
            shown = watcher.wait_for(user, "offline")
            assert shown.told["changedAt"] / 1000 - said < GOING_AWAY / 1000 / 2
        assert [tab.closed().args[:2] for tab in tabs] == [(4004, "house rules")] * 3
        assert watcher.statuses("kicked") == ["online", "offline"]
        lines = server.wait_log("active_socket_closed", count=3, user="kicked")
        assert {line["cause"] for line in lines} == {"kicked"}


# -- 7: newness ----------------------------------------------------------------------------------------------------


def test_a_tab_that_is_back_supersedes_its_half_open_ghost_in_silence(server: ServerProcess) -> None:
    with watch(server, "ghost") as watcher:
        ghost = enter(server, "ghost", "t", answers_pings=False)
        watcher.wait_for("ghost", "online")
        with enter(server, "ghost", "t"):
            (closed,) = server.wait_log("active_socket_closed", user="ghost")
            assert (closed["cause"], closed["code"], closed["activeConnectionsForUser"]) == ("superseded", 4005, 1)
            assert diagnostics(server, "ghost")["activeConnectionCount"] == 1
            assert ghost.closed().code == 4005
            ghost.rst()  # whatever becomes of the old one, it says nothing of the new one
            server.wait_log("connection_cleanup", user="ghost")
            assert diagnostics(server, "ghost")["activeConnectionCount"] == 1
            assert server.log("grace_started", user="ghost") == []
            watcher.settle()
            assert watcher.statuses("ghost") == ["online"]
