"""The servers that are measured: how each is started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.dialects import SOCKET_IO, STILLHERE, XMPP, XMPP_JWT, Dialect
from bench.stand import SECRET, Failed

HERE = Path(__file__).parent
_PEERS = HERE / "peers"
_SOURCE = HERE.parent / "src"

FRAME_BYTES = 175
"""Of the floor's frames: what a change in a room takes, on ``ws`` and on Stillhere."""


_ALL = ("idle", "tracked", "room", "watch", "burst", "storm")


class Peer(msgspec.Struct, frozen=True):
    """A server that can be measured."""

    title: str
    command: Callable[[int, Path], list[str]]
    """From its port and a directory that it may write into."""
    phases: tuple[str, ...] = _ALL
    dialect: Dialect = STILLHERE
    """What the load generator speaks to it."""
    env: dict[str, str] = {}
    most_watchers: int | None = None
    """In one room. Where everybody is told of every join, a room of 1,000 is half a million messages before a phase has
    begun: servers that take hundreds of µs for each of them are measured with fewer members, which their title says."""
    prepare: Callable[[], None] = lambda: None
    """Install what is missing.

    Raises:
        Failed: it cannot be installed; the text says what is to be done.
    """


_ROOMS = ("idle", "tracked", "room", "burst")
"""Of the XMPP servers. Not `storm`, whose figure is that of 1,000 members. Not `watch`: a subscription to a user's
presence (RFC 6121) is an entry in the rosters of two accounts, agreed on by both and stored, which is another job than
to watch whoever one may."""


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


