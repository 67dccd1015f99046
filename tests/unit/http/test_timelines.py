"""Timeline, recording and explanation over HTTP: what they tell, what they refuse, and that they only read."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from stillhere.core.words import RoomName, UserId
from stillhere.http.diagnostics import diagnose
from stillhere.http.timelines import explained
from stillhere.http.users import look_up
from stillhere.store.contract import Cursor, StoreUnavailable
from stillhere.wire.recording import read_recording
from tests.unit.http.stand import API_KEY, START, Stand, standing

AT = round(START * 1000)


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with standing(grace__going_away=2000) as made:
        yield made


async def reload(stand: Stand, gap: float) -> None:
    """Alice's page is reloaded, and takes a while to come back."""
    wire = await stand.connect("alice", tab="t_4f")
    await stand.wait(1.0)
    wire.leave(1001)
    await stand.settle()
    await stand.wait(gap)
    await stand.connect("alice", tab="t_4f")


# -- timeline ---------------------------------------------------------------------------------------------------------


async def test_a_timeline_tells_of_connections_ends_windows_and_changes_oldest_first(stand: Stand) -> None:
    await reload(stand, 5.0)
    told = await stand.get("/v1/users/alice/timeline")
    assert [item["type"] for item in told["items"]] == [
        "opened", "PRESENCE_ONLINE", "closed", "grace_started", "windows_ran_out", "grace_expired", "PRESENCE_OFFLINE",
        "opened", "user_reconnected", "PRESENCE_ONLINE",
    ]  # fmt: skip
    assert (told["user"], told["more"], told["cut"], told["gap"]) == ("alice", False, False, False)
    opened, closed = told["items"][0], told["items"][2]
    assert opened["connectionKey"] == closed["connectionKey"]
    assert opened["connectionKey"].startswith(f"ali…:s_a…:{AT}:")
    assert (closed["cause"], closed["code"], closed["by"], closed["windowMs"]) == ("going_away", 1001, "client", 2000)
    assert told["items"][8]["falseOffline"] is True and told["items"][8]["tooShortMs"] == 3000


async def test_a_timeline_is_read_page_by_page_and_later_on(stand: Stand) -> None:
    await reload(stand, 5.0)
    whole = (await stand.get("/v1/users/alice/timeline"))["items"]
    found: list[Any] = []
    cursor, more = "", True
    while more:
        page = await stand.get(f"/v1/users/alice/timeline?limit=3&cursor={cursor}")
        found += page["items"]
        cursor, more = page["cursor"], page["more"]
    assert found == whole
    assert (await stand.get(f"/v1/users/alice/timeline?cursor={cursor}"))["items"] == []
    await stand.connect("alice", tab="t2")
    later = await stand.get(f"/v1/users/alice/timeline?cursor={cursor}")
    assert [item["type"] for item in later["items"]] == ["opened"]


async def test_a_timeline_may_be_asked_for_a_stretch_of_time(stand: Stand) -> None:
    await reload(stand, 5.0)
    part = await stand.get(f"/v1/users/alice/timeline?after={AT}&before=-1s")
    assert {item["at"] for item in part["items"]} == {AT + 1000, AT + 3000}
    assert (await stand.get(f"/v1/users/alice/timeline?before={AT}"))["items"] == []


async def test_of_an_unknown_user_nothing_is_recorded(stand: Stand) -> None:
    told = await stand.get("/v1/users/nobody/timeline")
    assert (told["items"], told["cursor"], told["cut"]) == ([], None, False)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("cursor=7", "the cursor is '7'; it must be one that an earlier page gave"),
        ("after=soon", "the query parameter after is wrong: 'soon' is no instant; it must be milliseconds"),
        ("before=soon", "the query parameter before is wrong"),
        ("limit=0", "the query parameter limit is '0'; it must be a whole number from 1 to 1000"),
    ],
)
async def test_a_query_that_is_wrong_is_refused_with_a_sentence(stand: Stand, query: str, sentence: str) -> None:
    problem = await stand.get(f"/v1/users/alice/timeline?{query}", status=400)
    assert problem["detail"].startswith(sentence)


async def test_the_past_of_a_user_is_not_for_everybody(stand: Stand) -> None:
    for path in ("timeline", "timeline/recording", "explain"):
        answer = await stand.client.get(f"/v1/users/alice/{path}")
        assert answer.status_code == 401


# -- recording --------------------------------------------------------------------------------------------------------


