"""The rules of the house, as data, and the checker that holds a module's source against them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "stillhere"

LAYERS = {
    "core": 0,
    "wire": 1,
    "client": 2,
    "store": 2,
    "server": 3,
    "http": 4,
    "transport": 4,
    "gateways": 4,
    "embed": 5,
    "cli": 6,
}
"""A room may import rooms of a lower number. A module beside the rooms (``stillhere.x``) stands where ``cli`` does."""

UNIMPORTED = ("simulation", "testing")
"""Rooms that stand on the others and that no other room knows of."""

SIBLINGS = {
    "store": ("memory", "sqlite", "redis"),
    "transport": ("native", "asgi"),
    "embed": ("django", "fastapi"),
}
"""Engines that do the same job: the names of their modules or packages, or what these names begin with."""

THIRD_PARTY = {
    "core": {"msgspec"},
    "wire": {"msgspec"},
    "client": {"httpx", "msgspec", "websockets"},
    "store": {"msgspec"},
    "store.redis": {"msgspec", "redis"},
    "server": {"msgspec", "jwt", "prometheus_client"},
    "http": {"msgspec", "prometheus_client", "starlette"},
    "transport": {"msgspec", "starlette", "uvicorn", "websockets"},
    "gateways": {"msgspec", "starlette"},
    "embed": {"msgspec", "prometheus_client", "starlette"},
    "embed.django": {"django", "msgspec"},
    "embed.fastapi": {"fastapi", "msgspec"},
    "cli": {"click", "msgspec", "uvicorn", "uvloop", "websockets"},
    "": {"msgspec", "starlette"},
}
"""What may be imported beside the standard library; ``""`` stands for the modules beside the rooms."""

PURE = frozenset(
    """__future__ abc base64 binascii bisect collections contextlib copy dataclasses datetime enum fractions functools
    graphlib hashlib heapq hmac itertools json math numbers operator re statistics string struct textwrap types typing
    unicodedata""".split()
)
"""All that ``core`` may take from the standard library: no clock, no socket, no log, no randomness, no thread."""

IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}
CLOCK_READS = {"now", "utcnow", "today"}


class Import(NamedTuple):
    """One imported module, by its full dotted name; of ``from a import b``, both ``a`` and ``a.b``."""

    line: int
    name: str


def module_name(path: Path) -> str:
    """The dotted name of a source file below ``src/stillhere``."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, str]:
    """Every module of the package: dotted name to source."""
    return {module_name(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def offences(module: str, source: str) -> list[str]:
    """Hold one module against all rules.

    Args:
        module: its dotted name, such as ``stillhere.core.words``.
        source: its text.

    Returns:
        One sentence per offence; empty if there is none.
    """
    tree = ast.parse(source)
    found = [
        f"{module}:{imported.line} imports {imported.name}: {reason}"
        for imported in _imports(tree, module, module in _packages())
        for reason in _against_import(module, imported.name)
    ]
    if _room(module) == "core":
        found += [f"{module}:{line} {what}: the core is pure" for line, what in _impurities(tree)]
    return found


def _packages() -> set[str]:
    return {module_name(path) for path in PACKAGE.rglob("__init__.py")}


def _imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")
                above = above[: len(above) - node.level + is_package]
                base = ".".join([*above, *([node.module] if node.module else [])])
            yield Import(node.lineno, base)
            if base.split(".")[0] == "stillhere":
                yield from (Import(node.lineno, f"{base}.{alias.name}") for alias in node.names)


def _room(module: str) -> str:
    """The room of a module, or an empty string for one beside the rooms."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in {*LAYERS, *UNIMPORTED} else ""


def _engine(module: str) -> str:
    """Which of the engines of its room a module belongs to, or an empty string."""
    parts = module.split(".")
    if len(parts) < 3:
        return ""
    return next((name for name in SIBLINGS.get(parts[1], ()) if parts[2].split("_")[0] == name), "")


def _against_import(module: str, imported: str) -> Iterator[str]:
    top = imported.split(".")[0]
    room = _room(module)
    if top == "stillhere":
        yield from _against_room(module, imported)
    elif top in sys.stdlib_module_names:
        if room == "core" and top not in PURE:
            yield "the core is pure"
    elif room not in UNIMPORTED:
        engine = _engine(module)
        allowed = THIRD_PARTY.get(f"{room}.{engine}", THIRD_PARTY[room])
        if top not in allowed:
            yield f"{room or 'a module beside the rooms'} may import only {', '.join(sorted(allowed))}"


def _against_room(module: str, imported: str) -> Iterator[str]:
    here, there = _room(module), _room(imported)
    if there in UNIMPORTED and here != there:
        yield f"nothing imports {there}"
    elif here in LAYERS and there in LAYERS and here != there and LAYERS[there] >= LAYERS[here]:
        yield f"{there} does not lie below {here}"
    elif here in LAYERS and here != "cli" and not there and imported.split(".")[1:2] not in ([], ["__version__"]):
        yield "modules beside the rooms stand on top of them"
    elif here == there and "" != _engine(module) != _engine(imported) != "":
        yield f"engines of {here} do not know each other"


def _impurities(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await):
            yield node.lineno, "awaits"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            yield node.lineno, f"calls {node.func.id}()"
        elif isinstance(node, ast.Attribute) and node.attr in CLOCK_READS and _names_a_date(node.value):
            yield node.lineno, f"reads the clock through .{node.attr}"


def _names_a_date(node: ast.expr) -> bool:
    """Whether an expression is ``datetime``, ``date``, ``datetime.datetime`` or ``datetime.date``."""
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name in {"datetime", "date"}
