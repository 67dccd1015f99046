"""One attempt, against a real server on loopback that fails in every way that servers have."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stillhere.server.webhooks.destination import parse_destination
from stillhere.server.webhooks.sender import Answer, NotDelivered, Sender
from tests.unit.webhooks.endpoint import Endpoint, Request, answer

TIMEOUT = 5.0


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


def sender(url: str, *, timeout: float = TIMEOUT, loopback: bool = True) -> Sender:
    return Sender(parse_destination(url), loopback=loopback, timeout=timeout)


async def refusal(sender: Sender) -> str:
    with pytest.raises(NotDelivered) as refused:
        await sender.post({}, b"{}")
    return str(refused.value)


async def test_a_message_arrives_whole(endpoint: Endpoint) -> None:
    body = b'{"x":"' + b"y" * 100_000 + b'"}'
    told = await sender(endpoint.url("/a/b?c=d")).post({"webhook-id": "msg_1"}, body)
    assert told == Answer(204) and told.taken
    (request,) = endpoint.requests
    assert (request.path, request.body, request.id) == ("/a/b?c=d", body, "msg_1")
    assert request.headers["host"] == f"127.0.0.1:{endpoint.port}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("stillhere/")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_counts(endpoint: Endpoint, status: int) -> None:
    endpoint.behaviour = lambda _: answer(status, body=b"thanks")
    assert (await sender(endpoint.url()).post({}, b"{}")).taken


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 410, 500, 503])
async def test_nothing_else_counts_and_no_redirect_is_followed(endpoint: Endpoint, status: int) -> None:
    endpoint.behaviour = lambda _: answer(status, f"Location: {endpoint.url('/elsewhere')}")
    told = await sender(endpoint.url()).post({}, b"{}")
    assert (told.status, told.taken) == (status, False)
    assert [request.path for request in endpoint.requests] == ["/hook"]


async def test_an_endpoint_may_ask_to_be_left_alone(endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: answer(429, "Retry-After: 120")
    assert await sender(endpoint.url()).post({}, b"{}") == Answer(429, 120.0)
    endpoint.behaviour = lambda _: answer(503, "retry-after: Wed, 21 Oct 2026 07:28:00 GMT")
    assert await sender(endpoint.url()).post({}, b"{}") == Answer(503)


async def test_interim_answers_are_skipped(endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(200)
    assert (await sender(endpoint.url()).post({}, b"{}")).status == 200
    endpoint.behaviour = lambda _: b"HTTP/1.1 100 Continue\r\n\r\n" * 100
    assert await refusal(sender(endpoint.url())) == "it answers nothing but 1xx"


@pytest.mark.parametrize(
    ("garbage", "says"),
    [
        (b"\x16\x03\x01 this is no HTTP\r\n\r\n", "its answer is not HTTP"),
        (b"HTTP/2 200\r\n\r\n", "its answer is not HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "its answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nHalf a head: ", "its answer is not HTTP, or broke off"),
        (b"", "it closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", "the head of its answer is longer than 16384 bytes"),
    ],
)
async def test_garbage_is_no_answer(endpoint: Endpoint, garbage: bytes, says: str) -> None:
    endpoint.behaviour = lambda _: garbage
    assert (await refusal(sender(endpoint.url()))).startswith(says)


async def test_an_endpoint_that_hangs_is_given_up_in_time(endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: None
    assert await refusal(sender(endpoint.url(), timeout=0.1)) == "no answer within 0.1 s"


async def test_an_answer_counts_although_its_body_never_ends(endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n" + b"x" * 200_000
    assert (await sender(endpoint.url()).post({}, b"{}")).taken
    endpoint.behaviour = lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n"
    assert (await sender(endpoint.url()).post({}, b"{}")).taken


async def test_nobody_listens() -> None:
    with Endpoint() as endpoint:
        gone = endpoint.url()
    assert (await refusal(sender(gone))).startswith("no connection: ")


async def test_without_the_setting_this_machine_is_not_connected_to(endpoint: Endpoint) -> None:
    for url in (endpoint.url(), endpoint.url(host="localhost"), f"https://127.0.0.1:{endpoint.port}/"):
        assert "is needed" in await refusal(sender(url, loopback=False))
    assert endpoint.connections == 0


async def test_the_connection_is_made_to_the_address_that_was_judged(endpoint: Endpoint) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    to = parse_destination(f"http://app.example:{endpoint.port}/hook")
    once = Sender(to, loopback=True, timeout=TIMEOUT, look_up=rebinding)
    assert (await once.post({}, b"{}")).taken
    assert endpoint.requests[0].headers["host"] == f"app.example:{endpoint.port}"
    assert asked == ["app.example"]
    assert "resolves to 169.254.169.254" in await refusal(once)
    assert endpoint.connections == 1


async def test_the_next_address_is_tried_where_the_first_does_not_answer(endpoint: Endpoint) -> None:
    to = parse_destination(f"http://app.example:{endpoint.port}/hook")
    found = ["127.0.0.2", "127.0.0.1"]  # the endpoint listens on the second alone
    told = await Sender(to, loopback=True, timeout=TIMEOUT, look_up=lambda *_: found).post({}, b"{}")
    assert told.taken


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.parametrize(
    ("name", "trusted", "says"),
    [
        ("app.example", True, None),
        ("app.example", False, "no secure connection: self-signed certificate"),
        ("other.example", True, "no secure connection: Hostname mismatch"),
    ],
)
async def test_the_certificate_must_be_of_the_name_in_the_url(
    tmp_path: Path, name: str, trusted: bool, says: str | None
) -> None:
    cert, key = certificate(tmp_path, "app.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    heard: list[Request] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        heard.append(Request("", {}, b""))
        writer.write(answer(204))
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    ours = ssl.create_default_context(cafile=str(cert) if trusted else None)
    to = parse_destination(f"https://{name}:{port}/")
    attempt = Sender(to, loopback=True, timeout=TIMEOUT, context=ours, look_up=lambda *_: ["127.0.0.1"])
    if says is None:
        assert (await attempt.post({}, b"{}")).taken
    else:
        assert (await refusal(attempt)).startswith(says)
    assert len(heard) == (says is None)
    server.close()