async def record(stand: Stand) -> httpx.Response:
    headers = {"Authorization": f"Bearer {stand.token(scope='read')}"}
    return await stand.client.get("/v1/users/alice/timeline/recording", headers=headers)


async def test_a_recording_is_json_lines_with_masked_connections(stand: Stand) -> None:
    await reload(stand, 5.0)
    answer = await record(stand)
    assert answer.headers["content-type"] == "application/x-ndjson"
    found = read_recording(answer.content.splitlines())
    assert found.windows["going_away"] == 2.0 and found.horizon == 30.0 and found.exported_at == stand.clock.now
    kept = stand.store._timelines[UserId("alice")]
    assert len(found.timelines[UserId("alice")]) == len(kept)
    for c in stand.node.roster.of(UserId("alice")):
        assert c.id not in answer.text and c.session not in answer.text
    assert (await record(stand)).text == answer.text, "the same masks every time"


# -- explain ----------------------------------------------------------------------------------------------------------


async def test_why_is_she_offline_is_answered_with_the_evidence(stand: Stand) -> None:
    await reload(stand, 5.0)
    why = await stand.get(f"/v1/users/alice/explain?at={AT + 4000}")
    assert (why["status"], why["rule"], why["since"]) == ("offline", "window_ran_out", AT + 3000)
    assert "with 1001 going_away, closed by the client; its window of 2 s ran out." in why["sentence"]
    assert "alice came back 5 s after the close: a false offline" in why["sentence"]
    assert why["advice"].startswith("grace.going_away = 6000 (ms)")
    assert {"closed", "PRESENCE_OFFLINE", "user_reconnected"} <= {item["type"] for item in why["evidence"]}
    now = await stand.get("/v1/users/alice/explain")
    assert (now["status"], now["rule"], now["at"]) == ("online", "connected", round(stand.clock.now * 1000))


@pytest.mark.parametrize(
    ("at", "status", "rule"),
    [("-1d", "unknown", "unrecorded"), ("1890000000000", "unknown", "future"), ("-1s", "online", "connected")],
)
async def test_an_instant_may_lie_anywhere(stand: Stand, at: str, status: str, rule: str) -> None:
    await stand.connect("alice")
    await stand.wait(2.0)
    why = await stand.get(f"/v1/users/alice/explain?at={at}")
    assert (why["status"], why["rule"]) == (status, rule)


async def test_an_instant_that_is_none_is_refused(stand: Stand) -> None:
    problem = await stand.get("/v1/users/alice/explain?at=yesterday", status=400)
    assert problem["detail"].startswith("the query parameter at is wrong: 'yesterday' is no instant; it must be")


async def test_of_an_unknown_user_the_explanation_says_so(stand: Stand) -> None:
    why = await stand.get("/v1/users/nobody/explain")
    assert (why["status"], why["rule"], why["evidence"]) == ("offline", "never_shown", [])
    assert why["sentence"] == "Nothing is known of nobody: never seen, or forgotten since."


