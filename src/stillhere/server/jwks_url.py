"""Public keys from one fixed URL: a cache that outlives the endpoint's outages, and a fetch that follows nobody."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Generator
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.parse import urlsplit

from stillhere.server.jwks import MAX_BYTES, FetchError, KeysError, KeySet, KeyStatistics, VerifyingKey, parse_jwks
from stillhere.server.settings_rules import is_loopback, url_problem

log = logging.getLogger("stillhere.auth")

FETCH_TIMEOUT = 4.0
"""Seconds for a whole fetch: below the handshake's five, so that a client gets an answer and not a closed socket."""
COOL_DOWN = 30.0
"""Seconds between two fetches that an unknown ``kid`` or a failing endpoint may cause."""
FIRST_RETRY = 2.0
"""The same while there are no keys at all: nobody can come in, so that waiting costs more than asking."""
MIN_AGE, DEFAULT_AGE, MAX_AGE = 60.0, 300.0, 86_400.0


class JwksUrl:
    """Keys from a URL, kept as long as the endpoint says (60 s to 24 h).

    While they are fresh, a key is found at once. Stale ones are fetched anew before they are used again, and stay in
    use where that fails: an issuer's outage keeps nobody out. All who wait share one fetch.
    """

    def __init__(
        self, url: str, clock: Callable[[], float] = time.monotonic, *, timeout: float = FETCH_TIMEOUT
    ) -> None:
        """Remember the URL; the first look-up fetches.

        Args:
            url: ``https``, or ``http`` to this machine.
            clock: seconds, monotonic.
            timeout: seconds for a whole fetch.

        Raises:
            ValueError: another kind of URL.
        """
        problem = url_problem(url, loopback_http=True)
        if problem is not None:
            raise ValueError(f"the JWKS URL cannot be used: {problem}")
        self._url = url
        self._clock = clock
        self._timeout = timeout
        self._keys: KeySet | None = None
        self._fresh_until = 0.0
        self._tried_at: float | None = None
        self._fetch: asyncio.Task[None] | None = None
        self._busy = False
        self._loads = 0
        self._failures = 0
        self._last_error: str | None = None

    def find(self, kid: str | None, algorithm: str) -> VerifyingKey | Awaitable[VerifyingKey | None] | None:
        """See :class:`KeySource`."""
        now = self._clock()
        key = self._keys.find(kid, algorithm) if self._keys is not None else None
        if key is not None and now < self._fresh_until:
            return key
        if self._may_fetch(now):
            return _Pending(self, kid, algorithm)
        if self._keys is None:
            raise FetchError(f"the keys could not be fetched: {self._last_error}")
        return key

    def reload(self) -> None:
        """Fetch at the next look-up, as on SIGHUP."""
        self._fresh_until = 0.0
        self._tried_at = None

    def statistics(self) -> KeyStatistics:
        """Named figures for the pages and metrics."""
        keys = len(self._keys) if self._keys is not None else 0
        return KeyStatistics(keys, self._loads, self._failures, self._last_error)

    def _may_fetch(self, now: float) -> bool:
        if self._fetch is not None or self._tried_at is None:
            return True  # join the one under way, or be the first
        return now - self._tried_at >= (FIRST_RETRY if self._keys is None else COOL_DOWN)

    async def fetched(self, kid: str | None, algorithm: str) -> VerifyingKey | None:
        """Find a key after a fetch, if one may be made; raises FetchError where there are no keys at all."""
        # Asked again: many may have been told to wait before the first of them got to run.
        if self._fetch is None and self._may_fetch(self._clock()):
            self._tried_at = self._clock()
            self._fetch = asyncio.create_task(self._refresh(), name="jwks-fetch")
        if self._fetch is not None:
            # Shielded: a client that goes away cancels its own waiting, not the fetch that others wait for.
            await asyncio.shield(self._fetch)
        if self._keys is None:
            raise FetchError(f"the keys could not be fetched: {self._last_error}")
        return self._keys.find(kid, algorithm)

    async def _refresh(self) -> None:
        """Fetch once; what goes wrong is kept, not raised: whether it matters depends on the keys at hand."""
        try:
            keys, age = await asyncio.wait_for(self._in_thread(), self._timeout)
        except (KeysError, TimeoutError) as error:
            self._failures += 1
            self._last_error = str(error) or f"no answer within {self._timeout:g} s"
            log.warning("jwks_unreachable: %s", self._last_error)
        else:
            self._keys = keys
            self._fresh_until = self._clock() + age
            self._loads += 1
            self._last_error = None
        finally:
            self._fetch = None

    async def _in_thread(self) -> tuple[KeySet, float]:
        """Run the blocking fetch in a thread of its own.

        Not in the loop's executor: an endpoint that sends a byte now and then holds its thread longer than the
        time-out, and an executor is joined at exit. No second fetch starts before the thread of the first has ended.
        """
        if self._busy:
            raise FetchError("the last fetch has not ended yet")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[KeySet, float]] = loop.create_future()

        def tell(result: tuple[KeySet, float] | None, error: Exception | None) -> None:
            if answer.done():  # timed out meanwhile
                return
            if error is not None:
                answer.set_exception(error)
            elif result is not None:
                answer.set_result(result)

        def run() -> None:
            result, error = None, None
            try:
                result = fetch(self._url, self._timeout)
            except KeysError as failure:
                error = failure
            except Exception as failure:  # a thread must not end silently, or its waiters would run into the time-out
                error = FetchError(f"{type(failure).__name__}: {failure}")
            self._busy = False
            try:
                loop.call_soon_threadsafe(tell, result, error)
            except RuntimeError:
                pass  # the loop has been closed: nobody waits any more

        self._busy = True
        threading.Thread(target=run, name="jwks-fetch", daemon=True).start()
        return await answer


