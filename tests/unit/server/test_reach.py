"""How a node is asked whether it is ready, and where: over real sockets, since addresses are not to be trusted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from stillhere.server.reach import ANSWER_BYTES, _may_call, ask_ready, own_address
from stillhere.server.settings import Settings, SettingsError, load_settings

READY = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"status":"ready"}'
SECRET = "a secret of forty bytes, for tests only.."


class Answering:
    """A server that answers every request with the same bytes."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.port = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            if self.answer is None:
                await reader.read()  # says nothing, until the other one goes
            else:
                writer.write(self.answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[Answering]:
    found = Answering(answer)
    server = await asyncio.start_server(found.accept, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found


async def test_a_node_that_says_so_is_ready() -> None:
    async with answering(READY) as server:
        assert await ask_ready(f"http://127.0.0.1:{server.port}")
        assert await ask_ready(f"http://localhost:{server.port}/presence/")
    first, second = server.requests
    assert first.split(b"\r\n")[:2] == [b"GET /readyz HTTP/1.1", f"Host: 127.0.0.1:{server.port}".encode()]
    assert second.startswith(b"GET /presence/readyz ")
    assert b"authorization" not in first.lower() and b"cookie" not in first.lower()


NOT_READY: dict[str, bytes] = {
    "503": READY.replace(b"200 OK", b"503 Service Unavailable"),
    "another server's page": b"HTTP/1.1 200 OK\r\n\r\n<html>ready</html>",
    "a longer answer": READY + b" " * ANSWER_BYTES,
    "no HTTP": b"+PONG\r\n",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\n",
    "ready in the head only": b'HTTP/1.1 200 OK\r\nx: {"status":"ready"}\r\n\r\n',
}


@pytest.mark.parametrize("answer", NOT_READY.values(), ids=NOT_READY)
async def test_anything_else_is_not_ready(answer: bytes) -> None:
    async with answering(answer) as server:
        assert not await ask_ready(f"http://127.0.0.1:{server.port}")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with answering(READY) as target:
        head = f"HTTP/1.1 {status} Elsewhere\r\nLocation: http://127.0.0.1:{target.port}/readyz\r\n\r\n"
        async with answering(head.encode()) as server:
            assert not await ask_ready(f"http://127.0.0.1:{server.port}")
        assert target.requests == []


async def test_silence_is_bounded() -> None:
    async with answering(None) as server:
        begin = time.monotonic()
        assert not await ask_ready(f"http://127.0.0.1:{server.port}", 0.2)
        assert time.monotonic() - begin < 5


async def test_a_port_where_nobody_listens_is_not_ready() -> None:
    async with answering(READY) as server:
        port = server.port
    assert not await ask_ready(f"http://127.0.0.1:{port}")


BAD = {
    "file:///etc/passwd": "must begin with http:// or https://",
    "ftp://10.0.0.1": "must begin with http:// or https://",
    "10.0.0.1:7400": "must begin with http:// or https://",
    "http://": "must begin with http:// or https://",
    "http://10.0.0.1:0": "must begin with http:// or https://",
    "http://10.0.0.1:99999": "must be a URL",
    "http://user:secret@10.0.0.1": "must not hold a user or password",
    "http://10.0.0.1/?x=1": "no query",
    "http://10.0.0.1/#x": "no fragment",
    "http://10.0.0.1/a b": "without blanks",
    "http://10.0.0.1/\\r\\nX: y": "without blanks",
    "http://h\u00f6st": "ASCII",
    "http://0.0.0.0:7400": "no other node can reach that host",
    "http://[::]:7400": "no other node can reach that host",
}


@pytest.mark.parametrize(("address", "says"), BAD.items(), ids=list(BAD))
async def test_an_address_that_is_none_is_refused_in_the_settings_and_not_called(address: str, says: str) -> None:
    assert not await ask_ready(address)
    with pytest.raises(SettingsError) as refused:
        load_settings(None, {}, {"auth.secret": SECRET, "cluster.address": address})
    (problem,) = refused.value.problems
    assert problem.startswith("cluster.address is") and says in problem
    assert "secret" not in problem.partition(";")[0]


@pytest.mark.parametrize(
    ("ip", "may"),
    [
        ("10.0.0.1", True),
        ("127.0.0.1", True),
        ("fd00::1", True),
        ("169.254.169.254", False),
        ("::ffff:169.254.169.254", False),
        ("fe80::1%eth0", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
    ],
)
def test_where_nodes_are_may_be_called_and_where_metadata_services_are_may_not(ip: str, may: bool) -> None:
    assert _may_call(ip) is may


def settings(**flags: Any) -> Settings:
    given = {"auth.secret": SECRET, "store.url": "redis://127.0.0.1:6379"}
    return load_settings(None, {}, {**given, **{key.replace("__", "."): value for key, value in flags.items()}})


WHERE: dict[str, tuple[dict[str, Any], tuple[str, int] | None, str]] = {
    "where it listens": ({"server__host": "10.0.0.11"}, None, "http://10.0.0.11:7400"),
    "what the listener knows better": ({"server__port": 0}, ("127.0.0.1", 40_001), "http://127.0.0.1:40001"),
    "no port": ({"server__port": 0}, None, ""),
    "towards the store": ({"server__host": "0.0.0.0"}, None, "http://127.0.0.1:7400"),
    "IPv6": ({"server__host": "::1"}, None, "http://[::1]:7400"),
    "towards a store by IPv6": (
        {"server__host": "::", "store__url": "redis://[::1]:6379"},
        None,
        "http://[::1]:7400",
    ),
    "as it was set": (
        {"server__host": "0.0.0.0", "cluster__address": "https://n1.example.com/presence/"},
        None,
        "https://n1.example.com/presence",
    ),
    "one node alone": ({"store__url": "memory:", "cluster__address": "http://n1"}, None, ""),
}


@pytest.mark.parametrize(("flags", "listener", "address"), WHERE.values(), ids=WHERE)
async def test_a_node_knows_where_the_others_reach_it(
    flags: dict[str, Any], listener: tuple[str, int] | None, address: str
) -> None:
    assert await own_address(settings(**flags), listener) == address


async def test_a_wildcard_without_a_way_to_the_store_is_the_address_of_this_machines_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "127.0.0.3")
    found = settings(server__host="0.0.0.0", store__url="redis://nowhere.invalid")
    assert await own_address(found) == "http://127.0.0.3:7400"
