"""What a server does to its users when it drains, restarts, crashes or stands still: it flips nobody."""

from __future__ import annotations

import signal
import time

import pytest

from tests.acceptance.raw import HandshakeRefused, Raw, dial, upgrade_head
from tests.acceptance.server import TRANSPORTS, ServerProcess, Transport
from tests.acceptance.watching import Watcher, enter, faults, log_faults, wait_until, watch

SWEEP = 1000
"""How late after the end of its window an OFFLINE may be, in milliseconds."""


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Transport:
    """Every test runs over both."""
    chosen: Transport = request.param
    return chosen


def client(server: ServerProcess, user: str, tab: str = "t") -> Watcher:
    """A client that answers pings and close frames in a thread, as a browser does."""
    return Watcher(lambda: enter(server, user, tab, sid=f"s-{user}"))


CLIENTS, DRAIN = 200, 3.0


def test_sigterm_moves_everybody_away_at_a_steady_pace_and_ends_with_status_0(transport: Transport) -> None:
    settings = {"server.drain_s": DRAIN, "limits.close_timeout_ms": 1500}
    with ServerProcess(settings, websocket=transport) as server:
        clients = [client(server, f"u{n}") for n in range(CLIENTS)]
        mute = enter(server, "mute")  # one that answers nothing must not hold up the end
        began = time.time()
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.get("/readyz")[0] == 503, what="readyz 503")
        assert "draining" in str(server.get("/readyz")[1])
        assert server.get("/healthz")[0] == 200
        with pytest.raises(HandshakeRefused) as refused:
            enter(server, "late")
        assert refused.value.status == 503 and "retry-after" in refused.value.headers
        assert server.wait(20) == 0

        wait_until(lambda: not any(c.alive for c in clients), 5)
        assert {c.end.code for c in clients if c.end is not None} == {1012}
        for c in clients:
            (moving,) = [seen for seen in c.frames if seen.message["type"] == "moving"]
            assert moving.at - began < DRAIN / 2  # all are told at the beginning
            assert 0 <= moving.message["reconnectInMs"] <= 1000 * DRAIN + 1100
            assert c.ended_at <= moving.at + moving.message["reconnectInMs"] / 1000 + 0.5
        ends = sorted(c.ended_at - began for c in clients)
        assert ends[-1] - ends[0] >= 0.7 * DRAIN
        step = DRAIN / 5
        assert max(sum(at <= end < at + step for end in ends) for at in ends) <= 0.5 * CLIENTS  # a fifth, and some luck
        (drained,) = server.log("node_drained")
        assert drained["connections"] == CLIENTS + 1
        assert {line["cause"] for line in server.log("active_socket_closed")} == {"node_drain"}
        assert server.log("PRESENCE_OFFLINE") == []
        assert server.stderr == ""
        mute.tcp.close()
        for c in clients:
            c.stop()


AWAY, RESTART = 2500, 3000
"""Windows of going_away and of a restart, in milliseconds."""


@pytest.mark.parametrize(
    ("transport", "crash"),
    [("native", False), ("asgi", False), ("native", True)],  # a crash asks no transport
    ids=["native-SIGTERM", "asgi-SIGTERM", "SIGKILL"],
)
def test_a_restart_flips_nobody_who_comes_back_and_knows_when_the_others_went(
    transport: Transport, crash: bool
) -> None:
    settings = {
        "store.url": "sqlite:///presence.db",
        "server.drain_s": 0.3,
        "grace.going_away": AWAY,
        "grace.node_drain": RESTART,
        "grace.node_lost": RESTART,
    }
    everybody = ("back", "gone", "window", "before")
    with ServerProcess(settings, websocket=transport) as server, watch(server, *everybody) as watcher:
        pages = {user: client(server, user) for user in ("back", "gone")}
        before, window = enter(server, "before"), enter(server, "window")
        for user in everybody:
            watcher.wait_for(user, "online")
        before.send({"type": "bye"})
        long_ago = watcher.wait_for("before", "offline")
        left = time.time()
        window.leave(1001)
        server.wait_log("grace_started", user="window")

        down = time.time()
        server.kill() if crash else server.terminate()
        stopped = time.time()
        assert server.returncode == (-signal.SIGKILL if crash else 0)
        server.start()
        up = time.time()
        watcher.reconnect()
        pages["back"].reconnect()
        for user in ("back", "gone"):
            assert watcher.history(user)[-1].status == "online", user

        gone = watcher.wait_for("gone", "offline")
        cause = "node_lost" if crash else "node_drain"
        assert stopped + RESTART / 1000 <= gone.told["changedAt"] / 1000 <= up + (RESTART + SWEEP) / 1000
        # who is killed notes nothing: the end is known to within a sweep, which comes every second
        assert down - (1.5 if crash else 0) <= gone.told["lastSeenAt"] / 1000 <= stopped
        assert server.wait_log("PRESENCE_OFFLINE", user="gone")[0]["cause"] == cause
        in_window = watcher.wait_for("window", "offline")
        assert left - 0.002 <= in_window.told["lastSeenAt"] / 1000 <= down + 0.1
        assert {**watcher.history("before")[-1].told, "epoch": ""} == {**long_ago.told, "epoch": ""}
        time.sleep(0.3)
        watcher.settle()
        assert "offline" not in [shown.status for shown in watcher.history("back")[1:]]
        assert [shown.status for shown in watcher.history("gone")].count("offline") == 2  # before it came, and now
        assert server.wait_log("user_reconnected", user="back")[0]["falseOffline"] is False
        for user in everybody:
            assert faults(watcher.history(user)) == []
        assert log_faults(server.log()) == []
        for page in pages.values():
            page.stop()