class _Pending:
    """A look-up that waits. Not a coroutine: dropped before it began, as by a client that left, it is just dropped."""

    __slots__ = ("_algorithm", "_keys", "_kid")

    def __init__(self, keys: JwksUrl, kid: str | None, algorithm: str) -> None:
        self._keys = keys
        self._kid = kid
        self._algorithm = algorithm

    def __await__(self) -> Generator[Any, None, VerifyingKey | None]:
        return self._keys.fetched(self._kid, self._algorithm).__await__()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would let the endpoint choose what this server calls."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def fetch(url: str, timeout: float) -> tuple[KeySet, float]:
    """Fetch and parse a JWKS; blocks.

    Returns:
        The keys, and for how many seconds they are fresh.

    Raises:
        KeysError: what went wrong.
    """
    deadline = time.monotonic() + timeout
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))  # this machine is not behind its own proxy
    opener = urllib.request.build_opener(*handlers)
    request = urllib.request.Request(url, headers={"Accept": "application/jwk-set+json, application/json"})
    try:
        with opener.open(request, timeout=timeout) as response:
            if response.status != 200:
                raise FetchError(f"the endpoint answered {response.status}")
            body = _read(response, deadline)
            age = freshness(response.headers.get("Cache-Control"))
    except urllib.error.HTTPError as error:
        error.close()
        redirect = " (redirects are not followed)" if 300 <= error.code < 400 else ""
        raise FetchError(f"the endpoint answered {error.code}{redirect}") from None
    except urllib.error.URLError as error:
        raise FetchError(f"the endpoint cannot be reached: {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise FetchError(f"the endpoint cannot be read: {str(error) or type(error).__name__}") from None
    try:
        return parse_jwks(body), age
    except KeysError as error:
        raise FetchError(f"the endpoint's answer cannot be used: {error}") from None


def _read(response: Any, deadline: float) -> bytes:
    """Read a body of at most 1 MiB before the deadline: the socket's own time-out is per byte, not for all."""
    body = bytearray()
    while chunk := response.read1(65_536):
        body += chunk
        if len(body) > MAX_BYTES:
            raise FetchError("the endpoint's answer is larger than 1 MiB")
        if time.monotonic() > deadline:
            raise FetchError("the endpoint's answer takes too long")
    return bytes(body)


def freshness(header: str | None) -> float:
    """Seconds that ``Cache-Control`` allows, within 60 s and 24 h; five minutes where it says nothing."""
    for directive in (header or "").lower().split(","):
        name, _, value = directive.strip().partition("=")
        if name in ("no-store", "no-cache"):
            return MIN_AGE
        value = value.strip().strip('"')
        if name.strip() == "max-age" and value.isascii() and value.isdigit():
            return min(MAX_AGE, max(MIN_AGE, float(value[:10])))
    return DEFAULT_AGE
