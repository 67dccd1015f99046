"""Redis URLs: what is read of them, and that no message repeats a password."""

from __future__ import annotations

import pytest

from stillhere.store.redis.addresses import Address, Host, Mode, Tls, parse_address

TLS = Tls()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", Address(mode=Mode.STANDALONE, hosts=(Host("h", 6379),))),
        ("REDIS://h:1/", Address(mode=Mode.STANDALONE, hosts=(Host("h", 1),))),
        ("redis://[::1]:7/4", Address(mode=Mode.STANDALONE, hosts=(Host("::1", 7),), db=4)),
        ("redis://:p%40%3A%2F@h", Address(mode=Mode.STANDALONE, hosts=(Host("h", 6379),), password="p@:/")),
        ("redis://u:p@h/2", Address(mode=Mode.STANDALONE, hosts=(Host("h", 6379),), user="u", password="p", db=2)),
        ("rediss://h", Address(mode=Mode.STANDALONE, hosts=(Host("h", 6379),), tls=TLS)),
        (
            "rediss://h/?ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=false",
            Address(mode=Mode.STANDALONE, hosts=(Host("h", 6379),), tls=Tls("/etc/ca.pem", check_hostname=False)),
        ),
        (
            "rediss://h?ssl_certfile=c&ssl_keyfile=k",
            Address(mode=Mode.STANDALONE, hosts=(Host("h", 6379),), tls=Tls("", "c", "k")),
        ),
        (
            "redis+sentinel://u:p@a,b:2/presence/3",
            Address(
                mode=Mode.SENTINEL,
                hosts=(Host("a", 26379), Host("b", 2)),
                user="u",
                password="p",
                service="presence",
                db=3,
            ),
        ),
        ("rediss+sentinel://a/s", Address(mode=Mode.SENTINEL, hosts=(Host("a", 26379),), service="s", tls=TLS)),
        ("redis+cluster://a:1,b", Address(mode=Mode.CLUSTER, hosts=(Host("a", 1), Host("b", 6379)))),
        ("rediss+cluster://a/0", Address(mode=Mode.CLUSTER, hosts=(Host("a", 6379),), tls=TLS)),
    ],
)
def test_a_url_is_taken_apart(url: str, address: Address) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://h", "begins with one of redis://, rediss://, redis[+]sentinel://"),
        ("redis:h", "write redis://host:port"),
        ("redis://", "each host must be a name"),
        ("redis://h:0", "each host must be a name"),
        ("redis://h:port", "each host must be a name"),
        ("redis://a,b", r"takes one host; for several write redis\+sentinel://"),
        ("redis://h/one", "the database must be a number: redis://host/0"),
        ("redis://h/1/2", "the database must be a number"),
        ("redis+sentinel://h", r"name the master .* redis\+sentinel://host:26379/service"),
        ("redis+sentinel://h/s/x", "the database must be a number: redis[+]sentinel://host/service/0"),
        ("redis+cluster://h/1", "has database 0 alone; leave /1 out"),
        ("redis://u@h", "before the @ write user:password"),
        ("redis://hush:hush:hush@h", "write the character : of a user or password as %3A"),
        ("redis://:hush/hush@h", "%2F, %3F, %23 and %40"),
        ("redis://:hush#hush@h", "%2F, %3F, %23 and %40"),
        ("redis://h?ssl_ca_certs=x", "ssl_ca_certs needs TLS: write rediss://"),
        ("rediss://h?hush=1", "is no option of a Redis URL; there are ssl_ca_certs"),
        ("rediss://h?ssl_cert_reqs=none", "is no option"),
        ("rediss://h?ssl_ca_certs=a&ssl_ca_certs=b", "stands twice"),
        ("rediss://h?ssl_check_hostname=perhaps", "must be true or false"),
        ("rediss://h?ssl_keyfile=k", "ssl_keyfile needs ssl_certfile"),
    ],
)
def test_a_wrong_url_is_refused_in_a_sentence(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        parse_address(url)
    assert "hush:" not in str(error.value) and "hush/" not in str(error.value) and "hush#" not in str(error.value)


def test_an_address_does_not_show_its_password() -> None:
    address = parse_address("rediss+sentinel://who:hush-hush@a:1,b:2/presence")
    shown = f"{address} {address!r} {[address]}"
    assert "hush" not in shown and "who" not in shown
    assert str(address) == "rediss+sentinel://***@a:1,b:2/presence"
