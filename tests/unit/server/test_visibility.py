"""The claims that say whom somebody may see."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.server.visibility import Patterns


@pytest.mark.parametrize("claim", [None, []])
def test_an_absent_claim_allows_nothing(claim: list[str] | None) -> None:
    patterns = Patterns.of(claim)
    assert not any(map(patterns.allows, ["alice", "", "*", "team:1"]))


def test_a_user_may_always_watch_himself() -> None:
    patterns = Patterns.of(None, own="alice")
    assert patterns.allows("alice")
    assert not patterns.allows("alic")
    assert not patterns.allows("alice2")


@pytest.mark.parametrize("claim", ["*", ["*"], ["bob", "*"]])
def test_a_star_allows_everything(claim: str | list[str]) -> None:
    assert all(map(Patterns.of(claim).allows, ["alice", "team:1", "*"]))


@pytest.mark.parametrize(
    ("claim", "name", "allowed"),
    [
        (["bob"], "bob", True),
        (["bob"], "Bob", False),
        (["bob"], "bob:1", False),
        (["team:*"], "team:1", True),
        (["team:*"], "team:1:x", True),
        (["team:*"], "team:", True),
        (["team:*"], "team", False),
        (["team:*"], "teams:1", False),
        (["team:*"], "xteam:1", False),
        (["team:*"], "x:team:1", False),
        (["team:7:*"], "team:7:bob", True),
        (["team:7:*"], "team:70:bob", False),
        (["team:7:*"], "team:bob", False),
        (["a:*", "a:b:*"], "a:c", True),
        ([":*"], ":x", True),
        ([":*"], "x", False),
        (["bob*"], "bob*", True),
        (["bob*"], "bobby", False),
        (["*:bob"], "x:bob", False),
        (["te*m:*"], "team:1", False),
    ],
)
def test_only_names_and_prefixes_that_end_with_a_colon_match(claim: list[str], name: str, allowed: bool) -> None:
    assert Patterns.of(claim).allows(name) is allowed


@pytest.mark.parametrize("claim", ["bob", "", "team:*"])
def test_a_text_in_place_of_a_list_is_refused(claim: str) -> None:
    with pytest.raises(ValueError, match='must be "\\*" or a list'):
        Patterns.of(claim)


def test_an_empty_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="empty entry"):
        Patterns.of(["bob", ""])


_ids = st.text(alphabet="ab:*", min_size=1, max_size=6)


@given(st.lists(_ids, max_size=6), _ids)
def test_the_look_up_agrees_with_a_scan_of_the_claim(claim: list[str], name: str) -> None:
    naive = any(
        entry == "*" or (entry.endswith(":*") and name.startswith(entry[:-1])) or entry == name for entry in claim
    )
    assert Patterns.of(claim).allows(name) is naive