def test_a_server_that_stood_still_closes_nobody_and_shows_nobody_offline(transport: Transport) -> None:
    interval, timeout, window = 800, 400, 1500
    settings = {
        "heartbeat.interval_ms": interval,
        "heartbeat.timeout_ms": timeout,
        "grace.going_away": window,
        "grace.heartbeat_lost": 500,
        "grace.abnormal": 500,
    }
    with ServerProcess(settings, websocket=transport) as server, watch(server, "page", "away", "back") as watcher:
        page, away, back = (client(server, user) for user in ("page", "away", "back"))
        for user in ("page", "away", "back"):
            watcher.wait_for(user, "online")
        time.sleep((interval + timeout) / 1000)  # pings come and go
        away.leave(1001)
        back.leave(1001)
        server.wait_log("grace_started", user="back")
        server.pause()
        early = Raw(dial(server.ws_url))  # back already, while nobody listens
        early.raw(upgrade_head(f"{server.ws_url}?tab=t", token=server.token("back")))
        time.sleep((interval + timeout + window) / 1000 + 1)
        server.resume()
        with client(server, "away"):
            early.upgraded()
            early.expect("welcome")
            server.wait_log("grace_cancelled", user="back")
            early.send({"type": "bye"})
            early.answer_close(early.closed())
            time.sleep((interval + timeout) / 1000 + 1)
            watcher.settle()
            assert watcher.alive and page.alive
            assert watcher.statuses("page") == watcher.statuses("away") == ["online"]
            assert watcher.statuses("back") == ["online", "offline"]  # by the bye
            assert [line["cause"] for line in server.log("PRESENCE_OFFLINE")] == ["bye"]
            assert [line["user"] for line in server.log("active_socket_closed")] == ["away", "back", "back"]
        page.stop()


def test_who_came_back_while_the_server_stood_still_is_read_before_anybody_is_judged(transport: Transport) -> None:
    """The stall is so short that the store's clock takes it for time that passed: the windows are over."""
    window, pause = 1500, 2.0
    users = [f"u{n}" for n in range(20)]
    with ServerProcess({"grace.going_away": window}, websocket=transport) as server, watch(server, *users) as watcher:
        pages = {user: enter(server, user, "t") for user in users}
        for user in users:
            watcher.wait_for(user, "online")
        for user in users:
            pages[user].leave(1001)
        server.wait_log("grace_started", user=users[-1])
        server.pause()
        for user in users:  # the kernel takes what the server will read when it runs again
            pages[user] = Raw(dial(server.ws_url))
            pages[user].raw(upgrade_head(f"{server.ws_url}?tab=t", token=server.token(user)))
        time.sleep(pause)
        server.resume()
        for user in users:
            pages[user].upgraded()
            pages[user].expect("welcome")
        watcher.settle()
        assert {user: watcher.statuses(user) for user in users} == {user: ["online"] for user in users}
        assert log_faults(server.log()) == []
        for page in pages.values():
            page.tcp.close()
