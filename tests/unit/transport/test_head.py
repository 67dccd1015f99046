from __future__ import annotations

from urllib.parse import parse_qsl

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.server.socket import Refusal, UpgradeRequest
from stillhere.transport.head import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    Refused,
    encode_refusal,
    problem,
    read_head,
    read_query,
)

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
GOOD = {
    "host": "localhost",
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": KEY,
}


def head(line: str = "GET /ws HTTP/1.1", *more: str, **replaced: str | None) -> bytes:
    fields = {**GOOD, **{name.replace("_", "-"): value for name, value in replaced.items()}}
    lines = [line, *(f"{name}: {value}" for name, value in fields.items() if value is not None), *more, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def read(raw: bytes) -> UpgradeRequest:
    request, key = read_head(raw, "192.0.2.1", "/ws")
    assert key == KEY
    return request


def refused(raw: bytes) -> Refusal:
    with pytest.raises(Refused) as caught:
        read_head(raw, "", "/ws")
    return caught.value.refusal


def test_a_request_is_read_with_decoded_query_and_lower_case_headers() -> None:
    request = read(head("GET /ws?tab=a%20b&x=1&x=2&probe= HTTP/1.1", "Origin: https://a.example", "X-A: 1", "x-a: 2"))
    assert request.path == "/ws"
    assert request.query == {"tab": "a b", "x": "2", "probe": ""}
    assert request.headers["origin"] == "https://a.example"
    assert request.headers["x-a"] == "1, 2"
    assert request.remote == "192.0.2.1"


@pytest.mark.parametrize("connection", ["Upgrade", "upgrade", "keep-alive, Upgrade", "Upgrade,keep-alive"])
def test_connection_may_name_upgrade_among_others_as_firefox_does(connection: str) -> None:
    assert read(head(connection=connection)).headers["connection"] == connection


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (head("GET /other HTTP/1.1"), 404),
        (head("GET /ws/ HTTP/1.1"), 404),
        (head("POST /ws HTTP/1.1"), 405),
        (head("GET http://host/ws HTTP/1.1"), 400),
        (head("GET  HTTP/1.1"), 400),
        (head("GET /ws?x=%ff HTTP/1.1"), 400),
        (head("GET /ws?" + "&".join(f"a{n}=1" for n in range(40)) + " HTTP/1.1"), 400),
        (head(connection="keep-alive"), 400),
        (head(connection=None), 400),
        (head(upgrade="h2c"), 426),
        (head(sec_websocket_version="8"), 426),
        (head(sec_websocket_version=None), 426),
        (head(host=None), 400),
        (head(content_length="5"), 400),
        (head(transfer_encoding="chunked"), 400),
        (head(sec_websocket_key=None), 400),
        (head(sec_websocket_key="AAAA"), 400),
        (head(sec_websocket_key="not base64 at all!!!!!!!"), 400),
        (head(sec_websocket_key="é" * 24), 400),
        (head("GET /ws HTTP/1.1", "no colon here"), 400),
        (head("GET /ws HTTP/1.1", "name : value"), 400),
        (head("GET /ws HTTP/1.1", *(f"x-{n}: 1" for n in range(MAX_HEADERS))), 431),
        (head("GET /ws HTTP/1.1", "x: " + "y" * MAX_HEAD_BYTES), 431),
    ],
)
def test_what_cannot_become_a_websocket_is_refused_with_a_problem(raw: bytes, status: int) -> None:
    refusal = refused(raw)
    assert refusal.status == status
    document = msgspec.json.decode(refusal.body)
    assert document["status"] == status
    assert document["detail"].endswith(".")


@given(st.text(st.characters(codec="latin-1"), max_size=40) | st.text("a=&%+;1", max_size=80))
def test_a_query_that_needs_no_decoding_is_read_as_any_other(raw: str) -> None:
    try:
        expected = dict(parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=32))
    except ValueError:
        with pytest.raises(Refused):
            read_query(raw)
    else:
        assert read_query(raw) == expected


def test_a_query_may_have_32_fields() -> None:
    assert read_query("&".join(["a=1"] * 32)) == {"a": "1"}
    with pytest.raises(Refused):
        read_query("&".join(["a=1"] * 33))


def test_a_wrong_version_is_told_the_right_one() -> None:
    assert refused(head(sec_websocket_version="8")).headers == {"Sec-WebSocket-Version": "13"}


@given(st.binary(max_size=300))
def test_no_bytes_do_worse_than_a_refusal(junk: bytes) -> None:
    for raw in (junk, b"GET /ws?" + junk + b" HTTP/1.1\r\n\r\n", head()[:-2] + junk + b"\r\n\r\n"):
        try:
            read_head(raw, "", "/ws")
        except Refused as refused:
            assert 400 <= refused.refusal.status < 500  # noqa: PT017 - both outcomes are right


def test_a_refusal_becomes_a_whole_http_answer() -> None:
    answer = encode_refusal(problem(429, "Slow down.", Retry_After="3"), [(b"date", b"today")])
    first, _, rest = answer.partition(b"\r\n")
    headers, _, body = rest.partition(b"\r\n\r\n")
    assert first == b"HTTP/1.1 429 Too Many Requests"
    assert headers.split(b"\r\n") == [
        b"Content-Type: application/problem+json",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
        b"Retry-After: 3",
        b"date: today",
    ]
    assert msgspec.json.decode(body)["title"] == "Too Many Requests"


def test_a_status_without_a_name_is_sent_without_one() -> None:
    assert encode_refusal(Refusal(499, b"{}")).startswith(b"HTTP/1.1 499 \r\n")


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\x00b", "€"])
def test_a_header_cannot_break_out_of_its_line(value: str) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        encode_refusal(Refusal(401, b"{}", {"WWW-Authenticate": value}))