async def test_without_the_store_nobody_is_said_to_be_offline(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    await stand.connect("alice")

    async def out_of_reach(*_: Any) -> Any:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(stand.store, "record", out_of_reach)
    monkeypatch.setattr(stand.store, "timeline", out_of_reach)
    here, elsewhere = [await stand.get(f"/v1/users/{user}/explain") for user in ("alice", "bob")]
    assert (here["status"], here["rule"]) == ("online", "store_unreachable")
    assert (elsewhere["status"], elsewhere["rule"]) == ("unknown", "store_unreachable")
    assert "How bob is shown is unknown." in elsewhere["sentence"]
    earlier = await stand.get("/v1/users/alice/explain?at=-5m")
    assert earlier["status"] == "unknown"
    assert (await stand.get("/v1/users/alice/timeline", status=503))["detail"].startswith("the store cannot answer")


async def test_while_the_store_is_being_told_who_is_there_absence_is_unknown(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reload(stand, 5.0)
    monkeypatch.setattr(stand.store, "recovering", lambda user: True)
    assert (await stand.get("/v1/users/bob/explain"))["status"] == "unknown"
    assert (await stand.get("/v1/users/alice/explain"))["status"] == "online"
    assert (await stand.get(f"/v1/users/alice/explain?at={AT + 4000}"))["status"] == "offline"


# -- reading changes nothing ------------------------------------------------------------------------------------------

READS = 1_000_000
"""Over the whole scenario."""

ROUNDS = 9
"""So often the scenario stops for reads."""


class Fields(logging.Handler):
    """Keeps the lines of the event log whole, but for what is made up anew in every run."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        fields = {name: value for name, value in record.__dict__["fields"].items() if name != "connKey"}
        self.lines.append((record.getMessage(), fields))


async def scenario(stand: Stand, between: Any) -> list[Any]:
    """The scenario that this project began with: two tabs, a hard refresh, the network off and on. What came of it."""
    watcher = await stand.connect("bob")
    watcher.say(type="watch", id=1, users=["alice"])
    await stand.settle()  # else the first snapshot is of before or after the next one who comes, as it happens
    await between()
    idle = await stand.connect("alice", tab="t_b")
    idle.say(type="join", id=2, room="kitchen")
    first = await stand.connect("alice", tab="t_a")
    await between()
    first.leave(1001)
    await between()
    again = await stand.connect("alice", tab="t_a")
    await between()
    again.leave(1005)
    idle.leave(1006)
    await between()
    await stand.wait(1.0)
    await between()
    await stand.wait(20.0)
    await between()
    back = await stand.connect("alice", tab="t_a")
    await between()
    back.say(type="bye")
    await stand.settle()
    await between()
    return [_plain(frame) for frame in watcher.frames]


def _plain(value: Any) -> Any:
    """Without what is made up anew in every run."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items() if name not in ("connectionId", "epoch")}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


async def ask_all(stand: Stand) -> int:
    """Every question that the HTTP API has and that changes nothing by its nature; how many there were."""
    headers = {"X-API-Key": API_KEY}
    named = {"{user}": "alice", "{room}": "kitchen", "{node}": "n1", "{id}": "wh_0a1b2c3d4e5f", "{hook}": "wh_none"}
    asked = 0
    for path, calls in stand.app.state.document["paths"].items():
        if "get" not in calls or path == "/v1/events":
            continue
        at = path
        for name, value in named.items():
            at = at.replace(name, value)
        for query in ("", f"?at={AT + 2000}", "?limit=2") if "{user}" in path else ("",):
            answer = await stand.client.get(at + query, headers=headers)
            assert answer.status_code == 200 or "webhooks/" in at or query, (at, answer.text)
            assert answer.status_code < 500
            asked += 1
    body = {"users": ["alice", "bob", "carol"]}
    assert (await stand.client.post("/v1/users/query", json=body, headers=headers)).status_code == 200
    return asked + 1


async def read_within(stand: Stand, least: int) -> int:
    """The same without HTTP, which would take minutes: what the calls ask the node and its store; how many reads."""
    node, store, now = stand.node, stand.store, stand.clock.now
    alice, kitchen = UserId("alice"), RoomName("kitchen")
    people = [UserId(name) for name in ("alice", "bob", "carol")]
    tip = await store.tip()
    begin = Cursor(tip.epoch, 0)
    asked = 0
    while asked < least:
        await diagnose(node, alice)
        await explained(node, alice, now - asked % 30, now)
        await look_up(node, people)
        await store.record(alice)
        await store.snapshot(people)
        await store.timeline(alice, now - 30, now, 10)
        await store.room(kitchen)
        await store.rooms("", 10)
        await store.page("", 10, "", None)
        await store.read_log(begin, 5)
        await store.nodes()
        store.statistics()
        node.statistics()
        node.roster.contribution(alice, now)
        node.roster.of(alice)
        store.next_deadline()
        asked += 16
    return asked


@pytest.mark.timeout(400)  # a million reads are work, and the machine may do other work too
async def test_a_million_reads_leave_every_broadcast_and_every_log_line_the_same() -> None:
    """Every question is put with HTTP as well, at each stop of the scenario."""

    async def nothing() -> None:
        pass

    runs = []
    for reading in (False, True):
        log = Fields()
        logging.getLogger("stillhere.presence").addHandler(log)
        async with standing(grace__going_away=2000) as stand:
            asked = stops = 0

            async def read(stand: Stand = stand) -> None:
                nonlocal asked, stops
                before = stand.image(), repr(stand.store._timelines)
                asked += await ask_all(stand)
                asked += await read_within(stand, READS // ROUNDS)
                stops += 1
                assert (stand.image(), repr(stand.store._timelines)) == before

            runs.append((await scenario(stand, read if reading else nothing), log.lines[:]))
            assert not reading or (asked >= READS and stops == ROUNDS)
        logging.getLogger("stillhere.presence").removeHandler(log)
    (frames, lines), (frames_read, lines_read) = runs
    assert len(frames) >= 4 and len(lines) > 20
    assert frames_read == frames
    assert lines_read == lines
