"""Issuers' keys, from a real file and a real HTTP server that is slow, failing, rotating and redirecting."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from stillhere.server.auth import Authenticator, Identity, KeysUnavailable, TokenForged
from stillhere.server.jwks import FetchError, JwksFile, KeysError, VerifyingKey, parse_jwks
from stillhere.server.jwks_url import JwksUrl, freshness

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(algorithm: str, key: Any, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return made | more


def document(*keys: Any) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def rsa_set(*kids: str) -> bytes:
    return document(*(jwk("RS256", RSA, kid=kid) for kid in kids))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Issuer:
    """A real HTTP server on loopback, whose behaviour a test sets."""

    def __init__(self) -> None:
        self.body = rsa_set("k1")
        self.status = 200
        self.headers: dict[str, str] = {}
        self.hits: list[str] = []
        self.gate = threading.Event()  # a closed gate is a slow endpoint
        self.gate.set()
        self.drip = False
        self.arrived = threading.Event()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.hits.append(self.path)
                issuer.arrived.set()
                issuer.gate.wait(20)
                try:
                    self.answer()
                except OSError:
                    pass  # the client has given up

            def answer(self) -> None:
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(issuer.body) + (100 if issuer.drip else 0)))
                self.end_headers()
                self.wfile.write(issuer.body)
                if issuer.drip:
                    issuer.gate.clear()
                    self.wfile.flush()
                    issuer.gate.wait(20)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    async def asked(self) -> None:
        """Wait for the first request."""
        assert await asyncio.to_thread(self.arrived.wait, 20)

    def stop(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.stop()


async def find(keys: JwksUrl, kid: str | None = "k1", algorithm: str = "RS256") -> VerifyingKey | None:
    found = keys.find(kid, algorithm)
    return found if found is None or isinstance(found, VerifyingKey) else await found


def at_once(keys: JwksUrl, kid: str = "k1") -> VerifyingKey | None:
    """Look up a key that must be there, or known to be absent, without a fetch."""
    found = keys.find(kid, "RS256")
    assert found is None or isinstance(found, VerifyingKey)
    return found


async def test_the_first_look_up_fetches_and_later_ones_do_not(issuer: Issuer) -> None:
    keys = JwksUrl(issuer.url, Clock())
    assert (await find(keys)) is not None
    for _ in range(100):
        assert at_once(keys) is not None
    assert issuer.hits == ["/jwks"]
    assert (keys.statistics().keys, keys.statistics().loads) == (1, 1)


async def test_all_who_wait_share_one_fetch(issuer: Issuer) -> None:
    issuer.gate.clear()
    keys = JwksUrl(issuer.url, Clock())
    waiting = [asyncio.ensure_future(find(keys)) for _ in range(50)]
    await issuer.asked()
    issuer.gate.set()
    assert all(await asyncio.gather(*waiting))
    assert len(issuer.hits) == 1


async def test_a_client_that_goes_away_does_not_cancel_the_fetch_of_the_others(issuer: Issuer) -> None:
    issuer.gate.clear()
    keys = JwksUrl(issuer.url, Clock())
    gone, waiting = asyncio.ensure_future(find(keys)), asyncio.ensure_future(find(keys))
    await issuer.asked()
    gone.cancel()
    await asyncio.wait([gone])
    issuer.gate.set()
    assert await waiting is not None
    assert gone.cancelled()


async def test_a_client_that_leaves_before_the_fetch_began_leaves_nothing_behind(issuer: Issuer) -> None:
    made = Authenticator(keys=JwksUrl(issuer.url, Clock()), algorithms=("RS256",))
    verdict = made.verify(jwt.encode({"sub": "alice", "exp": 1060}, RSA, algorithm="RS256"), 1000)
    assert not isinstance(verdict, Identity)
    waiting = asyncio.ensure_future(verdict)
    waiting.cancel()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await asyncio.wait([waiting])
    assert issuer.hits == []


async def test_an_unknown_kid_fetches_at_most_once_in_30_seconds(issuer: Issuer) -> None:
    clock = Clock()
    keys = JwksUrl(issuer.url, clock)
    assert await find(keys) is not None
    for number in range(100):
        assert at_once(keys, f"made up {number}") is None
    clock.now += 29.9
    assert at_once(keys, "made up") is None
    clock.now += 0.1
    assert await find(keys, "made up") is None
    assert at_once(keys, "made up again") is None
    assert len(issuer.hits) == 2
    assert at_once(keys) is not None


async def test_a_rotated_key_is_found_and_the_old_one_forgotten(issuer: Issuer) -> None:
    clock = Clock()
    keys = JwksUrl(issuer.url, clock)
    assert await find(keys) is not None
    issuer.body = rsa_set("k2")
    clock.now += 30
    assert await find(keys, "k2") is not None
    assert at_once(keys, "k1") is None


@pytest.mark.parametrize("failure", ["status", "no JSON", "no keys", "down"])
async def test_stale_keys_stay_in_use_while_the_endpoint_fails(issuer: Issuer, failure: str) -> None:
    clock = Clock()
    keys = JwksUrl(issuer.url, clock)
    assert await find(keys) is not None
    if failure == "status":
        issuer.status = 503
    elif failure == "down":
        issuer.server.shutdown()
        issuer.server.socket.close()
    else:
        issuer.body = b"<html>" if failure == "no JSON" else b'{"keys":[]}'
    clock.now += 10 * 86_400
    assert await find(keys) is not None
    assert at_once(keys) is not None  # in the cool-down nobody waits for an endpoint that just failed
    statistics = keys.statistics()
    assert (statistics.keys, statistics.loads, statistics.failures) == (1, 1, 1)
    assert statistics.last_error


async def test_stale_keys_are_fetched_anew_before_they_are_used_again(issuer: Issuer) -> None:
    clock = Clock()
    issuer.headers = {"Cache-Control": "public, max-age=600"}
    keys = JwksUrl(issuer.url, clock)
    assert await find(keys) is not None
    issuer.body = rsa_set("k2")
    clock.now += 599
    assert at_once(keys) is not None
    clock.now += 1
    assert await find(keys) is None
    assert at_once(keys, "k2") is not None


async def test_a_slow_endpoint_is_given_up(issuer: Issuer) -> None:
    issuer.gate.clear()
    clock = Clock()
    keys = JwksUrl(issuer.url, clock, timeout=0.1)
    with pytest.raises(FetchError, match="could not be fetched"):
        await find(keys)
    with pytest.raises(FetchError):
        at_once(keys)  # within two seconds, nobody asks again
    assert len(issuer.hits) == 1
    clock.now += 2
    with pytest.raises(FetchError, match=r"has not ended|no answer"):
        await find(keys)
    issuer.gate.set()
    for thread in threading.enumerate():
        if thread.name == "jwks-fetch":
            await asyncio.to_thread(thread.join, 20)
    clock.now += 2
    assert await find(keys) is not None


async def test_many_who_were_told_to_wait_cause_one_fetch_even_one_after_the_other(issuer: Issuer) -> None:
    keys = JwksUrl(issuer.url, Clock())
    told = [keys.find("nobody", "RS256") for _ in range(20)]
    for each in told:
        assert each is not None
        assert not isinstance(each, VerifyingKey)
        assert await each is None
    assert len(issuer.hits) == 1


async def test_an_endpoint_that_never_ends_its_answer_is_given_up(issuer: Issuer) -> None:
    issuer.drip = True
    with pytest.raises(FetchError, match="could not be fetched"):
        await find(JwksUrl(issuer.url, Clock(), timeout=0.1))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(issuer: Issuer, status: int) -> None:
    issuer.status = status
    issuer.headers = {"Location": f"{issuer.url}/elsewhere"}
    with pytest.raises(FetchError, match=f"answered {status} \\(redirects are not followed\\)"):
        await find(JwksUrl(issuer.url, Clock()))
    assert issuer.hits == ["/jwks"]


async def test_more_than_a_mebibyte_is_not_read(issuer: Issuer) -> None:
    issuer.body = rsa_set("k1") + b" " * (1 << 20)
    with pytest.raises(FetchError, match="larger than 1 MiB"):
        await find(JwksUrl(issuer.url, Clock()))


async def test_a_reload_fetches_at_the_next_look_up(issuer: Issuer) -> None:
    keys = JwksUrl(issuer.url, Clock())
    assert await find(keys) is not None
    issuer.body = rsa_set("k2")
    keys.reload()
    assert await find(keys, "k2") is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/jwks",
        "http://127.0.0.1.example.com/jwks",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "ftp://example.com/jwks",
        "https://me:pw@example.com/jwks",
        "https://",
        "https://exa mple.com/jwks",
        "https://[::1/jwks",
        "https://example.com:port/",
        "jwks.json",
    ],
)
def test_only_https_or_loopback_may_be_fetched(url: str) -> None:
    with pytest.raises(ValueError, match="the JWKS URL cannot be used: it must"):
        JwksUrl(url)


@pytest.mark.parametrize(
    "url", ["https://id.example/jwks", "http://localhost:1/", "http://[::1]:1/", "http://127.9.9.9/"]
)
def test_https_and_loopback_may_be_fetched(url: str) -> None:
    JwksUrl(url)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 300),
        ("", 300),
        ("public", 300),
        ("max-age=600", 600),
        ("Public, Max-Age=600, must-revalidate", 600),
        ('max-age="600"', 600),
        ("max-age=1", 60),
        ("max-age=0", 60),
        ("no-store", 60),
        ("no-cache, max-age=600", 60),
        ("max-age=99999999999999999999", 86_400),
        ("max-age=-5", 300),
        ("max-age=soon", 300),
        ("max-age", 300),
        ("s-maxage=600", 300),
    ],
)
def test_freshness_follows_cache_control_within_bounds(header: str | None, seconds: float) -> None:
    assert freshness(header) == seconds


async def test_a_token_is_verified_with_fetched_keys(issuer: Issuer) -> None:
    made = Authenticator(keys=JwksUrl(issuer.url, Clock()), algorithms=("RS256",))
    token = jwt.encode({"sub": "alice", "exp": 1060}, RSA, algorithm="RS256", headers={"kid": "k1"})
    verdict = made.verify(token, 1000)
    assert not isinstance(verdict, Identity)
    assert (await verdict).user == "alice"
    assert isinstance(made.verify(token, 1000), Identity)


async def test_nothing_in_a_token_decides_what_is_fetched(issuer: Issuer) -> None:
    elsewhere = Issuer()
    try:
        made = Authenticator(keys=JwksUrl(issuer.url, Clock()), algorithms=("RS256",))
        stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        elsewhere.body = document(jwk("RS256", stranger, kid="x"))
        token = jwt.encode(
            {"sub": "alice", "exp": 1060, "iss": elsewhere.url},
            stranger,
            algorithm="RS256",
            headers={"kid": "x", "jku": elsewhere.url, "x5u": elsewhere.url},
        )
        verdict = made.verify(token, 1000)
        assert not isinstance(verdict, Identity)
        with pytest.raises(TokenForged):
            await verdict
        assert elsewhere.hits == []
    finally:
        elsewhere.stop()


async def test_an_issuer_that_was_never_reached_is_unavailable_at_once(issuer: Issuer) -> None:
    issuer.status = 500
    made = Authenticator(keys=JwksUrl(issuer.url, Clock()), algorithms=("RS256",))
    token = jwt.encode({"sub": "alice", "exp": 1060}, RSA, algorithm="RS256", headers={"kid": "k1"})
    verdict = made.verify(token, 1000)
    assert not isinstance(verdict, Identity)
    with pytest.raises(KeysUnavailable, match="answered 500"):
        await verdict
    with pytest.raises(KeysUnavailable, match="answered 500"):
        made.verify(token, 1000)


def touch(path: Path, body: bytes, mtime: int) -> None:
    path.write_bytes(body)
    os.utime(path, (mtime, mtime))


def test_a_file_is_read_anew_when_it_changes(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "jwks.json"
    touch(path, rsa_set("k1"), 1)
    keys = JwksFile(path, clock)
    assert keys.find("k1", "RS256") is not None
    touch(path, rsa_set("k2"), 2)
    assert keys.find("k2", "RS256") is None  # not looked at more than once a second
    clock.now += 1
    assert keys.find("k2", "RS256") is not None
    assert keys.find("k1", "RS256") is None
    assert keys.statistics().loads == 2


@pytest.mark.parametrize("broken", [b"", b"{", b'{"keys":[]}', rsa_set("k1")[:-9], None])
def test_a_broken_change_leaves_the_keys_as_they_were(tmp_path: Path, broken: bytes | None) -> None:
    clock, path = Clock(), tmp_path / "jwks.json"
    touch(path, rsa_set("k1"), 1)
    keys = JwksFile(path, clock)
    if broken is None:
        path.unlink()
    else:
        touch(path, broken, 2)
    clock.now += 1
    assert keys.find("k1", "RS256") is not None
    assert (keys.statistics().failures, keys.statistics().keys) == (1, 1)
    clock.now += 1
    assert keys.find("k1", "RS256") is not None
    assert keys.statistics().failures == 1  # told once for each change
    touch(path, rsa_set("k2"), 3)
    clock.now += 1
    assert keys.find("k2", "RS256") is not None
    assert keys.statistics().last_error is None


def test_a_reload_does_not_wait_for_the_date(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    touch(path, rsa_set("k1"), 1)
    keys = JwksFile(path, Clock())
    touch(path, rsa_set("k2"), 1)
    assert keys.reload()
    assert keys.find("k2", "RS256") is not None


def test_a_file_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match=r"gone\.json cannot be read: No such file"):
        JwksFile(tmp_path / "gone.json")
    huge = tmp_path / "huge.json"
    huge.write_bytes(rsa_set("k1") + b" " * (1 << 20))
    with pytest.raises(KeysError, match="larger than 1 MiB"):
        JwksFile(huge)


def test_each_key_is_bound_to_one_algorithm() -> None:
    keys = parse_jwks(document(jwk("RS256", RSA, kid="k"), jwk("ES256", EC, kid="k"), jwk("EdDSA", ED, kid="d")))
    assert len(keys) == 3
    found = {
        algorithm: keys.find("k", algorithm) for algorithm in ("RS256", "ES256", "EdDSA", "HS256", "PS256", "none")
    }
    assert {name for name, key in found.items() if key is not None} == {"RS256", "ES256"}


def test_a_token_without_kid_may_only_mean_the_only_key() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    keys = parse_jwks(document(jwk("RS256", RSA, kid="r"), jwk("ES256", EC, kid="e"), jwk("ES256", other, kid="f")))
    assert keys.find(None, "RS256") is not None
    assert keys.find(None, "ES256") is None


SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)
P384 = ec.generate_private_key(ec.SECP384R1())


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "s"}, "symmetric key"),
        (jwk("RS256", SMALL), "2048 bits"),
        (jwk("ES384", P384), "none of RSA"),
        (jwk("RS256", RSA, alg="RS512"), "alg is not RS256"),
        (jwk("RS256", RSA, alg="HS256"), "alg is not RS256"),
        (jwk("RS256", RSA, alg=None), "alg is not RS256"),
        (jwk("RS256", RSA, use="enc"), "use is not sig"),
        (jwk("RS256", RSA, key_ops=["encrypt"]), "do not include verify"),
        (jwk("RS256", RSA, key_ops="verify"), "do not include verify"),
        (jwk("RS256", RSA, kid=7), "kid is not a text"),
        (jwk("RS256", RSA, n=7), "lacks one of n, e"),
        (jwk("RS256", RSA, n="AQAB"), "2048 bits|not a key"),
        (jwk("RS256", RSA, n="!!"), "2048 bits|not a key"),
        (jwk("ES256", EC, y=jwk("ES256", EC)["x"]), "not a key"),
        (jwk("EdDSA", ED, x="AAAA"), "not a key"),
        ({"kty": ["RSA"]}, "none of RSA"),
        ({"kty": "EC", "crv": {}}, "none of RSA"),
        ("k", "not an object"),
        (None, "not an object"),
    ],
)
def test_an_unusable_key_is_left_out_and_alone_refused(key: Any, says: str) -> None:
    with pytest.raises(KeysError, match=says):
        parse_jwks(document(key))
    assert len(parse_jwks(document(key, jwk("EdDSA", ED, kid="d")))) == 1


def test_a_private_key_serves_by_its_public_half_only() -> None:
    private = jwt.get_algorithm_by_name("ES256").to_jwk(EC, as_dict=True)
    assert "d" in private
    token = jwt.encode({"sub": "alice", "exp": 1060}, EC, algorithm="ES256")
    made = Authenticator(keys=parse_jwks(document(private)), algorithms=("ES256",))
    assert isinstance(made.verify(token, 1000), Identity)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b'{"keys":{}}', b"\xff", b"[" * 5000, b'{"keys":"x"}'])
def test_what_is_no_jwks_is_refused(body: bytes) -> None:
    with pytest.raises(KeysError):
        parse_jwks(body)
