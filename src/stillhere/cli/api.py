"""The commands' calls to a server, over the standard library: the ``server`` extra must be enough for all of them.

Redirects are not followed, because a key would go along; every wait and every answer is bounded.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

import click
import msgspec

import stillhere
from stillhere.cli.failure import REFUSED, Failure
from stillhere.server.settings_rules import is_loopback

DEFAULT_URL = "http://127.0.0.1:7400"

TIMEOUT = 10.0
"""Seconds for a connection, and for each read of an answer."""

STREAM_TIMEOUT = 60.0
"""Seconds of silence after which a stream of events is taken for dead; the server says something every 15 s."""

ANSWER_BYTES = 16 * 1024 * 1024
LINE_BYTES = 1024 * 1024

DEV_USER = "command-line"
"""In whose name a development server is asked for a token."""


class Answered(Failure):
    """The server answered, with a refusal."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.http_status = status


class NoAnswer(Failure):
    """No server answers there, or it stopped answering."""


class Unauthorized(Failure):
    """The server wants other credentials than it was given."""


class Api:
    """One server, and what we may show it."""

    def __init__(self, url: str, *, api_key: str | None = None, token: str | None = None) -> None:
        """Take the address apart; nothing is sent yet.

        Args:
            url: ``http://host:port`` or ``https://…``; a path in front of the API is kept.
            api_key: for ``X-API-Key``.
            token: a bearer token.

        Raises:
            Failure: the address is none, or a credential has characters that no header may hold.
        """
        self._parts = _address(url)
        self.url = url.rstrip("/")
        self._headers: dict[str, str] = {
            "Accept": "application/json",
            "User-Agent": f"stillhere/{stillhere.__version__}",
        }
        if api_key:
            self._headers["X-API-Key"] = _header("the API key", api_key)
        if token:
            self._headers["Authorization"] = f"Bearer {_header('the token', token)}"
        self._credentials = bool(api_key or token)
        self._logged_in = False

    @property
    def loopback(self) -> bool:
        """Whether the server is on this machine, as the address says."""
        return is_loopback(self._parts.hostname or "")

    def get(self, path: str) -> Any:
        """GET a path and read the JSON answer."""
        return self._authorized("GET", path, None)

    def get_lines(self, path: str) -> list[bytes]:
        """GET a path and read the lines of its answer."""
        content: bytes = self._authorized("GET", path, None, json=False)
        return content.splitlines()

    def post(self, path: str, body: object) -> Any:
        """POST JSON to a path and read the JSON answer."""
        return self._authorized("POST", path, msgspec.json.encode(body))

    def dev_token(self, user: str) -> str | None:
        """Log in at a development server.

        Returns:
            A token; None where the server is no development server.
        """
        try:
            answer = self._call("POST", "/dev/token", msgspec.json.encode({"user": user}))
        except Answered as refused:
            if refused.http_status in (404, 405):
                return None
            raise
        token = answer.get("token") if isinstance(answer, dict) else None
        return token if isinstance(token, str) else None

    @contextlib.contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[Iterator[str]]:
        """GET a path whose answer is a stream of events; gives its lines, without their ends."""
        self._log_in()
        connection = self._connect(STREAM_TIMEOUT)
        try:
            answer = self._send(connection, "GET", path, None, {"Accept": "text/event-stream", **headers})
            if answer.status != 200:
                if answer.status == 401 and self._forget_log_in():
                    raise NoAnswer(f"the log-in at {self.url} has ended")  # trying again logs in again
                raise self._refusal(answer, answer.read(ANSWER_BYTES))
            yield self._lines(answer)
        finally:
            connection.close()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _authorized(self, method: str, path: str, body: bytes | None, *, json: bool = True) -> Any:
        self._log_in()
        try:
            return self._call(method, path, body, json=json)
        except Unauthorized:
            if not self._forget_log_in():
                raise
        self._log_in()
        return self._call(method, path, body, json=json)

    def _log_in(self) -> None:
        """Without credentials a server on this machine may be a development server, which lets anybody in."""
        if not self._credentials and self.loopback:
            token = self.dev_token(DEV_USER)
            if token is not None:
                self._headers["Authorization"] = f"Bearer {_header('the token', token)}"
                self._credentials = self._logged_in = True

    def _forget_log_in(self) -> bool:
        """The token that a development server gave expired, or it was started anew; whether there was one."""
        was, self._logged_in = self._logged_in, False
        if was:
            self._credentials = False
            self._headers.pop("Authorization", None)
        return was

    def _call(self, method: str, path: str, body: bytes | None, *, json: bool = True) -> Any:
        connection = self._connect(TIMEOUT)
        try:
            answer = self._send(connection, method, path, body, {})
            content = answer.read(ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise self._no_answer(error) from None
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise self._refusal(answer, content)
        if len(content) > ANSWER_BYTES:
            raise Failure(f"the answer to {method} {path} is longer than {ANSWER_BYTES} bytes")
        if answer.length:
            raise NoAnswer(f"{self.url} broke off in the middle of its answer")
        if not json:
            return content
        try:
            return msgspec.json.decode(content) if content else None
        except msgspec.DecodeError:
            raise Failure(f"what answers at {self.url} is no Stillhere server: it sent no JSON") from None

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        every = {**self._headers, **headers}
        if body is not None:
            every["Content-Type"] = "application/json"
        try:
            connection.request(method, self._parts.path.rstrip("/") + path, body, every)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._no_answer(error) from None

    def _lines(self, answer: http.client.HTTPResponse) -> Iterator[str]:
        while True:
            try:
                line = answer.readline(LINE_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise self._no_answer(error) from None
            if not line:
                return
            yield line.decode(errors="replace").rstrip("\r\n")

    def _no_answer(self, error: Exception) -> NoAnswer:
        if isinstance(error, ssl.SSLError):
            return NoAnswer(f"no secure connection to {self.url}: {error.reason or error}")
        why = "it took too long" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or repr(error)
        return NoAnswer(
            f"no server answers at {self.url} ({why}); is it running? `stillhere dev` starts one for a trial, "
            "--url or STILLHERE_URL names another"
        )

    def _refusal(self, answer: http.client.HTTPResponse, content: bytes) -> Failure:
        detail = _detail(content)
        if answer.status == 401:
            given = "refuses these credentials" if self._given else "wants credentials"
            return Unauthorized(
                f"{self.url} {given}{detail}; give --api-key (or STILLHERE_API_KEY) or --token (or STILLHERE_TOKEN)"
            )
        if 300 <= answer.status < 400:
            return Answered(
                answer.status,
                f"{self.url} redirects to {answer.headers.get('Location', '?')}, which is not followed; give that "
                "address as --url if it is meant",
            )
        return Answered(answer.status, f"{self.url} answered {answer.status} {answer.reason}{detail}")

    @property
    def _given(self) -> bool:
        return self._credentials


def segment(text: str) -> str:
    """A user id or room name as one segment of a path."""
    return quote(text, safe="")


def _address(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
        parts = urlsplit("")
    if not good or parts.username is not None or parts.query or parts.fragment:
        raise Failure(
            f"--url is {url.rpartition('@')[2]!r}; it must be like http://127.0.0.1:7400 or https://presence.example.com",
            status=REFUSED,
        )
    return parts


def _header(what: str, value: str) -> str:
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise Failure(f"{what} holds characters that it cannot have: blanks, control characters or others than ASCII")
    return value


def _detail(content: bytes) -> str:
    """What a problem document says, after a colon."""
    try:
        problem = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    said = problem.get("detail") or problem.get("title") if isinstance(problem, dict) else None
    return f": {said[:500]}" if isinstance(said, str) else ""


def server_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--url``, ``--api-key`` and ``--token`` to a command, which gets ``url``, ``api_key`` and ``token``."""
    for option in (
        click.option("--token", envvar="STILLHERE_TOKEN", help="A token with scope read or admin [STILLHERE_TOKEN]."),
        click.option("--api-key", envvar="STILLHERE_API_KEY", help="A key of admin.api_keys [STILLHERE_API_KEY]."),
        click.option(
            "--url", envvar="STILLHERE_URL", default=DEFAULT_URL, help=f"The server [STILLHERE_URL, {DEFAULT_URL}]."
        ),
    ):
        command = option(command)
    return command
