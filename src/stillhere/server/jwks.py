"""Public keys of token issuers (RFC 7517): what a key is, and a file of them. ``jwks_url`` fetches them.

Nothing in a token decides what is fetched: the URL is configuration, and an unknown ``kid`` causes at most one fetch in
30 seconds. A key is bound to one algorithm when it is read; a token cannot choose another for it.

    KeysError           no keys could be read
    └── FetchError      the URL did not give them
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jwt
import msgspec
from jwt.algorithms import Algorithm

log = logging.getLogger("stillhere.auth")

MAX_BYTES = 1 << 20
# The algorithm that a key's kty and crv bind it to (RFC 7518 section 6, RFC 8037), and the members of its public half.
_ALGORITHMS: Mapping[tuple[str, str | None], str] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
_MEMBERS: Mapping[str, tuple[str, ...]] = {"RS256": ("n", "e"), "ES256": ("x", "y"), "EdDSA": ("x",)}


class KeysError(Exception):
    """No keys could be read."""


class FetchError(KeysError):
    """The URL did not give them."""


class VerifyingKey:
    """A key and the one algorithm that it verifies."""

    __slots__ = ("_algorithm", "_key", "algorithm", "kid")

    def __init__(self, kid: str | None, algorithm: str, implementation: Algorithm, key: object) -> None:
        """Bind a key, already prepared by PyJWT's implementation of the algorithm."""
        self.kid = kid
        self.algorithm = algorithm
        self._algorithm = implementation
        self._key = key

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's over these bytes."""
        return bool(self._algorithm.verify(signed, self._key, signature))


class HmacKey(VerifyingKey):
    """A secret. PyJWT's HMAC begins with it anew for each token; a copy of one that has begun takes a third."""

    __slots__ = ("_begun",)

    def __init__(self, algorithm: str, implementation: Algorithm, secret: bytes) -> None:
        """Bind a secret that PyJWT's implementation of the algorithm has accepted."""
        super().__init__(None, algorithm, implementation, secret)
        self._begun = hmac.new(secret, digestmod=f"sha{algorithm.removeprefix('HS')}")

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """See :class:`VerifyingKey`; the comparison takes the same time wherever the two differ."""
        mac = self._begun.copy()
        mac.update(signed)
        return hmac.compare_digest(mac.digest(), signature)


class KeySet:
    """The usable keys of one JWKS."""

    def __init__(self, keys: list[VerifyingKey]) -> None:
        self._by_name = {(key.kid, key.algorithm): key for key in reversed(keys)}  # of two alike, the first
        self._by_algorithm: dict[str, list[VerifyingKey]] = {}
        for key in self._by_name.values():
            self._by_algorithm.setdefault(key.algorithm, []).append(key)

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, kid: str | None, algorithm: str) -> VerifyingKey | None:
        """The key with this id for this algorithm; a token without ``kid`` may only mean the only one there is."""
        if kid is not None:
            return self._by_name.get((kid, algorithm))
        keys = self._by_algorithm.get(algorithm, [])
        return keys[0] if len(keys) == 1 else None


class KeySource(Protocol):
    """Where keys are found."""

    def find(self, kid: str | None, algorithm: str) -> VerifyingKey | Awaitable[VerifyingKey | None] | None:
        """Find a key; an awaitable means "it has to be fetched". Raises, or its await raises, KeysError."""
        ...


class KeyStatistics(msgspec.Struct, frozen=True):
    """How a source of keys is doing."""

    keys: int
    loads: int
    failures: int
    last_error: str | None


def parse_jwks(body: bytes) -> KeySet:
    """Read a JWKS document.

    Keys of other kinds, for encryption, or malformed are left out: an issuer may serve more than we know.
    Symmetric keys (``oct``) are always left out: whoever can read them could sign.

    Raises:
        KeysError: it is not a JWKS, or none of its keys is usable; the message says why.
    """
    try:
        document = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise KeysError("it is not a JSON object") from None
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise KeysError('it has no list "keys"')
    keys: list[VerifyingKey] = []
    reasons: list[str] = []
    for number, entry in enumerate(entries):
        try:
            keys.append(_read_key(entry))
        except ValueError as error:
            reasons.append(f"key {number}: {error}")
    if not keys:
        raise KeysError("it has no usable key" + (f" ({'; '.join(reasons[:5])})" if reasons else ""))
    return KeySet(keys)


