"""``stillhere bench``: a look at a server under a modest crowd. The measurements that count are in ``bench/``."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from stillhere.cli.api import Api, NoAnswer
from stillhere.cli.bench_server import own_server
from stillhere.cli.failure import REFUSED, Failure
from stillhere.cli.options import load, settings_options
from stillhere.cli.output import table
from stillhere.server.auth import mint

MOST = 20_000
SPARE_FILES = 64
AT_ONCE = 10
"""Upgrades under way at a time."""

PATIENCE = 15.0
"""Seconds for any single answer."""

TOKEN_LIFE = 900.0


class Result(msgspec.Struct):
    """What was measured; times in seconds."""

    connections: int
    connecting: float
    """From the first connection to the last welcome."""
    welcome: list[float]
    """Of each connection, from the TCP connection to its welcome."""
    change: list[float]
    """Of each change, from the sender's ``state`` to the watcher's ``presence``."""


@click.command(short_help="Measure a server under a modest crowd.")
@settings_options
@click.option(
    "--url", envvar="STILLHERE_URL", help="A running server; without it one is started on loopback and ended."
)
@click.option("--connections", "-n", type=click.IntRange(1, MOST), default=200, help="How many connections [200].")
@click.option("--changes", type=click.IntRange(1, 100_000), default=500, help="How many changes of state [500].")
def bench(config: Path | None, assignments: dict[str, str], url: str | None, connections: int, changes: int) -> None:
    """Open connections, let their users change state one after the other, and say how long each takes to arrive.

    With --url, tokens come from auth.secret of the settings (--config, the environment), or from the server itself if
    that is `stillhere dev`. Client and server share this machine's processors: take the figures as an order of
    magnitude. The measurements of memory and CPU are `make bench` in a checkout.

    \b
    Examples:
      stillhere bench
      stillhere bench -n 2000
      stillhere bench --url http://127.0.0.1:7400
    """
    _check_files(connections)
    if url is None:
        with own_server(connections, config, assignments) as (at, secret):
            result = _run(measure(at, lambda user: _mint(secret, user), connections, changes))
    else:
        result = _run(measure(url, _tokens(url, config, assignments), connections, changes))
    click.echo("\n".join(report(result)))


def report(result: Result) -> list[str]:
    """The table."""
    rate = f"{result.connections / result.connecting:,.0f} a second"
    rows = [
        ("connections", str(result.connections), rate, ""),
        ("time to welcome", str(len(result.welcome)), _time(result.welcome, 50), _time(result.welcome, 99)),
        ("change to watcher", str(len(result.change)), _time(result.change, 50), _time(result.change, 99)),
    ]
    return table(("", "NUMBER", "MEDIAN OR RATE", "99 %"), rows)


async def measure(url: str, token: Callable[[str], str], connections: int, changes: int) -> Result:
    """Connect, change, and close.

    Args:
        url: the server's HTTP address.
        token: makes a token for a user.
        connections: how many, each a user of its own.
        changes: how many changes of state, one at a time.

    Raises:
        Failure: the server refuses a connection, or does not answer in time.
    """
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus, WebSocketException

    address = f"{url.rstrip('/').replace('http', 'ws', 1)}/ws"
    names = [f"bench:{i}" for i in range(connections)]
    tokens = [token(name) for name in [*names, "bench:watcher"]]
    gate = asyncio.Semaphore(AT_ONCE)
    welcome: list[float] = []

    async with contextlib.AsyncExitStack() as stack:

        async def open_one(bearer: str) -> Any:
            async with gate:
                begin = time.perf_counter()
                headers = {"Authorization": f"Bearer {bearer}"}
                # compression and client pings would measure the client
                one = await connect(
                    address, additional_headers=headers, compression=None, ping_interval=None, proxy=None
                )
                stack.push_async_callback(one.close)
                await asyncio.wait_for(one.recv(), PATIENCE)
                welcome.append(time.perf_counter() - begin)
                return one

        try:
            begin = time.perf_counter()
            crowd = await asyncio.gather(*map(open_one, tokens[:-1]))
            connecting = time.perf_counter() - begin
            measured = list(welcome)
            watcher = await open_one(tokens[-1])
            change = await _changes(watcher, crowd[:1000], names[:1000], changes)
            await asyncio.gather(*(one.send('{"type":"bye"}') for one in [*crowd, watcher]))
        except InvalidStatus as error:
            body = (error.response.body or b"")[:300].decode(errors="replace")
            raise Failure(f"{url} refused a connection with {error.response.status_code}: {body}") from None
        except (OSError, WebSocketException) as error:  # TimeoutError is an OSError
            raise NoAnswer(f"{url} failed: {str(error) or type(error).__name__}") from None
    return Result(len(crowd), connecting, measured, change)


async def _changes(watcher: Any, crowd: Sequence[Any], names: Sequence[str], changes: int) -> list[float]:
    """Each user in turn becomes busy, then active, and so on; the watcher says when it heard of it."""
    await watcher.send(msgspec.json.encode({"type": "watch", "id": 1, "users": list(names)}).decode())
    await _until(watcher, lambda message: message.get("type") == "snapshot")
    took: list[float] = []
    for i in range(changes):
        who = i % len(crowd)
        availability, status = (("busy", "busy"), ("active", "online"))[i // len(crowd) % 2]
        expected = (names[who], status)
        begin = time.perf_counter()
        await crowd[who].send(f'{{"type":"state","availability":"{availability}"}}')
        await _until(watcher, lambda message, expected=expected: _tells(message, expected))  # type: ignore[misc]
        took.append(time.perf_counter() - begin)
    return took


def _tells(message: dict[str, Any], expected: tuple[str, str]) -> bool:
    return any((change["user"], change["status"]) == expected for change in message.get("changes", ()))


async def _until(socket: Any, arrived: Callable[[dict[str, Any]], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not arrived(msgspec.json.decode(await socket.recv())):
            pass


def _run(measuring: Coroutine[Any, Any, Result]) -> Result:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(measuring)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measuring)


def _tokens(url: str, config: Path | None, assignments: dict[str, str]) -> Callable[[str], str]:
    """Where the tokens for a running server come from."""
    secret = load(config, assignments)[0].auth.secret
    if secret is not None:
        return lambda user: _mint(secret.reveal(), user)
    api = Api(url)

    def ask(user: str) -> str:
        given = api.dev_token(user)
        if given is None:
            raise Failure(
                f"{api.url} is no development server, so tokens are needed: give its auth.secret with --config or "
                "STILLHERE_AUTH__SECRET",
                status=REFUSED,
            )
        return given

    return ask


def _mint(secret: str, user: str) -> str:
    return mint(secret, user, now=time.time(), ttl=TOKEN_LIFE, watch=["bench:*"])


def _time(seconds: list[float], percent: int) -> str:
    ordered = sorted(seconds)
    return f"{ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1000:.2f} ms"


def _check_files(connections: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such bound
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise Failure(
                f"{connections} connections need {needed} open files, and {hard} are allowed; take fewer, or raise the "
                "bound with ulimit -n",
                status=REFUSED,
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
