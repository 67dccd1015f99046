"""The head of an upgrade request: read it, judge it, answer it when it must be refused; pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

from stillhere.server import problems
from stillhere.server.socket import Refusal, UpgradeRequest

MAX_HEAD_BYTES = 8192
"""Request line and headers together. Browsers send about 600 bytes and what cookies and token add."""

MAX_HEADERS = 64

_MAX_QUERY_FIELDS = 32
_VERSION = "13"


class Refused(Exception):
    """The request cannot become a WebSocket; ``refusal`` is the answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.status)
        self.refusal = refusal


def problem(status: int, detail: str, **headers: str) -> Refusal:
    """Make a refusal with a problem document (RFC 9457).

    Args:
        status: of the HTTP answer.
        detail: one sentence that says what was wrong and what would be right.
        headers: further ones, ``_`` for ``-``.
    """
    return Refusal(status, problems.problem(status, detail), {n.replace("_", "-"): v for n, v in headers.items()})


def read_query(raw: str) -> dict[str, str]:
    """Decode a query string; of a repeated field, the last.

    Raises:
        Refused: 400, more than 32 fields or bytes that are not UTF-8.
    """
    if not raw:
        return {}
    if "%" not in raw and "+" not in raw and raw.count("&") < _MAX_QUERY_FIELDS:  # nothing to decode
        return {name: value for name, _, value in (field.partition("=") for field in raw.split("&") if field)}
    try:
        fields = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS)
    except UnicodeDecodeError:
        raise Refused(problem(400, "The query is not UTF-8.")) from None
    except ValueError:
        raise Refused(problem(400, f"The query has more than {_MAX_QUERY_FIELDS} fields.")) from None
    return dict(fields)


def fold_headers(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Lower the names, join the values of repeated ones."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def read_head(head: bytes, remote: str, path: str) -> tuple[UpgradeRequest, str]:
    """Read a request and make sure that it is an upgrade that may be answered with 101.

    Args:
        head: request line and headers, up to and including the empty line.
        remote: the peer's address.
        path: the only one that is served here.

    Returns:
        The request and its ``Sec-WebSocket-Key``.

    Raises:
        Refused: 400, 404, 405, 426 or 431, with a body that says what would be right.
    """
    lines = head.decode("latin-1").split("\r\n")
    if len(head) > MAX_HEAD_BYTES:
        raise Refused(problem(431, f"The request head is longer than {MAX_HEAD_BYTES} bytes."))
    if len(lines) - 3 > MAX_HEADERS:
        raise Refused(problem(431, f"The request has more than {MAX_HEADERS} headers."))
    request_line = lines[0].split(" ")
    if len(request_line) != 3 or not request_line[1].startswith("/"):
        raise Refused(problem(400, "The request line is not 'GET /path HTTP/1.1'."))
    method, target, _ = request_line
    raw_path, _, raw_query = target.partition("?")
    decoded_path = unquote(raw_path)
    if decoded_path != path:
        raise Refused(problem(404, f"WebSockets are served at {path} only."))
    if method != "GET":
        raise Refused(problem(405, f"A WebSocket is opened with GET, not {method}.", Allow="GET"))
    headers = fold_headers(_split(line) for line in lines[1:] if line)
    return UpgradeRequest(decoded_path, read_query(raw_query), headers, remote), _accept(headers)


def _split(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or name != name.strip():
        raise Refused(problem(400, "A header line is not 'name: value'."))
    return name, value.strip(" \t")


def _accept(headers: dict[str, str]) -> str:
    """Check the handshake (RFC 6455 section 4.2.1) and give its key."""
    # A list in Connection is the normal case: Firefox sends "keep-alive, Upgrade".
    connection = headers.get("connection", "")
    if connection != "Upgrade" and "upgrade" not in (token.strip().lower() for token in connection.split(",")):
        raise Refused(problem(400, "The Connection header does not name Upgrade."))
    if headers.get("upgrade", "").lower() != "websocket":
        raise Refused(problem(426, "Upgrade to 'websocket'.", Upgrade="websocket", Connection="Upgrade, close"))
    if headers.get("sec-websocket-version") != _VERSION:
        raise Refused(problem(426, f"Sec-WebSocket-Version must be {_VERSION}.", Sec_WebSocket_Version=_VERSION))
    if "host" not in headers:
        raise Refused(problem(400, "The Host header is missing."))
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise Refused(problem(400, "An upgrade request has no body."))
    key = headers.get("sec-websocket-key", "")
    try:
        sound = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        sound = False
    if not sound:
        raise Refused(problem(400, "Sec-WebSocket-Key is not 16 bytes in base64."))
    return key


def encode_refusal(refusal: Refusal, default_headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The bytes of the HTTP answer; the connection is closed after it.

    Args:
        refusal: what to answer.
        default_headers: those that the HTTP server adds to every answer (Date).

    Raises:
        ValueError: a header that would break out of its line.
    """
    try:
        phrase = HTTPStatus(refusal.status).phrase
    except ValueError:
        phrase = ""
    headers = {
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(refusal.body)),
        "Connection": "close",
        **refusal.headers,
    }
    lines = [f"HTTP/1.1 {refusal.status} {phrase}"]
    for name, value in headers.items():
        if any(ord(character) < 32 or ord(character) > 255 for character in name + value):
            raise ValueError(f"header {name!r} with the value {value!r}: control characters cannot be sent")
        lines.append(f"{name}: {value}")
    extra = b"".join(name + b": " + value + b"\r\n" for name, value in default_headers)
    return "\r\n".join(lines).encode("latin-1") + b"\r\n" + extra + b"\r\n" + refusal.body
