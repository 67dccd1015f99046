"""The servers that are measured: how each is started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.stand import SECRET, Failed

HERE = Path(__file__).parent
_PEERS = HERE / "peers"
_SOURCE = HERE.parent / "src"

FRAME_BYTES = 175
"""Of the floor's frames: what a change in a room takes, on ``ws`` and on Stillhere."""


class Peer(msgspec.Struct, frozen=True):
    """A server that can be measured."""

    title: str
    command: Callable[[int, Path], list[str]]
    """From its port and a directory that it may write into."""
    phases: tuple[str, ...] = ("idle", "tracked", "room", "watch", "burst", "storm")
    env: dict[str, str] = {}
    prepare: Callable[[], None] = lambda: None
    """Install what is missing."""


def _npm(name: str) -> Callable[[], None]:
    def prepare() -> None:
        folder = _PEERS / name
        if (folder / "node_modules" / ".package-lock.json").exists():
            return
        try:
            subprocess.run(
                ["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True, text=True
            )
        except FileNotFoundError:
            raise Failed(f"the peer {name} needs Node.js 20 or newer with npm, and there is no npm") from None
        except subprocess.CalledProcessError as error:
            raise Failed(f"npm ci in {folder.relative_to(HERE.parent)} failed:\n{error.stderr}") from None

    return prepare


def _stillhere(title: str, store: str, websocket: str = "picows") -> Peer:
    """``stillhere serve`` as it comes, but for limits that a crowd from one machine would meet."""
    flags = {
        "store.url": store,
        "server.websocket": websocket,
        "limits.connections": 100_000,
        "limits.connections_per_ip": 100_000,
        "limits.messages_per_second": 1000,
    }
    return Peer(
        title,
        lambda port, work: [
            *(sys.executable, "-m", "stillhere", "serve", "--port", str(port)),
            *(f"--set={key}={str(value).format(work)}" for key, value in flags.items()),
        ],
        env={"PYTHONPATH": str(_SOURCE), "STILLHERE_AUTH__SECRET": SECRET},
    )


PEERS: dict[str, Peer] = {
    "floor": Peer(
        "send floor (Python `socket.send`)",
        lambda port, _: [sys.executable, str(_PEERS / "floor" / "server.py"), str(port), str(FRAME_BYTES)],
        phases=("room",),
    ),
    "ws": Peer(
        "ws (Node)",
        lambda port, _: ["node", str(_PEERS / "ws" / "server.mjs"), str(port), SECRET],
        prepare=_npm("ws"),
    ),
    "stillhere": _stillhere("Stillhere, memory", "memory:"),
    "stillhere-sqlite": _stillhere("Stillhere, sqlite", "sqlite:///{}/bench.db"),
    "stillhere-asgi": _stillhere("Stillhere, memory, ASGI transport", "memory:", "asgi"),
}

USUAL = ("floor", "ws", "stillhere", "stillhere-sqlite")
"""Those that are measured when nothing is said."""
