"""Which pages may connect, and whose address counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.server.origins import OriginPolicy, client_ip, parse_networks, parse_origin

ALLOWED = (
    "https://example.com",
    "https://*.example.org",
    "http://intra.example:8080",
    "https://bücher.example",
    "http://[2001:db8::1]:3000",
    "capacitor://localhost",
    "HTTPS://Upper.Example.NET.:443",
)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://example.com", True),
        ("https://example.com:443", True),
        ("HTTPS://EXAMPLE.COM", True),
        ("https://example.com.", True),
        ("https://upper.example.net", True),
        ("https://xn--bcher-kva.example", True),
        ("https://XN--BCHER-KVA.example", True),
        ("http://intra.example:8080", True),
        ("http://[2001:db8::1]:3000", True),
        ("http://[2001:0DB8:0:0::1]:3000", True),
        ("capacitor://localhost", True),
        ("https://a.example.org", True),
        ("https://a.b.example.org", True),
        ("https://A.EXAMPLE.ORG.:443", True),
        ("http://example.com", False),
        ("https://example.com:8443", False),
        ("https://www.example.com", False),
        ("https://example.com.evil.net", False),
        ("https://example.org", False),
        ("https://any-example.org", False),
        ("https://anyexample.org", False),
        ("https://.example.org", False),
        ("https://a..example.org", False),
        ("https://*.example.org", False),
        ("https://a.example.org:8443", False),
        ("http://a.example.org", False),
        ("https://a.example.org.evil.net", False),
        ("https://evil.net/.example.org", False),
        ("https://evil.net#.example.org", False),
        ("https://evil.net?.example.org", False),
        ("https://evil.net\\.example.org", False),
        ("https://evil.net:443@a.example.org", False),
        ("https://user@example.com", False),
        ("https://a.example.org\x00", False),
        ("https://example.com/", False),
        ("https://example.com:", False),
        ("https://example.com:0", False),
        ("https://example.com:0443x", False),
        ("https://example.com:65536", False),
        ("https://example.com:４４３", False),
        ("https://bücher.example", False),
        ("https://example.com, https://evil.net", False),
        ("https://example.com https://evil.net", False),
        (" https://example.com", False),
        ("https:example.com", False),
        ("//example.com", False),
        ("example.com", False),
        ("https://", False),
        ("https://[2001:db8::1", False),
        ("http://[2001:db8::1%25eth0]:3000", False),
        ("http://[2001:db8::2]:3000", False),
        ("https://" + "a." * 300 + "example.org", False),
        ("https://" + "a" * 64 + ".example.org", False),
        ("capacitor://evil", False),
        ("file://", False),
        ("null", False),
        ("NULL", False),
        ("", False),
    ],
)
def test_only_listed_origins_come_in(origin: str, allowed: bool) -> None:
    decision = OriginPolicy(ALLOWED).decide(origin, "example.com", bearer=True)
    assert decision.allowed is allowed, decision.reason
    assert decision.reason


_hosts = st.one_of(
    st.from_regex(r"[a-z0-9.-]{0,20}example\.org[a-z0-9.-]{0,8}", fullmatch=True),
    st.lists(st.from_regex(r"[a-z0-9-]{1,8}", fullmatch=True), min_size=1, max_size=5).map(".".join),
)


@given(_hosts)
def test_a_wildcard_matches_exactly_the_names_below_it(host: str) -> None:
    labels = host.removesuffix(".").split(".")
    below = labels[-2:] == ["example", "org"] and len(labels) > 2 and all(1 <= len(label) <= 63 for label in labels)
    assert OriginPolicy(["https://*.example.org"]).decide(f"https://{host}", None, bearer=False).allowed is below


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_makes_the_policy_raise(origin: str, host: str) -> None:
    for policy in (OriginPolicy(), OriginPolicy(ALLOWED), OriginPolicy((), ["example.com"])):
        policy.decide(origin, host, bearer=False)
        policy.trusts_host(host)


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://127.0.0.1:7400", "127.0.0.1:7400", True),
        ("https://example.com", "example.com", True),
        ("https://example.com", "EXAMPLE.com.", True),
        ("https://example.com", "example.com:443", True),
        ("http://example.com", "example.com", True),
        ("http://[::1]:7400", "[::1]:7400", True),
        ("http://example.com", "example.com:443", False),
        ("https://example.com:8443", "example.com", False),
        ("http://localhost:7400", "127.0.0.1:7400", False),
        ("http://127.0.0.1:7401", "127.0.0.1:7400", False),
        ("https://evil.net", "example.com", False),
        ("https://example.com", None, False),
        ("https://example.com", "", False),
        ("https://example.com", "exa mple.com", False),
        ("capacitor://example.com", "example.com", False),
        ("null", "null", False),
    ],
)
def test_without_a_list_only_pages_of_the_same_host_come_in(origin: str, host: str | None, allowed: bool) -> None:
    assert OriginPolicy().decide(origin, host, bearer=False).allowed is allowed


def test_a_list_replaces_the_same_host_rule() -> None:
    assert not OriginPolicy(["https://example.com"]).decide("https://own.example", "own.example", bearer=True).allowed


@pytest.mark.parametrize("policy", [OriginPolicy(), OriginPolicy(ALLOWED)])
def test_who_sends_no_origin_must_bring_a_token(policy: OriginPolicy) -> None:
    assert policy.decide(None, "example.com", bearer=True).allowed
    refused = policy.decide(None, "example.com", bearer=False)
    assert not refused.allowed
    assert "bearer token" in refused.reason


def test_what_was_allowed_is_remembered_for_that_origin_host_and_token_only_and_not_for_ever() -> None:
    policy = OriginPolicy()
    for number in range(1000):
        page = f"https://{number}.example.com"
        assert policy.decide(page, f"{number}.example.com", bearer=False).allowed
        assert policy.decide(page, f"{number}.example.com", bearer=False).allowed
        assert not policy.decide(page, f"{number + 1}.example.com", bearer=False).allowed
        assert policy.decide(None, "a.example.com", bearer=True).allowed
        assert not policy.decide(None, "a.example.com", bearer=False).allowed
    assert len(policy._let_in) <= 256


def test_a_rebound_name_is_not_this_host() -> None:
    policy = OriginPolicy((), ["stillhere.example", "Other.Example:7400"])
    assert policy.decide("https://stillhere.example", "stillhere.example", bearer=False).allowed
    assert policy.decide("http://other.example:7400", "other.example:7400", bearer=False).allowed
    assert policy.decide("http://127.0.0.1:7400", "127.0.0.1:7400", bearer=False).allowed
    assert not policy.decide("http://evil.net:7400", "evil.net:7400", bearer=False).allowed
    assert [policy.trusts_host(host) for host in ("localhost:1", "[::1]:7400", "evil.net", None, "")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert OriginPolicy().trusts_host("anything")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("*", "every site"),
        ("null", "sandboxed"),
        ("example.com", "scheme"),
        ("https://example.com/", "no path"),
        ("https://*.com", "two labels"),
        ("https://*.192.0.2.1", "two labels"),
        ("https://*example.com", "not a host name"),
        ("https://a.*.example.com", "not a host name"),
        ("https://*.*.example.com", "not a host name"),
        ("https://straße.example", "xn--"),
        ("https://a..example", "empty label"),
        ("https://me:pw@example.com", "user or password"),
    ],
)
def test_an_entry_that_is_no_origin_is_refused_with_its_reason(entry: str, says: str) -> None:
    with pytest.raises(ValueError, match="cannot be an allowed origin") as caught:
        OriginPolicy([entry])
    assert repr(entry) in str(caught.value)
    assert says in str(caught.value)


def test_a_trusted_host_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'https://x' cannot be a trusted host"):
        OriginPolicy((), ["https://x"])


def test_an_origin_is_shown_in_its_normal_form() -> None:
    assert str(parse_origin("HTTPS://Example.COM.:443")) == "https://example.com"
    assert str(parse_origin("http://[::0001]:8080")) == "http://[::1]:8080"


PROXIES = parse_networks(["10.0.0.0/8", "192.168.1.1", "2001:db8:aaaa::/48"])


@pytest.mark.parametrize(
    ("remote", "forwarded", "client"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4,198.51.100.1,192.168.1.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, nonsense, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "nonsense, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.1", "[2001:db8::7]", "2001:db8::7"),
        ("10.0.0.1", "2001:DB8:0::7", "2001:db8::7"),
        ("10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("2001:db8:aaaa::1", "2001:db8:bbbb::1", "2001:db8:bbbb::1"),
        ("192.168.1.2", "198.51.100.1", "192.168.1.2"),
        ("", "198.51.100.1", ""),
        ("unix", "198.51.100.1", "unix"),
    ],
)
def test_only_what_trusted_proxies_wrote_is_believed(remote: str, forwarded: str | None, client: str) -> None:
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    assert client_ip(remote, headers, PROXIES) == client


def test_without_trusted_proxies_the_header_is_ignored() -> None:
    assert client_ip("10.0.0.1", {"x-forwarded-for": "198.51.100.1"}, ()) == "10.0.0.1"


@given(st.text(max_size=60))
def test_no_header_makes_the_address_look_up_raise(header: str) -> None:
    assert client_ip("10.0.0.1", {"x-forwarded-for": header}, PROXIES)


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "10.0.0.0/33", "proxy.example", ""])
def test_a_proxy_that_is_no_network_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"such as 10\.0\.0\.7 or a block"):
        parse_networks([entry])
