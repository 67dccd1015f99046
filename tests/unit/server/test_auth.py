"""Who may come in: real tokens, and every forgery that we know of."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from stillhere.server.auth import (
    Authenticator,
    AuthError,
    ClaimRefused,
    Identity,
    KeysUnavailable,
    TokenExpired,
    TokenForged,
    TokenMalformed,
    TokenTooEarly,
    matching_key,
    mint,
)
from stillhere.server.jwks import FetchError, KeySet, VerifyingKey, parse_jwks
from stillhere.server.secrets import Secret
from stillhere.server.settings import AuthSettings

NOW = 1_790_000_000.0
TEXT = "0123456789abcdef0123456789abcdef"
SECRET = Secret(TEXT)
CANARY = "canary"

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(algorithm: str, key: Any, **more: str) -> dict[str, Any]:
    jwk: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return jwk | more


KEYS = parse_jwks(
    json.dumps(
        {
            "keys": [
                public_jwk("RS256", RSA, kid="r", alg="RS256", use="sig"),
                public_jwk("ES256", EC, kid="e"),
                public_jwk("EdDSA", ED, kid="d"),
            ]
        }
    ).encode()
)


def authenticator(**more: Any) -> Authenticator:
    return Authenticator(secret=SECRET, keys=KEYS, algorithms=("HS256", "RS256", "ES256", "EdDSA"), **more)


def verify(token: str | bytes, now: float = NOW, **more: Any) -> Identity:
    identity = authenticator(**more).verify(token, now)
    assert isinstance(identity, Identity)
    return identity


def claims(**more: Any) -> dict[str, Any]:
    return {"sub": "alice", "exp": int(NOW) + 60} | more


def token(header: dict[str, Any] | None = None, **more: Any) -> str:
    """An HS256 token of whatever claims; a claim of None is left out."""
    body = {name: value for name, value in claims(**more).items() if value is not None}
    return jwt.encode(body, TEXT, algorithm="HS256", headers=header)


def raw_token(header: bytes, payload: bytes, signature: bytes = b"x") -> str:
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (header, payload, signature))


def signed(header: dict[str, Any], payload: bytes) -> str:
    """A token whose HS256 signature is right, whatever its header and payload."""
    head = raw_token(json.dumps(header).encode(), payload).rpartition(".")[0].encode()
    implementation = jwt.get_algorithm_by_name("HS256")
    signature = implementation.sign(head, implementation.prepare_key(TEXT))
    return f"{head.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_a_minted_token_says_who_somebody_is_and_what_he_may_do() -> None:
    minted = mint(
        SECRET,
        "alice",
        now=NOW,
        ttl=60,
        sid="s1",
        info={"name": "Alice"},
        watch=["bob", "team:*"],
        rooms="*",
        scope="read admin",
        audience="stillhere",
        issuer="https://id.example",
    )
    identity = verify(minted, audience="stillhere", issuer="https://id.example")
    assert identity.user == "alice"
    assert identity.session == "s1"
    assert identity.info == {"name": "Alice"}
    assert identity.scopes == {"read", "admin"}
    assert identity.expires_at == NOW + 60
    assert [identity.watch.allows(name) for name in ("alice", "bob", "team:x", "carol")] == [True, True, True, False]
    assert identity.rooms.allows("r1")


def test_a_token_of_two_claims_gets_in_and_may_see_only_itself() -> None:
    identity = verify(token())
    assert (identity.session, identity.info, identity.scopes) == (None, None, frozenset())
    assert identity.watch.allows("alice")
    assert not identity.watch.allows("bob")
    assert not identity.rooms.allows("alice")


@pytest.mark.parametrize(("algorithm", "key", "kid"), [("RS256", RSA, "r"), ("ES256", EC, "e"), ("EdDSA", ED, "d")])
def test_each_public_key_verifies_its_own_algorithm(algorithm: str, key: Any, kid: str) -> None:
    assert verify(jwt.encode(claims(), key, algorithm=algorithm, headers={"kid": kid})).user == "alice"
    assert verify(jwt.encode(claims(), key, algorithm=algorithm)).user == "alice"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_secret_verifies_the_hs_algorithms_that_are_accepted(algorithm: str) -> None:
    secret = Secret(TEXT * 2)
    minted = mint(secret, "alice", now=NOW, algorithm=algorithm)
    assert isinstance(Authenticator(secret=secret, algorithms=[algorithm]).verify(minted, NOW), Identity)
    others = [name for name in ("HS256", "HS384", "HS512") if name != algorithm]
    with pytest.raises(TokenForged, match=f"alg {algorithm} is not accepted; accepted: {others[0]}"):
        Authenticator(secret=secret, algorithms=others).verify(minted, NOW)


def test_a_token_may_be_text_or_bytes() -> None:
    assert verify(token().encode()) == verify(token())


PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
DER = RSA.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
GOOD = json.dumps(claims()).encode()


def hmac_with(key: bytes, header: dict[str, Any]) -> str:
    """What an attacker makes who takes a public key for a secret; PyJWT would refuse to."""
    head = raw_token(json.dumps(header).encode(), GOOD).rpartition(".")[0].encode()
    signature = jwt.get_algorithm_by_name("HS256").sign(head, key)
    return f"{head.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def forgeries() -> dict[str, str]:
    good, other = token(), token(sub="mallory")
    head, payload, signature = good.split(".")
    own = json.dumps(public_jwk("RS256", STRANGER, kid="own"))
    return {
        "none": raw_token(b'{"alg":"none"}', GOOD, b""),
        "nONE": raw_token(b'{"alg":"nONE","typ":"JWT"}', GOOD, b""),
        "none with a signature": raw_token(b'{"alg":"none"}', GOOD),
        "empty alg": raw_token(b'{"alg":""}', GOOD),
        "other payload": f"{head}.{other.split('.')[1]}.{signature}",
        "other header": ".".join([raw_token(b'{"alg":"HS256","x":1}', b"").split(".")[0], payload, signature]),
        "no signature": f"{head}.{payload}.",
        "cut signature": good[:-4],
        "another secret": jwt.encode(claims(), "x" * 32, algorithm="HS256"),
        "HS256 with the public PEM": hmac_with(PEM, {"alg": "HS256", "kid": "r"}),
        "HS256 with the public DER": hmac_with(DER, {"alg": "HS256", "kid": "r"}),
        "HS256 with the public JWK": hmac_with(json.dumps(public_jwk("RS256", RSA)).encode(), {"alg": "HS256"}),
        "HS256 with an empty key": hmac_with(b"", {"alg": "HS256"}),
        "HS384": jwt.encode(claims(), TEXT * 2, algorithm="HS384"),
        "hs256": signed({"alg": "hs256"}, GOOD),
        "a stranger's RSA key": jwt.encode(claims(), STRANGER, algorithm="RS256", headers={"kid": "r"}),
        "a stranger's key without kid": jwt.encode(claims(), STRANGER, algorithm="RS256"),
        "jwk header": jwt.encode(claims(), STRANGER, algorithm="RS256", headers={"jwk": json.loads(own)}),
        "jku header": jwt.encode(claims(), STRANGER, algorithm="RS256", headers={"jku": "https://evil.net/k"}),
        "x5u header": jwt.encode(claims(), STRANGER, algorithm="RS256", headers={"x5u": "https://evil.net/k"}),
        "unknown kid": jwt.encode(claims(), RSA, algorithm="RS256", headers={"kid": "nobody"}),
        "the kid of another algorithm's key": jwt.encode(claims(), RSA, algorithm="RS256", headers={"kid": "e"}),
        "RS512 with the RS256 key": jwt.encode(claims(), RSA, algorithm="RS512", headers={"kid": "r"}),
        "PS256 with the RS256 key": jwt.encode(claims(), RSA, algorithm="PS256", headers={"kid": "r"}),
        "crit": signed({"alg": "HS256", "crit": ["exp"]}, GOOD),
        "empty crit": signed({"alg": "HS256", "crit": []}, GOOD),
        "null crit": signed({"alg": "HS256", "crit": None}, GOOD),
        "b64": signed({"alg": "HS256", "b64": False}, GOOD),
        "made for something else": signed({"alg": "HS256", "typ": "secevent+jwt"}, GOOD),
    }


@pytest.mark.parametrize("name", forgeries())
def test_a_forged_token_is_refused(name: str) -> None:
    forged = forgeries()[name]
    with pytest.raises(TokenForged) as caught:
        verify(forged)
    assert caught.value.code == "unauthorized"
    assert not any(part and part in caught.value.message for part in forged.split("."))


def malformations() -> dict[str, str | bytes]:
    good = token()
    return {
        "empty": "",
        "a word": CANARY,
        "two parts": good.rpartition(".")[0],
        "four parts": good + ".x",
        "blank": good + " ",
        "line": good + "\n",
        "padding": good + "=",
        "standard base64": good.replace(".", "+.", 1),
        "one letter too many": good + "AAA" if len(good.rpartition(".")[2]) % 4 == 2 else good + "AA",
        "not ASCII": good + "é",
        "bytes that are not ASCII": good.encode() + b"\xff",
        "a lone surrogate": good + "\ud800",
        "a header that is no JSON": raw_token(b"{", GOOD),
        "a header that is a list": raw_token(b"[]", GOOD),
        "a header without alg": raw_token(b"{}", GOOD),
        "an alg that is a list": raw_token(b'{"alg":["HS256"]}', GOOD),
        "a kid that is a number": raw_token(b'{"alg":"HS256","kid":1}', GOOD),
        "a header that is not UTF-8": raw_token(b'{"alg":"\xff"}', GOOD),
        "a header nested deep": raw_token(b'{"alg":"HS256","x":' + b"[" * 3000 + b"]" * 3000 + b"}", b""),
        "too long": token(x="y" * 9000),
        "claims that are no JSON": signed({"alg": "HS256"}, b"nothing"),
        "claims nested deep": signed({"alg": "HS256"}, b'{"info":{"a":' + b"[" * 2500 + b"]" * 2500 + b"}}"),
    }


@pytest.mark.parametrize("name", malformations())
def test_what_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(TokenMalformed) as caught:
        verify(malformations()[name])
    assert CANARY not in caught.value.message
    assert caught.value.code == "unauthorized"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sub": None}, "no sub"),
        ({"sub": ""}, "sub has 0 bytes"),
        ({"sub": "x" * 257}, "sub has 257 bytes"),
        ({"sub": "é" * 129}, "sub has 258 bytes"),
        ({"sub": "a\nb"}, "sub holds a control character"),
        ({"sub": "a\x7fb"}, "sub holds a control character"),
        ({"sub": "a\x85b"}, "sub holds a control character"),
        ({"sub": "a\x00b"}, "sub holds a control character"),
        ({"sid": "a\tb"}, "sid holds a control character"),
        ({"sid": ""}, "sid has 0 bytes"),
        ({"exp": None}, "no exp"),
        ({"exp": 1_790_000_000_123}, "not milliseconds"),
        ({"exp": -1}, "exp is -1"),
        ({"info": {"a": "x" * 1024}}, "info has 1032 bytes of JSON; it may have 1024"),
        ({"watch": "bob"}, 'watch must be "*" or a list'),
        ({"watch": [""]}, "watch must not hold an empty entry"),
        ({"rooms": "r1"}, 'rooms must be "*" or a list'),
        ({"rooms": [""]}, "rooms must not hold"),
    ],
)
def test_a_wrong_claim_is_refused_in_a_sentence(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ClaimRefused) as caught:
        verify(token(**changed))
    assert says in caught.value.message


@pytest.mark.parametrize(
    "payload",
    [
        b'{"sub":7,"exp":1790000060}',
        b'{"sub":"alice","exp":"soon"}',
        b'{"sub":"alice","exp":true}',
        b'{"sub":"alice","exp":1e999}',
        b'{"sub":"alice","exp":1790000060,"info":"canary"}',
        b'{"sub":"alice","exp":1790000060,"watch":{"canary":1}}',
        b'{"sub":"alice","exp":1790000060,"watch":["bob",1]}',
        b'{"sub":"alice","exp":1790000060,"scope":1}',
        b'["canary"]',
    ],
)
def test_a_claim_of_the_wrong_type_is_refused(payload: bytes) -> None:
    with pytest.raises(ClaimRefused, match="wrong type") as caught:
        verify(signed({"alg": "HS256"}, payload))
    assert CANARY not in caught.value.message


@pytest.mark.parametrize("sub", ["x" * 256, "é" * 128, "用户", "👩‍👩‍👧", "a b", "<img onerror=x>", "\u00a0", "\u200b"])
def test_any_other_text_of_256_bytes_is_a_user(sub: str) -> None:
    assert verify(token(sub=sub)).user == sub


def test_info_is_measured_as_compact_json() -> None:
    info = {"a": "x" * 1016}
    payload = json.dumps(claims(info=info), indent=400).encode()
    assert verify(signed({"alg": "HS256"}, payload)).info == info


def test_scopes_may_be_a_text_or_a_list() -> None:
    assert verify(token(scope=" read  admin ")).scopes == {"read", "admin"}
    assert verify(token(scope=["read"])).scopes == {"read"}


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt"])
def test_the_usual_types_of_token_are_accepted(typ: str) -> None:
    assert verify(token({"typ": typ})).user == "alice"


def test_a_token_ends_at_its_exp() -> None:
    expiring = token(exp=NOW + 1)
    assert verify(expiring, NOW + 0.999).expires_at == NOW + 1
    with pytest.raises(TokenExpired, match="expired 0 s ago"):
        verify(expiring, NOW + 1)
    with pytest.raises(TokenExpired, match="expired 3599 s ago"):
        verify(expiring, NOW + 3600)


def test_the_leeway_lets_a_late_token_in_but_lengthens_no_other() -> None:
    expiring = token(exp=NOW)
    assert verify(expiring, NOW + 4, leeway=5.0).expires_at == NOW + 5
    assert verify(expiring, NOW - 1, leeway=5.0).expires_at == NOW
    with pytest.raises(TokenExpired):
        verify(expiring, NOW + 5, leeway=5.0)


def test_a_token_from_the_future_waits_for_its_nbf() -> None:
    early = token(nbf=NOW + 10)
    with pytest.raises(TokenTooEarly, match="valid in 10 s"):
        verify(early)
    assert verify(early, leeway=10.0).user == "alice"
    assert verify(early, NOW + 10).user == "alice"


@pytest.mark.parametrize(
    ("aud", "accepted"),
    [("here", True), (["there", "here"], True), ("there", False), ([], False), (None, False), ("her", False)],
)
def test_the_audience_is_checked_when_it_is_configured(aud: Any, accepted: bool) -> None:
    made = token(aud=aud)
    assert verify(made).user == "alice"
    if accepted:
        assert verify(made, audience="here").user == "alice"
    else:
        with pytest.raises(ClaimRefused, match="aud does not hold 'here'"):
            verify(made, audience="here")


@pytest.mark.parametrize("iss", ["https://id.example/", None])
def test_the_issuer_is_checked_when_it_is_configured(iss: str | None) -> None:
    assert verify(token(iss=iss)).user == "alice"
    with pytest.raises(ClaimRefused, match=r"iss is not 'https://id\.example'"):
        verify(token(iss=iss), issuer="https://id.example")


def test_the_signature_is_judged_before_the_claims() -> None:
    with pytest.raises(TokenForged):
        verify(jwt.encode({"sub": ""}, "x" * 32, algorithm="HS256"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"secret": SECRET, "algorithms": ["none"]}, "'none' is not supported"),
        ({"secret": SECRET, "algorithms": ["RS256"]}, "RS256 needs a JWKS"),
        ({"algorithms": ["HS256"]}, "HS256 needs a secret"),
        ({"secret": Secret(PEM.decode())}, "asymmetric key"),
        ({"secret": Secret("ssh-rsa AAAAB3NzaC1yc2E")}, "asymmetric key"),
        ({"secret": Secret(json.dumps(public_jwk("RS256", RSA)))}, "asymmetric key"),
        ({"secret": Secret(json.dumps({"keys": [public_jwk("RS256", RSA)]}))}, "asymmetric key"),
        ({"secret": SECRET, "leeway": 31}, "leeway is 31 s"),
    ],
)
def test_keys_that_cannot_be_right_are_refused_at_the_start(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Authenticator(**settings)


def test_the_settings_make_an_authenticator() -> None:
    made = Authenticator.of(AuthSettings(secret=SECRET, audience="here"), info_bytes=2)
    assert isinstance(made.verify(token(aud="here", info={}), NOW), Identity)
    with pytest.raises(ClaimRefused, match="it may have 2"):
        made.verify(token(aud="here", info={"a": 1}), NOW)


class Slow:
    """A source whose keys have to be fetched."""

    def __init__(self, keys: KeySet | None) -> None:
        self.keys = keys

    async def _fetch(self, kid: str | None, algorithm: str) -> VerifyingKey | None:
        if self.keys is None:
            raise FetchError("the endpoint answered 500")
        return self.keys.find(kid, algorithm)

    def find(self, kid: str | None, algorithm: str) -> Awaitable[VerifyingKey | None]:
        return self._fetch(kid, algorithm)


async def test_a_verdict_is_awaited_only_where_keys_must_be_fetched() -> None:
    made = Authenticator(secret=SECRET, keys=Slow(KEYS), algorithms=("HS256", "RS256"))
    assert isinstance(made.verify(token(), NOW), Identity)
    verdict = made.verify(jwt.encode(claims(), RSA, algorithm="RS256", headers={"kid": "r"}), NOW)
    assert not isinstance(verdict, Identity)
    assert (await verdict).user == "alice"
    unknown = made.verify(jwt.encode(claims(), RSA, algorithm="RS256", headers={"kid": "x"}), NOW)
    assert not isinstance(unknown, Identity)
    with pytest.raises(TokenForged, match="none fits its kid"):
        await unknown


async def test_keys_that_cannot_be_fetched_are_unavailable_not_a_forgery() -> None:
    made = Authenticator(keys=Slow(None), algorithms=("RS256",))
    verdict = made.verify(jwt.encode(claims(), RSA, algorithm="RS256"), NOW)
    assert not isinstance(verdict, Identity)
    with pytest.raises(KeysUnavailable, match="answered 500") as caught:
        await verdict
    assert caught.value.code == "unavailable"


@given(st.one_of(st.text(max_size=80), st.binary(max_size=80)))
def test_no_input_raises_anything_but_a_refusal(junk: str | bytes) -> None:
    with pytest.raises(AuthError):
        verify(junk)


@given(st.data())
def test_a_token_with_one_letter_changed_is_refused(data: st.DataObject) -> None:
    good = token()
    at = data.draw(st.integers(0, len(good) - 2))  # the last letter has bits that encode nothing
    letter = data.draw(st.characters(codec="ascii").filter(lambda letter: letter != good[at]))
    with pytest.raises(AuthError):
        verify(good[:at] + letter + good[at + 1 :])


@pytest.mark.parametrize("name", [*forgeries(), *malformations()])
def test_nothing_that_pyjwt_refuses_gets_in(name: str) -> None:
    """A differential: our reading of a token is never more lenient than the library's."""
    suspect = (forgeries() | malformations())[name]
    try:
        jwt.decode(suspect, TEXT, algorithms=["HS256"], options={"verify_exp": False})
    except (jwt.PyJWTError, ValueError):
        with pytest.raises(AuthError):
            verify(suspect)


def test_an_api_key_is_found_by_its_whole_text() -> None:
    keys = [Secret("a" * 32), Secret("b" * 32)]
    assert matching_key("b" * 32, keys) == 1
    assert [matching_key(text, keys) for text in ("b" * 31, "b" * 33, "", "\ud800", "é")] == [None] * 5


def test_only_a_secret_can_mint() -> None:
    with pytest.raises(ValueError, match="'RS256'"):
        mint(SECRET, "alice", now=NOW, algorithm="RS256")


def test_a_fraction_of_a_second_is_a_lifetime_too() -> None:
    assert verify(mint(TEXT, "alice", now=NOW, ttl=0.5)).expires_at == NOW + 0.5
