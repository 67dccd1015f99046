"""Which addresses a webhook is posted to: the public Internet, after resolution, and nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from stillhere.server.webhooks.destination import (
    Resolver,
    Unacceptable,
    acceptable,
    look_up,
    parse_destination,
)

PUBLIC = ["93.184.215.14", "1.1.1.1", "8.8.8.8", "198.41.0.4", "2606:4700:4700::1111", "2a00:1450:4001:81d::200e"]
SPECIAL = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.1.2.3 169.254.169.254 172.16.0.1
172.31.255.255 192.0.0.1 192.0.0.170 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7
203.0.113.9 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::1
100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::1 2002:7f00:1:: 2002:808:808::1 3fff::1 5f00::1 fc00::1
fd12:3456:789a::1 fe80::1 fe80::1%eth0 fec0::1 ff02::1
""".split()
NUMBERS = ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1", "[::ffff:127.0.0.1]", "[::]", "0"]
"""Spellings of this machine that a check of the text alone would let pass."""


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_posted_to_with_tls_only(address: str) -> None:
    assert acceptable(address, secure=True, loopback=False)
    assert not acceptable(address, secure=False, loopback=True)


@pytest.mark.parametrize("address", SPECIAL)
def test_special_addresses_are_never_posted_to(address: str) -> None:
    assert not acceptable(address, secure=True, loopback=False)
    assert not acceptable(address, secure=False, loopback=False)


@pytest.mark.parametrize("address", SPECIAL)
def test_the_setting_for_loopback_opens_loopback_alone(address: str) -> None:
    assert acceptable(address, secure=False, loopback=True) is (address.startswith("127.") or address == "::1")


@pytest.mark.parametrize("host", NUMBERS)
async def test_other_spellings_of_this_machine_do_not_get_through(host: str) -> None:
    resolver = Resolver(parse_destination(f"https://{host}/"), loopback=False)
    with pytest.raises(Unacceptable, match="resolve"):
        await resolver.addresses()


async def test_of_several_addresses_the_public_ones_are_taken() -> None:
    resolver = Resolver(
        parse_destination("https://app.example/"), loopback=False, look_up=lambda *_: ["10.0.0.1", "1.1.1.1", "fe80::1"]
    )
    assert await resolver.addresses() == ["1.1.1.1"]


async def test_a_name_is_judged_anew_each_time() -> None:
    answers = [["1.1.1.1"], ["127.0.0.1"]]
    resolver = Resolver(parse_destination("https://app.example/"), loopback=False, look_up=lambda *_: answers.pop(0))
    assert await resolver.addresses() == ["1.1.1.1"]
    with pytest.raises(Unacceptable, match=r"resolves to 127\.0\.0\.1, and a public address is needed"):
        await resolver.addresses()


async def test_a_look_up_that_hangs_is_one_thread_however_often_it_is_waited_for() -> None:
    release, asked = threading.Event(), list[str]()

    def slow(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        release.wait(10)
        return ["1.1.1.1"]

    resolver = Resolver(parse_destination("https://app.example/"), loopback=False, look_up=slow)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(resolver.addresses(), 0.01)
    waiting = asyncio.ensure_future(resolver.addresses())
    await asyncio.sleep(0)
    release.set()
    assert await waiting == ["1.1.1.1"]
    assert asked == ["app.example"]


async def test_a_name_without_addresses_says_so() -> None:
    def fails(host: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    resolver = Resolver(parse_destination("https://nowhere.example/"), loopback=False, look_up=fails)
    with pytest.raises(Unacceptable, match=r"nowhere\.example cannot be resolved: Name or service not known"):
        await resolver.addresses()


def test_the_system_resolves_this_machine() -> None:
    assert "127.0.0.1" in look_up("127.0.0.1", 80)


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "target", "shown"),
    [
        ("https://a.example", "a.example", 443, "a.example", "/", "https://a.example/"),
        ("https://A.example:8443/x?key=1#f", "a.example", 8443, "a.example:8443", "/x?key=1", None),
        ("http://[::1]:80/é", "::1", 80, "[::1]", "/%C3%A9", "http://[::1]/%C3%A9"),
        ("https://bücher.example/a%2Fb", "xn--bcher-kva.example", 443, "xn--bcher-kva.example", "/a%2Fb", None),
    ],
)
def test_a_url_is_taken_apart(url: str, host: str, port: int, authority: str, target: str, shown: str | None) -> None:
    found = parse_destination(url)
    assert (found.host, found.port, found.authority, found.target) == (host, port, authority, target)
    assert shown is None or found.shown == shown
    assert "key=1" not in found.shown
