"""Tokens that nobody issued, or not for this: refused wherever they are presented, told in the log, not shown there."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.acceptance.raw import HandshakeRefused, Raw
from tests.acceptance.server import TRANSPORTS, ServerProcess, Transport
from tests.acceptance.watching import Watcher, enter

AUDIENCE = "presence"
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_STRANGE_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_PEM = _KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


class Issuer:
    """Who issues tokens for the server, and knows how to do it wrong."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Good claims but for what is changed; None leaves one out."""
        good = {"sub": "mallory", "exp": int(time.time()) + 60, "aud": AUDIENCE, "watch": "*"}
        return {name: value for name, value in {**good, **changed}.items() if value is not None}

    def hs(self, headers: dict[str, Any] | None = None, **changed: Any) -> str:
        """Signed with the secret."""
        return jwt.encode(self.claims(**changed), self.secret, "HS256", headers=headers)

    def by_hand(self, header: dict[str, Any], key: bytes | None, **changed: Any) -> str:
        """Put together without the help of a library that would refuse to: HMAC-SHA256 with ``key``, or nothing."""
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (header, self.claims(**changed)))
        signature = b"" if key is None else hmac.digest(key, signed.encode(), hashlib.sha256)
        return f"{signed}.{_encoded(signature)}"

    def tampered(self) -> str:
        """Somebody else's name under a good signature."""
        head, _, signature = self.hs().split(".")
        return f"{head}.{_encoded(json.dumps(self.claims(sub='bystander')).encode())}.{signature}"


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


_RS = {"alg": "RS256", "typ": "JWT", "kid": "k1"}

FORGED: dict[str, Callable[[Issuer], str]] = {
    "alg none": lambda i: i.by_hand({"alg": "none", "typ": "JWT"}, None),
    "alg None, in other letters": lambda i: i.by_hand({"alg": "nOnE"}, None),
    "alg HS256 without a signature": lambda i: i.by_hand({"alg": "HS256", "typ": "JWT"}, None),
    "the public key as HMAC secret": lambda i: i.by_hand({"alg": "HS256", "typ": "JWT", "kid": "k1"}, PUBLIC_PEM),
    "alg RS256 with an HMAC of the public key": lambda i: i.by_hand(_RS, PUBLIC_PEM),
    "alg RS256 with an HMAC of the secret": lambda i: i.by_hand(_RS, i.secret.encode()),
    "another RSA key": lambda i: jwt.encode(i.claims(), _STRANGE_KEY, "RS256", headers={"kid": "k1"}),
    "an RSA key of its own in the header": lambda i: jwt.encode(
        i.claims(), _STRANGE_KEY, "RS256", headers={"jwk": json.loads(_jwk(_STRANGE_KEY))}
    ),
    "another secret": lambda i: jwt.encode(i.claims(), "y" * 48, "HS256"),
    "an algorithm that is not accepted": lambda i: jwt.encode(i.claims(), i.secret * 2, "HS512"),
    "claims that were changed": lambda i: i.tampered(),
    "an extension that must be understood": lambda i: i.hs(headers={"crit": ["exp"]}),
    "expired": lambda i: i.hs(exp=int(time.time()) - 5),
    "not valid yet": lambda i: i.hs(nbf=int(time.time()) + 60),
    "no end": lambda i: i.hs(exp=None),
    "an end in milliseconds": lambda i: i.hs(exp=int(time.time() * 1000)),
    "an end that is a text": lambda i: i.by_hand({"alg": "HS256"}, i.secret.encode(), exp="tomorrow"),
    "another audience": lambda i: i.hs(aud="somebody-else"),
    "no audience": lambda i: i.hs(aud=None),
    "no user": lambda i: i.hs(sub=None),
    "an empty user": lambda i: i.hs(sub=""),
    "a user with a line break": lambda i: i.hs(sub="eve\nadmin"),
    "a user of 300 bytes": lambda i: i.hs(sub="x" * 300),
    "an info of 2 KiB": lambda i: i.hs(info={"a": "x" * 2048}),
    "no token at all": lambda i: "bearer",
    "two parts": lambda i: i.hs().rpartition(".")[0],
    "four parts": lambda i: i.hs() + ".x",
    "7,000 letters": lambda i: "x" * 7000,
}


def _jwk(key: rsa.RSAPrivateKey) -> str:
    text = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())
    assert isinstance(text, str)
    return text


