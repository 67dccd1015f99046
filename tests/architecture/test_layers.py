"""Imports point down, the core is pure, and the lower rooms need nothing but msgspec."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.architecture.layers import LAYERS, PACKAGE, SIBLINGS, UNIMPORTED, modules, offences

MODULES = modules()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_room_may(module: str) -> None:
    assert offences(module, MODULES[module]) == []


def test_every_room_is_known_to_the_rules() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms <= {*LAYERS, *UNIMPORTED}, "a new room needs a place in tests/architecture/layers.py"
    assert {"core", "wire", "store", "server"} <= rooms


@pytest.mark.parametrize("room", [room for room in SIBLINGS if (PACKAGE / room).is_dir()])
def test_every_engine_of_a_room_is_known_to_the_rules(room: str) -> None:
    """A renamed engine would otherwise slip out of the rule that engines do not know each other."""
    names = {name.split(".")[2].split("_")[0] for name in MODULES if name.startswith(f"stillhere.{room}.")}
    assert not names or names & set(SIBLINGS[room]), f"no engine of {room} bears a name that layers.SIBLINGS lists"


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("stillhere.core.x", "import asyncio", "the core is pure"),
        ("stillhere.core.x", "def f() -> None:\n    import time", "the core is pure"),
        ("stillhere.core.x", "from random import random", "the core is pure"),
        ("stillhere.core.x", "import os.path", "the core is pure"),
        ("stillhere.core.x", "from logging import getLogger", "the core is pure"),
        ("stillhere.core.x", "import uuid, enum", "imports uuid"),
        ("stillhere.core.x", "from threading import Lock", "the core is pure"),
        ("stillhere.core.x", "import secrets", "the core is pure"),
        ("stillhere.core.x", "import socket", "the core is pure"),
        ("stillhere.core.x", "async def f() -> None: ...", "awaits"),
        ("stillhere.core.x", "from datetime import datetime\ndatetime.now()", "reads the clock through .now"),
        ("stillhere.core.x", "import datetime\ndatetime.date.today()", "reads the clock through .today"),
        ("stillhere.core.x", "open('f')", "calls open()"),
        ("stillhere.core.x", "import starlette", "core may import only msgspec"),
        ("stillhere.core.x", "from stillhere.wire import codes", "wire does not lie below core"),
        (
            "stillhere.core.x",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import stillhere.server",
            "below",
        ),
        ("stillhere.wire.x", "from stillhere import store", "store does not lie below wire"),
        ("stillhere.wire.x", "from ..store import memory", "store does not lie below wire"),
        ("stillhere.store.memory", "from stillhere.server.hub import Hub", "server does not lie below store"),
        ("stillhere.store.memory", "import redis", "store may import only msgspec"),
        (
            "stillhere.store.memory",
            "from stillhere.store.sqlite import open",
            "engines of store do not know each other",
        ),
        ("stillhere.store.redis.lua", "from stillhere.store import memory", "engines of store do not know each other"),
        ("stillhere.transport.asgi", "import stillhere.transport.native", "engines of transport"),
        ("stillhere.transport.asgi", "from stillhere.http import app", "http does not lie below transport"),
        ("stillhere.client.x", "from stillhere.store import contract", "store does not lie below client"),
        ("stillhere.client.x", "from stillhere.server.auth import mint", "server does not lie below client"),
        ("stillhere.client.x", "import starlette", "client may import only"),
        ("stillhere.server.x", "import uvicorn", "server may import only"),
        ("stillhere.server.x", "from stillhere.cli import main", "cli does not lie below server"),
        ("stillhere.server.x", "from stillhere.embed import Presence", "embed does not lie below server"),
        ("stillhere.server.x", "from stillhere import __main__", "stand on top of them"),
        ("stillhere.embed.presence", "from stillhere.cli import main", "cli does not lie below embed"),
        ("stillhere.embed.django", "from stillhere.embed import fastapi", "engines of embed"),
        ("stillhere.embed.presence", "import fastapi", "embed may import only"),
        ("stillhere.cli.x", "from stillhere.simulation import world", "nothing imports simulation"),
        ("stillhere.embed", "import stillhere.testing", "nothing imports testing"),
        ("stillhere.embed", "import click", "embed may import only"),
        ("stillhere.beside", "import click", "a module beside the rooms may import only"),
    ],
)
def test_the_checker_catches(module: str, source: str, complaint: str) -> None:
    found = offences(module, source)
    assert len([sentence for sentence in found if complaint in sentence]) >= 1, found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("stillhere.core.x", "import heapq\nimport msgspec\nfrom stillhere.core.words import Cause"),
        ("stillhere.core.x", "def f(now: float, moment: Clock) -> float: return moment.now"),
        ("stillhere.store.redis.lua", "import redis.asyncio\nfrom stillhere.core import words"),
        ("stillhere.store.opening", "from stillhere.store import memory, sqlite"),
        ("stillhere.client.x", "import asyncio, httpx\nfrom stillhere.wire import codes"),
        ("stillhere.server.x", "import asyncio, time\nfrom stillhere import __version__"),
        ("stillhere.cli.main", "import click\nfrom stillhere.http import app\nfrom stillhere.embed import Presence"),
        ("stillhere.testing.clock", "import hypothesis\nfrom stillhere.testing import world"),
        ("stillhere.embed", "from stillhere.http import app\nfrom stillhere.transport import asgi"),
    ],
)
def test_the_checker_lets_pass(module: str, source: str) -> None:
    assert offences(module, source) == []


def test_core_wire_and_the_memory_store_load_with_msgspec_alone() -> None:
    lean = [name for name in MODULES if name.split(".")[1:2] in (["core"], ["wire"]) or "store.memory" in name]
    assert _load(lean) == ""


def test_the_lean_loader_catches_a_forbidden_package() -> None:
    assert "pytest is not to be needed here" in _load(["pytest"])


def _load(names: list[str]) -> str:
    """Import modules where only the standard library, msgspec and stillhere can be had; returns the last error line."""
    program = f"""
import importlib, sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in {{"stillhere", "msgspec"}} and top not in sys.stdlib_module_names:
            raise ImportError(f"{{top}} is not to be needed here")
sys.meta_path.insert(0, Nothing())
for name in {names!r}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]
