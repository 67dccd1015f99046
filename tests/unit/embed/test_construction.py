"""What is wrong with a presence is told when it is made, not when the first client comes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from stillhere.embed import Identity, Presence, Request, SettingsError, identity

SECRET = "a secret for tests, and for nothing else"


def nobody(request: Request) -> None:
    return None


class Door:
    async def __call__(self, request: Request) -> str:
        return "alice"

    def method(self, request: Request) -> str:
        return "alice"


@pytest.mark.parametrize("options", [{}, {"store": "memory:"}, {"may_watch": lambda who, user: True}])
def test_without_any_log_in_it_is_refused_with_both_ways_out(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"authenticate=….*secret=…"):
        Presence(**options)


@pytest.mark.parametrize("url", ["mysql://x", "presence.db", "sqlite://x.db", "memory", ""])
def test_a_store_that_there_is_not_is_refused_with_its_name(url: str) -> None:
    with pytest.raises(SettingsError, match=r"store\.url"):
        Presence(store=url, secret=SECRET)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"store": 5}, "store is 5; it must be a URL"),
        ({"store": None}, "store is None; it must be a URL"),
        ({"path": "ws"}, "path is 'ws'; it must begin with a slash"),
        ({"authenticate": "alice"}, "authenticate is 'alice'; it must be a function, sync or async, of 1: "),
        ({"authenticate": lambda: None}, "authenticate takes .*which does not fit"),
        ({"authenticate": lambda request, more: None}, "authenticate takes .*which does not fit"),
        ({"may_watch": lambda user: True}, "may_watch takes .*which does not fit"),
        ({"may_join": True}, "may_join is True"),
        ({"admit": 1}, "admit is 1"),
    ],
)
def test_an_option_of_the_wrong_kind_is_refused_in_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        Presence(**{"secret": SECRET, "store": "memory:", **options})


@pytest.mark.parametrize(
    "authenticate", [nobody, Door(), Door().method, partial(nobody), lambda request: None, lambda *args: None, str]
)
def test_whatever_can_be_called_with_a_request_is_an_authenticate(authenticate: Any) -> None:
    Presence(store="memory:", authenticate=authenticate)


def test_a_wrong_setting_is_refused_by_its_key() -> None:
    with pytest.raises(SettingsError, match=r"grace\.profile"):
        Presence(store="memory:", secret=SECRET, settings={"grace.profile": "quick"})
    with pytest.raises(SettingsError, match=r"auth\.secret"):
        Presence(store="memory:", secret="short")


def test_a_callback_of_transitions_is_checked_too() -> None:
    presence = Presence(store="memory:", secret=SECRET)
    with pytest.raises(TypeError, match="on_transition takes"):
        presence.on_transition(lambda: None)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="on_gap is 'x'"):
        presence.on_transition(lambda transition: None, on_gap="x")  # type: ignore[arg-type]


def test_an_identity_is_checked_where_it_is_made() -> None:
    who = identity("alice", info={"name": "Alice"}, watch=["team:*"], session="s1")
    assert isinstance(who, Identity)
    assert who.watch.allows("team:bob") and who.watch.allows("alice") and not who.watch.allows("bob")
    with pytest.raises(ValueError, match="user id '' is empty"):
        identity("")
    with pytest.raises(ValueError, match="session id"):
        identity("alice", session="a\nb")
    with pytest.raises(ValueError, match="must be"):
        identity("alice", watch="bob")
