"""How users are shown over HTTP, and putting them out."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from stillhere.core.record import Record
from stillhere.core.words import UserId
from stillhere.http.call import BODY_BYTES
from stillhere.store.contract import StoreUnavailable
from stillhere.store.memory import MemoryStore
from tests.unit.http.stand import START, Stand, standing


class Broken(MemoryStore):
    """A store that can be out of reach for readers."""

    out_of_reach = False

    async def record(self, user: UserId) -> Record | None:
        if self.out_of_reach:
            raise StoreUnavailable("out of reach")
        return await super().record(user)


async def test_a_user_is_shown_as_watchers_see_him(stand: Stand) -> None:
    watcher, alice = await stand.connect("bob"), await stand.connect("alice")
    watcher.say(type="watch", id=1, users=["alice"])
    await stand.settle()
    alice.say(type="state", id=1, availability="busy", meta={"song": 4})
    await stand.settle()
    told = next(f for f in reversed(watcher.frames) if f["type"] == "presence")["changes"][0]
    shown = await stand.get("/v1/users/alice")
    assert shown == {**told, "devices": 1}
    assert (shown["status"], shown["meta"], shown["changedAt"]) == ("busy", {"song": 4}, round(START * 1000))


async def test_devices_are_distinct_tabs_with_an_active_connection(stand: Stand) -> None:
    first = await stand.connect("alice", "t1")
    await stand.connect("alice", "t2")
    assert (await stand.get("/v1/users/alice"))["devices"] == 2
    first.leave(1001)
    await stand.settle()
    assert (await stand.get("/v1/users/alice"))["devices"] == 1


async def test_an_invisible_user_is_shown_like_one_who_left(stand: Stand) -> None:
    alice = await stand.connect("alice")
    carol = await stand.connect("carol")
    alice.say(type="state", id=1, availability="invisible")
    carol.say(type="bye")
    await stand.settle()
    hidden, gone = await stand.get("/v1/users/alice"), await stand.get("/v1/users/carol")
    assert set(hidden) == set(gone)
    assert (hidden["status"], hidden["lastSeenAt"]) == ("offline", gone["lastSeenAt"])


async def test_an_unknown_user_is_offline(stand: Stand) -> None:
    assert await stand.get("/v1/users/nobody") == {
        "user": "nobody",
        "status": "offline",
        "epoch": stand.node.hub.epoch,
        "version": 0,
        "changedAt": 0,
    }


@pytest.mark.parametrize("user", ["a/b", "a b", "ü", "100%", "a?b#c", "query", "a/b/diagnostics", "%2F"])
async def test_an_id_in_the_path_may_hold_any_character(stand: Stand, user: str) -> None:
    await stand.connect(user)
    path = f"/v1/users/{quote(user, safe='')}"
    assert (await stand.get(path))["user"] == user
    assert (await stand.get(f"{path}/diagnostics"))["activeConnectionCount"] == 1
    assert (await stand.post(f"{path}/disconnect")) == {"user": user, "disconnected": 1}


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("a%00b", "holds a control character: 'a\\x00b'"),
        ("%C2%85", "holds a control character"),
        ("x" * 257, "has 257 bytes; it must have 1 to 256"),
        ("%C3%BC" * 129, "has 258 bytes; it must have 1 to 256"),
        ("%ff", "is not UTF-8"),
        ("%ED%A0%80", "is not UTF-8"),
    ],
)
@pytest.mark.parametrize("rest", ["", "/diagnostics"])
async def test_what_cannot_be_an_id_is_refused_with_what_would_be_right(
    stand: Stand, path: str, complaint: str, rest: str
) -> None:
    assert complaint in (await stand.get(f"/v1/users/{path}{rest}", status=400))["detail"]


async def test_a_query_answers_each_user_once_in_order(stand: Stand) -> None:
    await stand.connect("alice")
    answer = await stand.post("/v1/users/query", {"users": ["zoe", "alice", "zoe"], "something": "else"})
    assert [(u["user"], u["status"]) for u in answer["users"]] == [("zoe", "offline"), ("alice", "online")]
    assert answer["complete"] is True


async def test_a_reader_may_query(stand: Stand) -> None:
    headers = {"Authorization": f"Bearer {stand.token(scope='read')}"}
    answer = await stand.client.post("/v1/users/query", json={"users": []}, headers=headers)
    assert answer.json() == {"users": [], "complete": True}


@pytest.mark.parametrize(
    ("content", "media", "status", "complaint"),
    [
        (b"{", "application/json", 400, "the body is not JSON"),
        (b"", "application/json", 400, "the body is not JSON"),
        (b'{"users":"alice"}', "application/json", 400, "Expected `array`, got `str` - at `$.users`"),
        (b"{}", "application/json", 400, "missing required field `users`"),
        (b'{"users":["a\\u0000"]}', "application/json", 400, "users[0] holds a control character"),
        (b'{"users":["a",""]}', "application/json", 400, "users[1] is empty"),
        (b'{"users":["\xff"]}', "application/json", 400, "the body is not JSON"),
        (b"[" * 100_000, "application/json", 400, "the body is"),
        (b'{"users":[' + b",".join([b'"a"'] * 1001) + b"]}", "application/json", 400, "at most 1000"),
        (b'{"users":[]}', "text/plain", 415, "'text/plain'; it must be application/json"),
        (b'{"users":[]}', "", 415, "it must be application/json"),
        (b" " * (BODY_BYTES + 1), "application/json", 413, "it may have 1048576"),
    ],
)
async def test_a_bad_query_is_refused_with_what_would_be_right(
    stand: Stand, content: bytes, media: str, status: int, complaint: str
) -> None:
    more = {"content": content, "headers": {"Content-Type": media} if media else {}}
    assert complaint in (await stand.post("/v1/users/query", status=status, **more))["detail"]


async def test_the_known_users_come_page_by_page(stand: Stand) -> None:
    for user in ("team:b", "team:a", "zoe", "team:c"):
        await stand.connect(user)
    hidden = await stand.connect("ghost", availability="invisible")
    assert hidden.frames
    (await stand.connect("team:b", "t2")).say(type="state", id=1, availability="away")
    await stand.settle()
    first = await stand.get("/v1/users?limit=2")
    second = await stand.get(f"/v1/users?limit=2&cursor={quote(first['cursor'])}")
    assert [u["user"] for u in first["users"] + second["users"]] == ["team:a", "team:b", "team:c", "zoe"]
    assert second["cursor"] is None
    team = await stand.get("/v1/users?prefix=team:&status=online&limit=1000")
    assert [u["user"] for u in team["users"]] == ["team:a", "team:b", "team:c"]
    assert (await stand.get("/v1/users?status=away"))["users"] == []


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("limit=0", "limit is '0'; it must be a whole number from 1 to 1000"),
        ("limit=1001", "from 1 to 1000"),
        ("limit=ten", "limit is 'ten'"),
        ("status=unknown", "status is 'unknown'; it must be one of away, busy, offline, online"),
        ("status=", "status is ''"),
        ("limit=1&limit=2", "limit is given 2 times; once is right"),
        ("prefix=%00", "the prefix holds a control character"),
        ("cursor=" + "x" * 257, "the cursor has 257 bytes; it may have up to 256"),
        ("prefix=%ff", "not percent-encoded UTF-8"),
        ("&".join(f"x{i}=" for i in range(300)), "more than 256 fields"),
    ],
)
async def test_a_bad_parameter_is_refused_with_what_would_be_right(stand: Stand, query: str, complaint: str) -> None:
    assert complaint in (await stand.get(f"/v1/users?{query}", status=400))["detail"]


async def test_a_kick_closes_all_connections_and_is_offline_when_it_is_answered(stand: Stand) -> None:
    wires = [await stand.connect("alice", tab) for tab in ("t1", "t2")]
    assert await stand.post("/v1/users/alice/disconnect", {"reason": "enough"}) == {"user": "alice", "disconnected": 2}
    assert [wire.closed for wire in wires] == [(4004, "enough")] * 2
    assert (await stand.get("/v1/users/alice"))["status"] == "offline"


async def test_a_kick_ends_the_window_of_somebody_who_has_gone(stand: Stand) -> None:
    (await stand.connect("alice")).leave(1001)
    await stand.settle()
    assert (await stand.get("/v1/users/alice"))["status"] == "online"
    assert (await stand.post("/v1/users/alice/disconnect"))["disconnected"] == 0
    assert (await stand.get("/v1/users/alice"))["status"] == "offline"


async def test_a_kick_of_nobody_makes_nobody_known(stand: Stand) -> None:
    await stand.post("/v1/users/nobody/disconnect")
    assert (await stand.get("/v1/users"))["users"] == []


async def test_a_reason_is_cut_to_what_a_close_frame_holds(stand: Stand) -> None:
    wire = await stand.connect("alice")
    await stand.post("/v1/users/alice/disconnect", {"reason": "€" * 100})
    assert wire.closed == (4004, "€" * 41)


@pytest.mark.parametrize(("reason", "complaint"), [("x" * 101, "length <= 100"), ("a\nb", "holds a control character")])
async def test_a_bad_reason_is_refused_and_nobody_is_kicked(stand: Stand, reason: str, complaint: str) -> None:
    wire = await stand.connect("alice")
    answer = await stand.post("/v1/users/alice/disconnect", {"reason": reason}, status=400)
    assert complaint in answer["detail"]
    assert wire.closed is None


async def test_without_the_store_nobody_is_called_offline() -> None:
    async with standing(make=lambda config, clock: Broken(clock, policy=config.grace.policy)) as stand:
        await stand.connect("alice")
        Broken.out_of_reach = True
        try:
            answer = await stand.post("/v1/users/query", {"users": ["alice", "bob"]})
            alice = await stand.post("/v1/users/query", {"users": ["alice"]})
            diagnostics = [await stand.get(f"/v1/users/{user}/diagnostics") for user in ("alice", "bob")]
        finally:
            Broken.out_of_reach = False
    assert [(u["user"], u["status"]) for u in answer["users"]] == [("alice", "online"), ("bob", "unknown")]
    assert (answer["complete"], alice["complete"]) == (False, True)
    assert [(d["status"], d["online"], d["complete"]) for d in diagnostics] == [
        ("online", True, False),
        ("unknown", False, False),
    ]
    assert diagnostics[0]["activeConnectionCount"] == 1