def _read_key(entry: object) -> VerifyingKey:
    """Read one JWK; raises ValueError."""
    if not isinstance(entry, dict):
        raise ValueError("it is not an object")
    kind, curve = entry.get("kty"), entry.get("crv")
    if kind == "oct":
        raise ValueError("a symmetric key has no place in a JWKS")
    shape = (kind, None if kind == "RSA" else curve)
    algorithm = next((name for known, name in _ALGORITHMS.items() if known == shape), None)
    if algorithm is None:
        raise ValueError("it is none of RSA, EC P-256 and OKP Ed25519")
    members = _MEMBERS[algorithm]
    if entry.get("alg", algorithm) != algorithm:
        raise ValueError(f"its alg is not {algorithm}")
    if entry.get("use", "sig") != "sig":
        raise ValueError("its use is not sig")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("its key_ops do not include verify")
    kid = entry.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise ValueError("its kid is not a text")
    public = {"kty": kind, "crv": curve} | {member: entry.get(member) for member in members}
    if not all(isinstance(public[member], str) for member in members):
        raise ValueError(f"it lacks one of {', '.join(members)}")
    implementation = jwt.get_algorithm_by_name(algorithm)
    try:
        key = implementation.prepare_key(implementation.from_jwk(public))
    except Exception:  # PyJWT and cryptography raise many types here, and their texts may quote the key
        raise ValueError("its numbers are not a key") from None
    if kind == "RSA" and key.key_size < 2048:
        raise ValueError("an RSA key needs at least 2048 bits")
    return VerifyingKey(kid, algorithm, implementation, key)


class JwksFile:
    """Keys from a file, read anew when it changes. A change that cannot be read leaves the keys as they were."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file.

        Args:
            path: the file.
            clock: seconds, monotonic; the file's date is looked at no more than once a second.

        Raises:
            KeysError: it cannot be read.
        """
        self._path = path
        self._clock = clock
        self._checked_at = clock()
        self._loads = 0
        self._failures = 0
        self._last_error: str | None = None
        self._stamp = self._stat()
        self._keys = self._read()

    def find(self, kid: str | None, algorithm: str) -> VerifyingKey | None:
        """See :class:`KeySource`."""
        now = self._clock()
        if now - self._checked_at >= 1.0:
            self._checked_at = now
            if self._stat() != self._stamp:
                self.reload()
        return self._keys.find(kid, algorithm)

    def reload(self) -> bool:
        """Read the file now, as on SIGHUP.

        Returns:
            Whether that worked; if not, it is logged and the keys stay as they were.
        """
        stamp = self._stat()
        try:
            self._keys = self._read()
        except KeysError as error:
            self._failures += 1
            self._last_error = str(error)
            log.warning("jwks_unreadable: %s; the keys in use stay", error)
            return False
        finally:
            # Taken before the read: a write in between shows as a change next time. A torn file is read again, too,
            # when its writer has finished.
            self._stamp = stamp
        return True

    def statistics(self) -> KeyStatistics:
        """Named figures for the pages and metrics."""
        return KeyStatistics(len(self._keys), self._loads, self._failures, self._last_error)

    def _read(self) -> KeySet:
        try:
            with self._path.open("rb") as file:
                body = file.read(MAX_BYTES + 1)
            if len(body) > MAX_BYTES:
                raise KeysError("it is larger than 1 MiB")
            keys = parse_jwks(body)
        except OSError as error:
            raise KeysError(f"the JWKS file {self._path} cannot be read: {error.strerror}") from None
        except KeysError as error:
            raise KeysError(f"the JWKS file {self._path} cannot be used: {error}") from None
        self._loads += 1
        self._last_error = None
        return keys

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