@pytest.fixture(scope="module", params=TRANSPORTS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that takes tokens of a secret and of an RSA key."""
    transport: Transport = request.param
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    file.write_text(json.dumps({"keys": [{**json.loads(_jwk(_KEY)), "kid": "k1", "alg": "RS256", "use": "sig"}]}))
    settings: dict[str, object] = {
        "auth.jwks_file": str(file),
        "auth.algorithms": ["HS256", "RS256"],
        "auth.audience": AUDIENCE,
        "auth.leeway_ms": 0,
        "limits.messages_burst": 500,
    }
    with ServerProcess(settings, websocket=transport) as running:
        yield running
        assert running.terminate() == 0
        assert [line for line in running.log() if line["level"] in ("error", "critical")] == []
        assert running.stderr == ""


@pytest.fixture(scope="module")
def bystander(server: ServerProcess) -> Iterator[Raw]:
    """Somebody who came in rightfully, and whom the forged tokens may name."""
    with enter(server, "bystander", audience=AUDIENCE) as client:
        yield client


def timeless(reason: str) -> str:
    """A reason without its numbers: "expired 5 s ago" is the same a second later."""
    return re.sub(r"\d+", "#", reason)


def test_the_right_tokens_come_in(server: ServerProcess) -> None:
    issuer = Issuer(server.secret)
    by_rsa = jwt.encode(issuer.claims(), _KEY, "RS256", headers={"kid": "k1"})
    by_hand = issuer.by_hand({"alg": "HS256", "typ": "JWT"}, server.secret.encode())
    for token in (by_rsa, by_hand, issuer.hs(), issuer.hs(aud=["other", AUDIENCE])):
        with Raw.open(server.ws_url, token) as client:
            assert client.seen[0]["user"] == "mallory"
            client.send({"type": "bye"})
            client.answer_close(client.closed())


@pytest.mark.parametrize("row", FORGED)
def test_a_forged_token_comes_in_nowhere(server: ServerProcess, bystander: Raw, row: str) -> None:
    token = FORGED[row](Issuer(server.secret))
    established, before = len(server.log("connection_established")), len(server.log("upgrade_refused"))
    late_before = len(server.log("auth_refused"))

    refusals = []
    for way in ({"token": token}, {"headers": {"Authorization": f"Bearer {token}"}}):
        with pytest.raises(HandshakeRefused) as refused:
            Raw.open(server.ws_url, welcome=False, **way)
        refusals.append(refused.value)
    assert [r.status for r in refusals] == [401, 401]
    assert refusals[0].headers["www-authenticate"].startswith("Bearer")
    assert refusals[0].problem["status"] == 401 and refusals[0].problem["detail"]
    why = refusals[0].problem["detail"]
    told = server.wait_log("upgrade_refused", count=before + 2)[-2:]
    assert [(line["status"], timeless(line["reason"])) for line in told] == [(401, timeless(why))] * 2

    with Raw.open(server.ws_url) as late:
        late.send({"type": "auth", "id": 1, "token": token})
        end = late.closed()
        assert end.code == 4001
        assert [(m["type"], m["code"], m["id"]) for m in late.seen] == [("error", "unauthorized", 1)]
        late.answer_close(end)
    last = server.wait_log("auth_refused", count=late_before + 1)[-1]
    assert timeless(last["reason"]) == timeless(why)

    # nor does it end the connection of somebody who is in
    answer = bystander.ask({"type": "auth", "id": f"renew {row}", "token": token}, "error")
    assert answer["code"] == "unauthorized"
    assert bystander.round_trip() < 2
    status, _ = server.call("GET", "/v1/users/bystander", headers={"Authorization": f"Bearer {token}"})
    assert status == 401
    assert len(server.log("connection_established")) == established
    assert len(token) < 10 or token not in server.stdout + server.stderr
    assert token.rpartition(".")[2] not in server.stdout or len(token.rpartition(".")[2]) < 10


def test_a_token_in_the_query_is_not_looked_at(server: ServerProcess) -> None:
    with Raw.open(f"{server.ws_url}?token={Issuer(server.secret).hs()}") as client:
        client.send({"type": "ping", "id": 1})
        end = client.closed()
        assert end.code == 4001
        client.answer_close(end)


def test_nobody_is_shown_any_of_it(server: ServerProcess, bystander: Raw) -> None:
    with Watcher(lambda: enter(server, "watcher", audience=AUDIENCE), ["bystander", "mallory"]) as watcher:
        for forge in FORGED.values():
            with pytest.raises(HandshakeRefused):
                Raw.open(server.ws_url, forge(Issuer(server.secret)), welcome=False)
        watcher.settle()
        assert watcher.changes("bystander") == watcher.changes("mallory") == []
