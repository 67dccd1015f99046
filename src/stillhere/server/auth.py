"""Who may come in: tokens are verified here, and nowhere else. What can be wrong with one is a tree of errors in
``stillhere.server.tokens``.

The signature is judged by PyJWT's algorithms, that of a secret by the standard library's HMAC. The token around it is
taken apart by us: PyJWT parses the header twice and prepares the key anew for each token, which costs several times as
much as all the rest.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Awaitable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jwt
import msgspec

from stillhere.core.words import SessionId, UserId
from stillhere.server.jwks import HmacKey, JwksFile, KeysError, KeySource, VerifyingKey
from stillhere.server.jwks_url import JwksUrl
from stillhere.server.secrets import Secret
from stillhere.server.settings import AuthSettings
from stillhere.server.settings_rules import looks_asymmetric
from stillhere.server.tokens import (
    AuthError,
    ClaimRefused,
    Header,
    KeysUnavailable,
    Parts,
    TokenExpired,
    TokenForged,
    TokenMalformed,
    TokenTooEarly,
)
from stillhere.server.visibility import Patterns, Visible

__all__ = [
    "AuthError",
    "Authenticator",
    "ClaimRefused",
    "Identity",
    "KeysUnavailable",
    "TokenExpired",
    "TokenForged",
    "TokenMalformed",
    "TokenTooEarly",
    "key_source",
    "matching_key",
    "mint",
]

ID_BYTES = 256
_HMAC = frozenset({"HS256", "HS384", "HS512"})
_KNOWN = _HMAC | {"RS256", "ES256", "EdDSA"}
_NO_SCOPES: frozenset[str] = frozenset()
"""One for all: nearly every token has none, and each connection keeps its identity."""
_TYPES = frozenset({"jwt", "at+jwt"})
_YEAR_5000 = 95_617_584_000


class Identity(msgspec.Struct, frozen=True):
    """Who a token says somebody is, and what it lets him do."""

    user: UserId
    expires_at: float
    """Seconds since the epoch: when its connections end with 4001."""
    session: SessionId | None = None
    """None: the server makes one."""
    info: dict[str, Any] | None = None
    """Public: shown to watchers."""
    watch: Visible = Patterns()
    """Whom he may watch; himself always."""
    rooms: Visible = Patterns()
    """Which rooms he may join and follow."""
    scopes: frozenset[str] = frozenset()


class _Claims(msgspec.Struct):
    sub: str | None = None
    exp: float | None = None
    nbf: float | None = None
    sid: str | None = None
    info: dict[str, Any] | None = None
    watch: str | list[str] | None = None
    rooms: str | list[str] | None = None
    scope: str | list[str] | None = None
    aud: str | list[str] | None = None
    iss: str | None = None


_claims_decoder = msgspec.json.Decoder(_Claims)


class Authenticator:
    """Verifies tokens. Each key serves one algorithm, or as the HMAC secret the accepted HS algorithms."""

    def __init__(
        self,
        *,
        secret: Secret | None = None,
        keys: KeySource | None = None,
        algorithms: Iterable[str] = ("HS256",),
        audience: str | None = None,
        issuer: str | None = None,
        leeway: float = 0.0,
        info_bytes: int = 1024,
    ) -> None:
        """Prepare the keys.

        Args:
            secret: for HS256, HS384 and HS512.
            keys: for RS256, ES256 and EdDSA.
            algorithms: those that are accepted.
            audience: must be in ``aud``; None means that ``aud`` does not matter.
            issuer: must be ``iss``; None means that ``iss`` does not matter.
            leeway: seconds by which the clock of the issuer may differ from ours, 0 to 30.
            info_bytes: longest ``info``, as compact JSON.

        Raises:
            ValueError: an algorithm that is not known or has no key, an asymmetric key as secret, or a leeway out of
                range.
        """
        self._algorithms = tuple(algorithms)
        for name in self._algorithms:
            if name not in _KNOWN:
                raise ValueError(f"the algorithm {name!r} is not supported; take some of {', '.join(sorted(_KNOWN))}")
            if name in _HMAC and secret is None:
                raise ValueError(f"{name} needs a secret")
            if name not in _HMAC and keys is None:
                raise ValueError(f"{name} needs a JWKS")
        if not 0 <= leeway <= 30:
            raise ValueError(f"the leeway is {leeway} s; it must lie between 0 and 30")
        if secret is not None and looks_asymmetric(secret):
            raise ValueError("the secret holds an asymmetric key; a public key is no secret")
        self._hmac: dict[str, VerifyingKey] = {}
        for name in _HMAC.intersection(self._algorithms):
            assert secret is not None
            implementation = jwt.get_algorithm_by_name(name)
            try:
                prepared = implementation.prepare_key(secret.reveal().encode())
            except jwt.InvalidKeyError as error:
                raise ValueError(f"the secret cannot be used: {error}") from None
            self._hmac[name] = HmacKey(name, implementation, prepared)
        self._keys = keys
        self._audience = audience
        self._issuer = issuer
        self._leeway = leeway
        self._info_bytes = info_bytes

    @classmethod
    def of(cls, settings: AuthSettings, *, info_bytes: int = 1024, keys: KeySource | None = None) -> Authenticator:
        """Make one from the settings, which have been checked.

        Args:
            settings: the section ``auth``.
            info_bytes: the setting ``limits.info_bytes``.
            keys: in place of what :func:`key_source` makes; for whoever wants to hold on to it.

        Raises:
            KeysError: the JWKS file cannot be read.
            ValueError: settings that contradict each other.
        """
        return cls(
            secret=settings.secret,
            keys=keys if keys is not None else key_source(settings),
            algorithms=settings.accepted_algorithms,
            audience=settings.audience,
            issuer=settings.issuer,
            leeway=settings.leeway,
            info_bytes=info_bytes,
        )

    def verify(self, token: str | bytes, now: float) -> Identity | Awaitable[Identity]:
        """Verify a token.

        Args:
            token: as it came, in JWS compact form.
            now: seconds since the epoch.

        Returns:
            The identity; or, where the issuer's keys have to be fetched first, an awaitable of it.

        Raises:
            AuthError: it is refused, and why. The awaitable raises the same.
        """
        parts = Parts.of(token)
        algorithm = self._accepted(parts.header)
        kid = parts.header.kid
        if algorithm in self._hmac:
            return self._judge(parts, self._hmac[algorithm], now)
        assert self._keys is not None
        try:
            found = self._keys.find(kid, algorithm)
        except KeysError as error:
            raise _unavailable(error) from None
        if found is None or isinstance(found, VerifyingKey):
            return self._judge(parts, found, now)
        return self._later(parts, found, now)

    async def _later(self, parts: Parts, found: Awaitable[VerifyingKey | None], now: float) -> Identity:
        try:
            key = await found
        except KeysError as error:
            raise _unavailable(error) from None
        return self._judge(parts, key, now)

    def _accepted(self, header: Header) -> str:
        if header.crit is not msgspec.UNSET or not header.b64:
            raise TokenForged("the token asks for an extension (crit, b64) that this server does not know")
        if header.typ is not None and header.typ.lower().removeprefix("application/") not in _TYPES:
            raise TokenForged("the token's typ is not JWT or at+jwt: it was made for something else")
        if header.alg not in self._algorithms:
            named = header.alg if len(header.alg) <= 10 and header.alg.isascii() and header.alg.isalnum() else None
            accepted = ", ".join(self._algorithms) or "none at all"
            raise TokenForged(f"the token's alg {named or 'is unknown and'} is not accepted; accepted: {accepted}")
        return header.alg

    def _judge(self, parts: Parts, key: VerifyingKey | None, now: float) -> Identity:
        if key is None:
            which = "its kid" if parts.header.kid is not None else "it, which names no kid"
            raise TokenForged(f"no {parts.header.alg} key of the issuer is known for the token: none fits {which}")
        if not key.verifies(parts.signed, parts.signature):
            raise TokenForged("the token's signature does not verify")
        claims = _claims(parts.payload)
        expires_at = self._timely(claims, now)
        self._addressed(claims)
        return self._identity(claims, expires_at)

    def _timely(self, claims: _Claims, now: float) -> float:
        expiry = claims.exp
        if expiry is None:
            raise ClaimRefused("the token has no exp; every token must expire")
        if not 0 <= expiry < _YEAR_5000:
            raise ClaimRefused(f"the token's exp is {expiry:.0f}; it must be seconds since the epoch, not milliseconds")
        if now >= expiry + self._leeway:
            raise TokenExpired(f"the token expired {now - expiry:.0f} s ago")
        if claims.nbf is not None and now < claims.nbf - self._leeway:
            raise TokenTooEarly(
                f"the token is valid in {math.ceil(claims.nbf - now)} s only (nbf); are the clocks right?"
            )
        # Only a token that lives by the leeway gets it: of any other, its own exp is the end.
        return expiry if now < expiry else expiry + self._leeway

    def _addressed(self, claims: _Claims) -> None:
        if self._audience is not None:
            audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud or []
            if self._audience not in audiences:
                raise ClaimRefused(f"the token is not for this server: its aud does not hold {self._audience!r}")
        if self._issuer is not None and claims.iss != self._issuer:
            raise ClaimRefused(f"the token is not of our issuer: its iss is not {self._issuer!r}")

    def _identity(self, claims: _Claims, expires_at: float) -> Identity:
        if claims.sub is None:
            raise ClaimRefused("the token has no sub; it must name the user")
        _check_id("sub", claims.sub)
        if claims.sid is not None:
            _check_id("sid", claims.sid)
        if claims.info is not None:
            size = len(msgspec.json.encode(claims.info))
            if size > self._info_bytes:
                raise ClaimRefused(f"the token's info has {size} bytes of JSON; it may have {self._info_bytes}")
        scope = claims.scope or ()
        return Identity(
            user=UserId(claims.sub),
            expires_at=expires_at,
            session=None if claims.sid is None else SessionId(claims.sid),
            info=claims.info,
            watch=_patterns("watch", claims.watch, claims.sub),
            rooms=_patterns("rooms", claims.rooms, None),
            scopes=frozenset(scope.split() if isinstance(scope, str) else scope) or _NO_SCOPES,
        )


def _claims(payload: bytes) -> _Claims:
    try:
        return _claims_decoder.decode(payload)
    except msgspec.ValidationError as error:
        raise ClaimRefused(f"a claim of the token has the wrong type: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise TokenMalformed("the token's claims are not a JSON object") from None


def _check_id(claim: str, text: str) -> None:
    size = len(text.encode(errors="surrogatepass"))
    if not 1 <= size <= ID_BYTES:
        raise ClaimRefused(f"the token's {claim} has {size} bytes; it must have 1 to {ID_BYTES}")
    # isprintable() is the fast way for nearly all; it is also false for some letters that are no control characters.
    if not text.isprintable() and any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        raise ClaimRefused(f"the token's {claim} holds a control character")


def _patterns(claim: str, value: str | list[str] | None, own: str | None) -> Patterns:
    try:
        return Patterns.of(value, own=own)
    except ValueError as error:
        raise ClaimRefused(f"the token's {claim} {error}") from None


def _unavailable(error: KeysError) -> KeysUnavailable:
    return KeysUnavailable(f"the token cannot be verified now: {error}")


def key_source(settings: AuthSettings) -> JwksFile | JwksUrl | None:
    """The JWKS that the settings name, if any.

    Raises:
        KeysError: the file cannot be read.
        ValueError: the URL is not one that may be fetched.
    """
    if settings.jwks_file is not None:
        return JwksFile(Path(settings.jwks_file))
    if settings.jwks_url is not None:
        return JwksUrl(settings.jwks_url)
    return None


def matching_key(presented: str, keys: Iterable[Secret]) -> int | None:
    """Which API key this is: its position, or None. Takes the same time whichever it is."""
    found = None
    for position, key in enumerate(keys):
        if key.matches(presented) and found is None:
            found = position
    return found


def mint(
    secret: Secret | str,
    sub: str,
    *,
    now: float,
    ttl: float = 3600,
    algorithm: str = "HS256",
    sid: str | None = None,
    info: Mapping[str, Any] | None = None,
    watch: str | Iterable[str] | None = None,
    rooms: str | Iterable[str] | None = None,
    scope: str | None = None,
    audience: str | None = None,
    issuer: str | None = None,
) -> str:
    """Make a token: for ``stillhere token``, the development server and tests.

    Args:
        secret: the HMAC secret.
        sub: the user.
        now: seconds since the epoch.
        ttl: seconds until it expires.
        algorithm: HS256, HS384 or HS512.
        sid: the session.
        info: public, shown to watchers.
        watch: whom the user may watch: ``"*"``, or ids and ``prefix:*`` patterns.
        rooms: which rooms he may join; the same.
        scope: names of scopes, separated by blanks.
        audience: ``aud``.
        issuer: ``iss``.

    Raises:
        ValueError: an algorithm that is not for secrets.
    """
    if algorithm not in _HMAC:
        raise ValueError(f"the algorithm is {algorithm!r}; a token made from a secret needs HS256, HS384 or HS512")
    claims: dict[str, Any] = {"sub": sub, "iat": int(now), "exp": now + ttl if ttl % 1 else int(now + ttl)}
    optional = {
        "sid": sid,
        "info": None if info is None else dict(info),
        "watch": watch if watch is None or isinstance(watch, str) else list(watch),
        "rooms": rooms if rooms is None or isinstance(rooms, str) else list(rooms),
        "scope": scope,
        "aud": audience,
        "iss": issuer,
    }
    claims.update({name: value for name, value in optional.items() if value is not None})
    key = secret.reveal() if isinstance(secret, Secret) else secret
    return jwt.encode(claims, key, algorithm=algorithm)
