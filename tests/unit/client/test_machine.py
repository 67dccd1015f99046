"""What a client does about its connection, in a world whose time the tests tell; the rest is in the transcripts."""

from __future__ import annotations

import base64
import json

import pytest

from stillhere.client import machine as rules
from stillhere.client.backoff import advice_for, delay
from stillhere.client.errors import (
    BadAddress,
    ForbiddenOrigin,
    Kicked,
    NotStillhere,
    Refused,
    Superseded,
    Unauthorized,
    Unreachable,
    WrongProtocol,
)
from stillhere.client.outputs import Open
from stillhere.client.protocol import expiry_of, socket_url
from stillhere.client.views import ConnectionStatus
from stillhere.core.words import Cause, Status
from stillhere.server.settings import Settings
from stillhere.wire.codes import Advice
from tests.unit.client.world import World, presence, welcome


def jwt(**claims: object) -> str:
    return f"h.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.s"


# -- ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "kind"), [(4000, WrongProtocol), (4004, Kicked), (4005, Superseded), (4042, Refused)])
def test_a_close_from_4000_to_4099_is_final_and_says_why(code: int, kind: type[Refused]) -> None:
    world = World()
    world.online()
    world.end(code, "because")
    world.advance(3600)
    assert world.machine.status is ConnectionStatus.REFUSED
    assert type(world.machine.error) is kind and world.machine.error.close_code == code
    assert "because" in str(world.machine.error)
    assert len(world.noted("open")) == 1
    assert world.machine.next_deadline() is None


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011, 1012, 1013, 4201, 4299, 3000])
def test_a_node_that_goes_is_followed_soon_with_full_jitter(code: int) -> None:
    assert advice_for(code) is Advice.SOON
    assert delay(Advice.SOON, 0, 0.0) == 0
    assert [delay(Advice.SOON, n, 0.999) for n in range(6)] == pytest.approx([0.4995, 0.999, 1.998, 3.996, 7.992, 9.99])
    assert delay(Advice.SOON, 5000, 0.5) == 5


@pytest.mark.parametrize("code", [4100, 4101, 4102, 4199, 1002, 1003, 1007, 1009])
def test_a_server_that_is_full_is_given_at_least_half_of_the_step(code: int) -> None:
    assert advice_for(code) is Advice.BACK_OFF
    for attempt in range(8):
        step = min(60.0, 4.0 * 2**attempt)
        assert delay(Advice.BACK_OFF, attempt, 0.0) == step / 2
        assert delay(Advice.BACK_OFF, attempt, 1.0) == step


def test_there_is_never_more_than_one_attempt_under_way() -> None:
    world = World()
    world.connect()
    world.connect()
    world.machine.network_changed(world.now)
    world.settle()
    assert len(world.noted("open")) == 1


def test_what_an_old_socket_still_says_is_not_heard() -> None:
    world = World()
    world.online()
    old = world.attempt
    world.end(1006)
    world.advance(1)
    world.machine.received(old, json.dumps(welcome()).encode(), world.now)
    world.machine.closed(old, 4004, "", world.now)
    world.machine.token(old, "another", world.now)
    world.machine.upgrade_refused(old, 403, "", None, world.now)
    world.settle()
    assert world.machine.status is ConnectionStatus.RECONNECTING


def test_a_close_of_the_program_says_nothing_and_keeps_the_window() -> None:
    world = World()
    world.online()
    world.machine.close(world.now)
    world.settle()
    assert world.noted("close") == [{"code": 1001, "reason": "going away"}]
    assert world.sent("bye") == []
    assert world.machine.next_deadline() is None


# -- a refused upgrade ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, ForbiddenOrigin), (400, Refused), (421, Refused), (404, NotStillhere), (302, NotStillhere)],
)
def test_a_wrong_address_is_found_out_with_the_first_attempt(status: int, kind: type[Refused]) -> None:
    world = World()
    world.connect()
    world.refuse(status, "not here")
    world.advance(3600)
    assert type(world.machine.error) is kind and "not here" in str(world.machine.error)
    assert len(world.noted("open")) == 1


