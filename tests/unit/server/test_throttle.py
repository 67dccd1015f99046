"""Rates and caps."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.server.throttle import Caps, Limit, TokenBucket, network_of


def test_a_bucket_lets_the_burst_through_and_then_the_rate() -> None:
    bucket = TokenBucket(20, 40)
    assert sum(bucket.take(100.0) for _ in range(100)) == 40
    assert not bucket.take(100.0)
    assert sum(bucket.take(101.0) for _ in range(100)) == 20


def test_a_refused_message_costs_nothing() -> None:
    bucket = TokenBucket(1, 1)
    assert bucket.take(10.0)
    for _ in range(1000):
        assert not bucket.take(10.5)
    assert bucket.take(11.0)


def test_a_bucket_says_how_long_to_wait() -> None:
    bucket = TokenBucket(2, 4)
    assert bucket.wait(0.0) == 0
    assert bucket.take(0.0, cost=4)
    assert bucket.wait(0.0) == pytest.approx(0.5)
    assert bucket.wait(0.25, cost=2) == pytest.approx(0.75)
    assert bucket.wait(0.0, cost=5) == float("inf")


def test_a_clock_that_steps_back_gives_no_tokens() -> None:
    bucket = TokenBucket(10, 10)
    assert bucket.take(100.0, cost=10)
    assert not bucket.take(1.0)
    assert not bucket.take(100.0)
    assert bucket.take(100.2)


def test_a_bucket_without_rate_or_burst_is_refused() -> None:
    with pytest.raises(ValueError, match="rate is 0"):
        TokenBucket(0, 5)
    with pytest.raises(ValueError, match=r"burst is 0\.5"):
        TokenBucket(5, 0.5)


def test_a_bucket_is_small() -> None:
    bucket = TokenBucket(20, 40)
    assert not hasattr(bucket, "__dict__")
    assert sys.getsizeof(bucket) <= 96


@given(
    rate=st.floats(0.1, 100),
    burst=st.integers(1, 50),
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=60),
)
def test_no_schedule_gets_more_than_burst_and_rate_allow(rate: float, burst: int, gaps: list[float]) -> None:
    bucket = TokenBucket(rate, burst)
    now, taken = 50.0, 0
    for gap in gaps:
        now += gap
        taken += bucket.take(now)
        assert 0 <= bucket.level(now) <= burst
        assert taken <= burst + rate * (now - 50.0) + 1e-6


def test_each_cap_is_named_when_it_is_hit() -> None:
    caps = Caps(total=4, per_user=2, per_ip=3)
    for name in ("a", "b", "c"):
        assert caps.enter(name, "192.0.2.1") is None
    assert caps.enter("d", "192.0.2.1") is Limit.CONNECTIONS_PER_IP
    assert caps.enter("d", "192.0.2.2") is None
    assert caps.enter("e", "192.0.2.3") is Limit.CONNECTIONS
    assert caps.identify("a", "alice") is None
    assert caps.identify("b", "alice") is None
    assert caps.identify("c", "alice") is Limit.CONNECTIONS_PER_USER
    assert str(Limit.CONNECTIONS_PER_USER) == "limits.connections_per_user"
    assert (len(caps), caps.of_user("alice"), caps.of_ip("192.0.2.1")) == (4, 2, 3)


def test_what_was_refused_leaves_no_trace() -> None:
    caps = Caps(total=10, per_user=1, per_ip=1)
    assert caps.enter("a", "192.0.2.1") is None
    for number in range(50):
        assert caps.enter(f"x{number}", "192.0.2.1") is Limit.CONNECTIONS_PER_IP
    caps.leave("a")
    assert len(caps) == caps.of_ip("192.0.2.1") == 0


def test_a_repeated_or_unknown_leave_changes_nothing() -> None:
    caps = Caps(total=10, per_user=10, per_ip=10)
    for name in ("a", "b"):
        caps.enter(name, "192.0.2.1")
        caps.identify(name, "alice")
    for _ in range(5):
        caps.leave("a")
        caps.leave("nobody")
    assert (len(caps), caps.of_user("alice"), caps.of_ip("192.0.2.1")) == (1, 1, 1)


def test_a_user_at_the_cap_can_still_reload_a_tab() -> None:
    caps = Caps(total=10, per_user=2, per_ip=10)
    for name in ("a", "b", "c"):
        caps.enter(name, "")
    caps.identify("a", "alice")
    caps.identify("b", "alice")
    assert caps.identify("c", "alice", supersedes="somebody else's") is Limit.CONNECTIONS_PER_USER
    assert caps.identify("c", "alice", supersedes="a") is None


def test_an_unknown_address_counts_only_in_the_total() -> None:
    caps = Caps(total=3, per_user=9, per_ip=1)
    assert [caps.enter(name, "") for name in "abcd"] == [None, None, None, Limit.CONNECTIONS]


@pytest.mark.parametrize(
    ("ip", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::9", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("not:an:address", "not:an:address"),
        ("", ""),
    ],
)
def test_a_subscriber_with_a_whole_ipv6_network_is_one_peer(ip: str, counted: str) -> None:
    assert network_of(ip) == counted


_names = st.sampled_from("abcdef")


@given(st.lists(st.tuples(st.sampled_from(["enter", "identify", "leave"]), _names, st.sampled_from("uvw"))))
def test_the_counts_always_follow_from_the_connections(steps: list[tuple[str, str, str]]) -> None:
    caps = Caps(total=4, per_user=2, per_ip=3)
    ips: dict[str, str] = {}
    users: dict[str, str] = {}
    for what, name, other in steps:
        if what == "enter":
            fits = len(ips) < 4 and list(ips.values()).count(other) < 3
            if caps.enter(name, other) is None:
                assert fits or name in ips
                ips.setdefault(name, other)
            else:
                assert not fits
        elif what == "leave":
            caps.leave(name)
            ips.pop(name, None)
            users.pop(name, None)
        elif name in ips and caps.identify(name, other) is None:
            users[name] = other
        assert len(caps) == len(ips)
        for each in "uvw":
            assert caps.of_ip(each) == list(ips.values()).count(each) <= 3
            assert caps.of_user(each) == list(users.values()).count(each) <= 2
