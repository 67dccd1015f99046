"""The Python client where it is not welcome: every refusal has a type and its advice, and none is tried for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from stillhere.client import ClientError, ConnectionStatus, Unauthorized, Unreachable, connect
from stillhere.client.errors import (
    BadAddress,
    BadToken,
    ForbiddenOrigin,
    NoToken,
    NotStillhere,
    Refused,
    TokenFailed,
    WrongProtocol,
)
from stillhere.server.auth import mint
from tests.acceptance.server import ServerProcess

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as running:
        yield running


@asynccontextmanager
async def stranger(answer: bytes, *, heard: list[bytes] | None = None) -> AsyncIterator[str]:
    """A server of another kind: it says this to whoever comes, and hangs up; gives its address."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heard is not None:
            heard.append(head)
        writer.write(answer)
        writer.close()

    listener = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with listener:
        yield f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}/ws"


async def told(url: str, *, token: str = "a.b.c", timeout: float = 3.0, **more: object) -> ClientError:
    """What entering a client raises."""
    with pytest.raises(ClientError) as caught:
        async with connect(url, token=token, proxy=None, open_timeout=timeout, **more):  # type: ignore[arg-type]
            pass
    assert caught.value.advice or type(caught.value) is Refused
    return caught.value


@pytest.mark.parametrize("token", ["a.b.c", "x", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0."])
async def test_a_wrong_token_is_refused_with_the_first_attempt(server: ServerProcess, token: str) -> None:
    began = time.monotonic()
    error = await told(server.url, token=token)
    assert type(error) is Unauthorized and time.monotonic() - began < 1


async def test_a_token_of_another_secret_is_asked_for_once_more_and_not_a_third_time(server: ServerProcess) -> None:
    asked: list[bool] = []

    def get_token(renew: bool) -> str:
        asked.append(renew)
        return mint("another secret, of thirty-two bytes", "alice", now=time.time())

    with pytest.raises(Unauthorized):
        async with connect(server.url, get_token=get_token, proxy=None, on_problem=lambda _: None):
            pass
    assert asked == [False, True]


async def test_nobody_logged_in_is_no_attempt(server: ServerProcess) -> None:
    with pytest.raises(NoToken):
        async with connect(server.url, get_token=lambda renew: None, proxy=None):
            pass


async def test_a_get_token_that_raises_is_told_and_tried_again(server: ServerProcess) -> None:
    left = [RuntimeError("the issuer sleeps"), RuntimeError("it still does")]
    problems: list[ClientError] = []

    async def get_token(renew: bool) -> str:
        if left:
            raise left.pop()
        return server.token("alice")

    async with connect(server.url, get_token=get_token, proxy=None, on_problem=problems.append) as me:
        assert me.status is ConnectionStatus.ONLINE
    assert [type(problem) for problem in problems] == [TokenFailed] * 2
    assert "it still does" in str(problems[0])


async def test_a_page_that_the_server_does_not_serve_is_told_so(server: ServerProcess) -> None:
    error = await told(server.url, token=server.token("alice"), headers={"Origin": "https://elsewhere.example"})
    assert type(error) is ForbiddenOrigin and "elsewhere.example" in str(error)


async def test_a_tab_id_that_the_server_does_not_take_is_told_so(server: ServerProcess) -> None:
    error = await told(server.url, token=server.token("alice"), tab="x" * 200)
    assert type(error) is Refused and "tab" in str(error)


# -- wrong addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/nope", "/healthz", "/v1/users"])
async def test_a_path_that_is_not_the_sockets_is_found_out_with_the_first_attempt(
    server: ServerProcess, path: str
) -> None:
    assert type(await told(server.url + path)) is NotStillhere


async def test_a_port_where_nobody_listens_is_tried_until_the_time_is_over_and_named() -> None:
    async with stranger(b"") as url:
        pass
    began = time.monotonic()
    error = await told(url, timeout=1.0)
    assert type(error) is Unreachable and 1.0 <= time.monotonic() - began < 2.0
    assert "refused" in str(error).lower() or "failed" in str(error).lower()


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50\r\n\r\n",
    ],
)
async def test_what_is_none_of_ours_is_found_out_with_the_first_attempt(answer: bytes) -> None:
    heard: list[bytes] = []
    async with stranger(answer, heard=heard) as url:
        assert type(await told(url)) is NotStillhere
    assert len(heard) == 1


async def test_a_server_without_tls_is_found_out_where_tls_was_asked_for(server: ServerProcess) -> None:
    error = await told(server.ws_url.replace("ws:", "wss:"), timeout=1.0)
    assert isinstance(error, NotStillhere | Unreachable)


async def test_a_redirect_is_not_followed_because_the_token_would_go_along() -> None:
    heard: list[bytes] = []
    async with stranger(b"HTTP/1.1 404 Not Found\r\n\r\n", heard=heard) as elsewhere:
        answer = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n"
        async with stranger(answer.encode()) as url:
            error = await told(url)
    assert type(error) is NotStillhere and elsewhere in str(error)
    assert heard == []


@pytest.mark.parametrize("spoken", ["stillhere.v2", None])
async def test_a_server_that_speaks_another_protocol_is_told_from_one_that_is_away(spoken: str | None) -> None:
    async def nothing(socket: ServerConnection) -> None:
        await socket.wait_closed()

    def choose(socket: ServerConnection, offered: object) -> Subprotocol | None:
        return None if spoken is None else Subprotocol(spoken)

    async with serve(nothing, "127.0.0.1", 0, select_subprotocol=choose) as listener:
        port = next(iter(listener.sockets)).getsockname()[1]
        error = await told(f"ws://127.0.0.1:{port}/ws")
    assert isinstance(error, NotStillhere | WrongProtocol)


async def test_a_server_that_says_nothing_or_nonsense_is_given_up_in_time() -> None:
    async def nonsense(socket: ServerConnection) -> None:
        await socket.send("nonsense")
        await socket.wait_closed()

    problems: list[ClientError] = []
    async with serve(nonsense, "127.0.0.1", 0, subprotocols=[Subprotocol("stillhere.v1")]) as listener:
        port = next(iter(listener.sockets)).getsockname()[1]
        error = await told(f"ws://127.0.0.1:{port}/ws", timeout=0.5, on_problem=problems.append)
    assert type(error) is Unreachable
    assert [problem.code for problem in problems] == ["protocol"]


async def test_a_server_that_is_full_is_left_alone_for_as_long_as_it_asks() -> None:
    heard: list[bytes] = []
    full = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n"
    async with stranger(full, heard=heard) as url, connect(url, token="t", proxy=None, open_timeout=0) as me:
        with pytest.raises(Unreachable, match="503"):
            await me.online(0.5)
        assert me.retry_in is not None and me.retry_in > 50
    assert len(heard) == 1


# -- misuse --------------------------------------------------------------------------------------------------------


async def test_what_cannot_be_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(BadAddress):
        connect("example.com", token="t")
    with pytest.raises(BadToken):
        connect("ws://h", token="two words")
    with pytest.raises(TypeError):
        connect("ws://h")
    with pytest.raises(ValueError, match="lazy"):
        connect("ws://h", token="t", availability="lazy")


async def test_wishes_before_the_connection_wait_for_it(server: ServerProcess) -> None:
    me = connect(server.url, token=server.token("early"), proxy=None)
    me.watch("early")
    async with me:
        await me.fresh()
        assert me.get("early").online
    await me.close()
    await me.close()