def test_a_proxy_that_loses_its_server_for_a_while_does_not_end_a_client_that_was_online() -> None:
    world = World()
    world.online()
    world.end(1006)
    world.advance(1)
    world.refuse(404, "no such site")
    assert isinstance(world.machine.fault, NotStillhere)
    world.advance(10)
    world.open()
    world.receive(welcome(world.now))
    assert world.noted("status") == ["connecting", "online", "reconnecting", "online"]
    assert world.machine.fault is None


@pytest.mark.parametrize("status", [429, 503])
def test_a_full_server_is_asked_again_not_before_the_time_that_it_gave(status: int) -> None:
    world = World()
    world.connect()
    world.refuse(status, "full", retry_after=30)
    world.machine.network_changed(world.now)
    world.advance(29.9)
    assert len(world.noted("open")) == 1
    world.advance(31)
    assert len(world.noted("open")) == 2


def test_a_refused_token_is_replaced_once() -> None:
    world = World()
    world.connect()
    world.refuse(401, "the token has expired")
    assert world.noted("problem") == ["unauthorized"]
    world.advance(1)
    assert world.noted("getToken")[-1] == {"renew": True}
    world.refuse(401, "the token has expired")
    assert isinstance(world.machine.error, Unauthorized)
    assert world.machine.status is ConnectionStatus.REFUSED
    assert "the token has expired" in str(world.machine.error)


def test_a_token_that_cannot_be_renewed_is_not_tried_twice() -> None:
    world = World(renewable=False)
    world.online(life=10.0)
    world.advance(9)
    assert len(world.noted("getToken")) == 1
    world.end(4001, "the token has expired")
    assert world.machine.status is ConnectionStatus.REFUSED


def test_a_renewal_that_fails_is_tried_again_before_the_token_ends() -> None:
    world = World()
    world.online(life=100.0)
    world.token = RuntimeError("the issuer sleeps")
    world.hear(81)
    assert world.noted("problem") == ["token_failed"]
    world.token = jwt(exp=1000)
    world.hear(95)
    assert [message["token"] for message in world.sent("auth")] == [world.token]
    world.hear(100)
    assert world.machine.status is ConnectionStatus.ONLINE


def test_the_servers_clock_decides_when_a_token_ends() -> None:
    world = World()
    world.connect()
    world.open()
    far = 1_790_000_000_000  # our clock began at 0
    world.receive({**welcome(), "serverAt": far, "expiresAt": far + 100_000})
    world.token = jwt(exp=far / 1000 + 300)
    world.hear(79)
    assert world.sent("auth") == []
    world.hear(81)
    assert len(world.sent("auth")) == 1
    world.hear(200)
    assert len(world.sent("auth")) == 1


# -- silence -------------------------------------------------------------------------------------------------------


def test_the_application_is_told_of_every_fourth_attempt_that_nobody_answers() -> None:
    world = World()
    world.connect()
    for _ in range(9):
        world.end(1006, "Connection refused")
        world.advance(world.now + 10)
    assert world.noted("problem") == ["unreachable"] * 2
    assert isinstance(world.machine.fault, Unreachable) and "Connection refused" in str(world.machine.fault)
    assert world.machine.status is ConnectionStatus.CONNECTING


def test_a_program_that_stood_still_asks_once_more_before_it_gives_a_path_up() -> None:
    world = World()
    world.online()
    world.advance(33)
    assert len(world.sent("ping")) == 1
    world.now = 400.0
    world.machine.handle_timer(world.now)
    world.settle()
    assert len(world.sent("ping")) == 2 and world.noted("close") == []
    world.advance(403)
    assert world.noted("close") == [{"code": rules.REPLACED, "reason": "reconnect"}]


