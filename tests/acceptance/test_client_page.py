"""docs/client.md is true: every example runs against a real server, and every name that it explains is there."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from stillhere.client import Api, Client, ConnectionStatus, connect
from tests.acceptance.server import ServerProcess

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as running:
        yield running


async def run(code: str, server: ServerProcess) -> None:
    """Run an example as the body of an asynchronous function."""
    names: dict[str, Any] = {"URL": server.url, "API_KEY": server.api_key, "token_for": server.token}
    compiled = compile(code, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    made = eval(compiled, names)
    if inspect.iscoroutine(made):
        await asyncio.wait_for(made, 20)


async def come_and_go(server: ServerProcess) -> None:
    """The rest of the world: Bob is there, and another Alice comes, says something and goes."""
    async with connect(server.url, token=server.token("bob")):
        for number in count():
            async with connect(server.url, token=server.token("alice")) as alice:
                alice.set_meta({"number": number})
                await asyncio.sleep(0.1)
                await alice.disconnect()


def test_the_page_has_examples() -> None:
    assert len(BLOCKS) > 8


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
async def test_an_example_runs(code: str, server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    others = asyncio.create_task(come_and_go(server))
    try:
        await run(code, server)
    finally:
        others.cancel()
        await asyncio.wait({others})
    assert capsys.readouterr().out or "print" not in code


def test_every_call_of_the_api_and_every_status_is_on_the_page() -> None:
    calls = [name for name, value in vars(Api).items() if inspect.isfunction(value) and name[0] != "_"]
    assert [name for name in calls if name != "close" and f"`{name}(" not in TEXT and f" `{name}(" not in TEXT] == []
    assert [status for status in ConnectionStatus if f"| `{status}` |" not in TEXT] == []


def test_every_argument_of_connect_is_on_the_page() -> None:
    arguments = inspect.signature(connect).parameters
    table = "\n".join(line.split("|")[1] for line in TEXT.splitlines() if line.startswith("| `"))
    assert [name for name in arguments if f"`{name}`" not in table] == []


def test_every_public_method_of_a_client_is_on_the_page() -> None:
    inside = {"refusal_of", "begun"}
    """What the parts of the package need of each other."""
    methods = [name for name, value in vars(Client).items() if inspect.isfunction(value) and name[0] != "_"]
    assert [name for name in methods if name not in inside and f"{name}(" not in TEXT and f"`{name}`" not in TEXT] == []