def _venv(name: str) -> Callable[[], None]:
    def prepare() -> None:
        wanted = (_PEERS / name / "requirements.txt").read_text()
        stamp = _PEERS / name / ".venv" / "installed.txt"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        pip = ["-m", "pip", "install", "--quiet", "--require-hashes", "-r", "requirements.txt"]
        try:
            for command in ([sys.executable, "-m", "venv", "--clear", ".venv"], [_python(name), *pip]):
                subprocess.run(command, cwd=_PEERS / name, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            raise Failed(f"bench/peers/{name}/requirements.txt cannot be installed:\n{said[-1000:]}") from None
        stamp.write_text(wanted)

    return prepare


def _python(name: str) -> str:
    return str(_PEERS / name / ".venv" / "bin" / "python")


def _found(package: str, *programs: str) -> Callable[[], None]:
    """Packages of the system are its owner's to install."""

    def prepare() -> None:
        places = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"  # where Debian keeps ejabberdctl
        missing = [program for program in programs if not shutil.which(program, path=places)]
        if missing:
            raise Failed(
                f"the peer {package} needs {' and '.join(missing)}, which Debian and its kin install with "
                f"`apt-get install {package}`; the service that comes with it need not run"
            )

    return prepare


_FEW = 200
"""Watchers of the servers for which 1,000 are too many."""

_ENDS = ("client_close", "going_away", "page_hidden", "abnormal", "heartbeat_lost", "slow_consumer", "protocol_error")


def _stillhere(title: str, store: str, websocket: str = "native", *, windows: bool = True) -> Peer:
    """``stillhere serve`` as it comes, but for limits that a crowd from one machine would meet."""
    flags = {
        "store.url": store,
        "server.websocket": websocket,
        "limits.connections": 100_000,
        "limits.connections_per_ip": 100_000,
        "limits.messages_per_second": 1000,
        **({} if windows else {f"grace.{cause}": 0 for cause in _ENDS}),
    }
    return Peer(
        title,
        lambda port, work: [
            *(sys.executable, "-m", "stillhere", "serve", "--port", str(port)),
            *(f"--set={key}={str(value).format(work)}" for key, value in flags.items()),
        ],
        env={"PYTHONPATH": str(_SOURCE), "STILLHERE_AUTH__SECRET": SECRET},
    )


def _channels(title: str, layer: str, phases: tuple[str, ...]) -> Peer:
    """Django Channels.

    Its in-memory layer, which its documentation calls unfit for production, looks through the queues of all consumers
    whenever one of them is given a message: the cost of a change grows with the square of those who are told, and
    500 watchers are not all told within the patience of a phase. So it has only the phases in which nobody is.
    """

    def prepare() -> None:
        _venv("channels")()
        if layer == "redis":
            _found("redis-server", "redis-server")()

    return Peer(
        title,
        lambda port, work: [
            _python("channels"),
            *(str(_PEERS / "channels" / "server.py"), str(port), SECRET, layer, str(work)),
        ],
        phases=phases,
        most_watchers=_FEW,
        prepare=prepare,
    )


_FLOOR = _PEERS / "floor"
_SEND = _FLOOR / "build" / "send.so"


def _compiled() -> None:
    """Build the loop in C."""
    source = _FLOOR / "send.c"
    if _SEND.exists() and _SEND.stat().st_mtime > source.stat().st_mtime:
        return
    _SEND.parent.mkdir(exist_ok=True)
    try:
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", str(_SEND), str(source)], check=True, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise Failed("the send floor in C needs a C compiler called cc (on Debian: apt-get install gcc)") from None
    except subprocess.CalledProcessError as error:
        raise Failed(f"bench/peers/floor/send.c cannot be compiled:\n{error.stderr}") from None


PEERS: dict[str, Peer] = {
    "floor-c": Peer(
        "send floor (C)",
        lambda port, _: [sys.executable, str(_FLOOR / "server.py"), str(port), str(FRAME_BYTES), str(_SEND)],
        phases=("room",),
        prepare=_compiled,
    ),
    "floor": Peer(
        "send floor (Python `socket.send`)",
        lambda port, _: [sys.executable, str(_FLOOR / "server.py"), str(port), str(FRAME_BYTES)],
        phases=("room",),
    ),
    "ws": Peer(
        "ws (Node)",
        lambda port, _: ["node", str(_PEERS / "ws" / "server.mjs"), str(port), SECRET],
        prepare=_npm("ws"),
    ),
    "socketio": Peer(
        "Socket.IO (Node)",
        lambda port, _: ["node", str(_PEERS / "socketio" / "server.mjs"), str(port), SECRET],
        dialect=SOCKET_IO,
        env={"NODE_ENV": "production"},
        prepare=_npm("socketio"),
    ),
    "bun": Peer(
        "Bun, its topics",
        lambda port, _: [
            str(_PEERS / "bun" / "node_modules" / ".bin" / "bun"),
            *(str(_PEERS / "bun" / "server.mjs"), str(port), SECRET),
        ],
        env={"NODE_ENV": "production", "DO_NOT_TRACK": "1"},
        prepare=_npm("bun"),
    ),
    "python-socketio": Peer(
        "python-socketio (uvicorn)",
        lambda port, _: [
            _python("python_socketio"),
            *(str(_PEERS / "python_socketio" / "server.py"), str(port), SECRET),
        ],
        dialect=SOCKET_IO,
        prepare=_venv("python_socketio"),
    ),
    "channels": _channels(
        f"Django Channels (uvicorn), its Redis included; {_FEW} watchers",
        "redis",
        ("idle", "tracked", "room", "watch", "burst"),
    ),
    "channels-memory": _channels("Django Channels (uvicorn), in-memory layer", "memory", ("idle", "tracked")),
    "prosody": Peer(
        f"Prosody, rooms (XMPP); {_FEW} watchers",
        lambda port, work: [str(_PEERS / "prosody" / "serve.sh"), str(port), str(work)],
        phases=_ROOMS,
        most_watchers=_FEW,
        dialect=XMPP,
        prepare=_found("prosody", "prosody"),
    ),
    "ejabberd": Peer(
        f"ejabberd, rooms (XMPP); {_FEW} watchers",
        lambda port, work: [str(_PEERS / "ejabberd" / "serve.sh"), str(port), str(work), SECRET],
        phases=_ROOMS,
        most_watchers=_FEW,
        dialect=XMPP_JWT,
        prepare=_found("ejabberd", "erl", "ejabberdctl"),
    ),
    "stillhere": _stillhere("Stillhere, memory", "memory:"),
    "stillhere-sqlite": _stillhere("Stillhere, sqlite", "sqlite:///{}/bench.db"),
    "stillhere-asgi": _stillhere("Stillhere, memory, ASGI transport", "memory:", "asgi"),
    "no-windows": _stillhere("Stillhere, memory, all windows 0", "memory:", windows=False),
}

USUAL = ("floor-c", "floor", "ws", "stillhere", "stillhere-sqlite")
"""Those that are measured when nothing is said."""