def test_with_the_defaults_a_client_whose_path_died_without_a_word_is_back_before_its_window_is_over() -> None:
    settings = Settings()
    heartbeat, window = settings.heartbeat, settings.grace.policy.windows[Cause.HEARTBEAT_LOST]
    given_up = 0.9 * heartbeat.interval + heartbeat.timeout  # the server's pings come up to a tenth early
    noticed = rules.SILENCE * heartbeat.interval + rules.PONG
    assert noticed + 2.0 < given_up + window, "two seconds are left for the way"
    assert rules.SILENCE * heartbeat.interval > heartbeat.probe_interval, "where the server asks, the client need not"


def test_no_message_makes_the_machine_raise() -> None:
    world = World()
    world.online()
    for data in (b"", b"[]", b"null", b"\xff", b"{", b'{"type":1}', b'{"type":"welcome"}', b"[" * 100_000):
        world.receive(data)
    assert set(world.noted("problem")) == {"protocol"}
    world.receive(b'{"type":"weather"}')
    assert len(world.noted("problem")) == 8
    assert world.machine.status is ConnectionStatus.ONLINE


# -- what is shown -------------------------------------------------------------------------------------------------


def test_a_client_without_a_connection_shows_the_last_status_and_calls_it_stale() -> None:
    world = World()
    world.online()
    world.watch("bob")
    ident = world.sent("watch")[0]["id"]
    world.receive({"type": "snapshot", "id": ident, "users": [presence("bob", "online", 5)], "complete": True})
    view = world.machine.talk.book.user("bob")
    assert (view.status, view.stale) == (Status.ONLINE, False)
    world.end(1006)
    view = world.machine.talk.book.user("bob")
    assert (view.status, view.stale) == (Status.ONLINE, True)
    assert not world.machine.talk.fresh


def test_another_user_does_not_see_what_the_one_before_saw() -> None:
    world = World()
    world.watch("bob")
    world.online()
    world.receive({"type": "snapshot", "id": 1, "users": [presence("bob", "online", 5)], "complete": True})
    world.end(1006)
    world.advance(1)
    world.open()
    world.receive(welcome(world.now, user="mallory"))
    assert world.machine.talk.book.user("bob").status is Status.UNKNOWN


def test_a_thousand_users_are_asked_for_in_messages_that_the_server_takes_and_at_its_rate() -> None:
    world = World()
    world.watch(*(f"u{n}" for n in range(3000)))
    world.online()
    assert len(world.sent("watch")) == 30
    world.advance(3)
    assert len(world.sent("watch")) == 50
    assert sum(len(message["users"]) for message in world.sent("watch")) == 3000


# -- addresses and tokens ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("ws://h:7400/ws", "ws://h:7400/ws"),
        ("https://h", "wss://h/ws"),
        ("http://[::1]:1/", "ws://[::1]:1/ws"),
        ("wss://h/presence/ws?x=1", "wss://h/presence/ws?x=1"),
    ],
)
def test_an_address_of_the_server_is_made_one_of_its_socket(url: str, meant: str) -> None:
    assert socket_url(url) == meant


@pytest.mark.parametrize("url", ["", "h:7400", "ftp://h", "ws://", "ws://h:x", "ws://u:p@h", "ws://h/ws#top", "ws://["])
def test_what_is_no_address_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(BadAddress) as told:
        World(url=url)
    assert "Give the server's address" in str(told.value)


def test_the_query_of_an_address_is_kept_and_the_tab_is_escaped() -> None:
    machine = rules.Machine("ws://h/ws?region=eu", tab="a b&c", random=lambda: 0.5)
    machine.connect(0.0)
    machine.token(1, "t", 0.0)
    (opened,) = [output for output in machine.take() if isinstance(output, Open)]
    assert opened.url == "ws://h/ws?region=eu&probe=1&availability=active&tab=a%20b%26c"


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "a..", f"h.{base64.b64encode(b'[]').decode()}.s", jwt(exp="soon")])
def test_a_token_whose_end_cannot_be_read_is_no_error(token: str) -> None:
    assert expiry_of(token) is None


def test_the_end_of_a_token_is_read_without_its_key() -> None:
    assert expiry_of(jwt(exp=1_790_000_000, sub="ä")) == 1_790_000_000
