"""Three nodes on one Redis behind HAProxy, on this machine, to kill one of them and watch what people see.

    make cluster-demo
    python scripts/cluster_demo.py --port 7500 --nodes 3

Everything is of this script's own making: a redis-server without files, the nodes, the balancer, a folder for their
logs. Ports are the kernel's choice. What dies stays dead: nothing is started again. Ctrl-C ends it all.

The nodes are what ``stillhere dev`` is, with one difference: ``dev`` makes up a secret at each start, and nodes of a
cluster must accept each other's tokens, so here all are given the same one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

START = 20.0
"""Seconds for a program to answer."""

PATIENCE = 8.0
"""Seconds for everything to end by itself after Ctrl-C, before it is killed."""

SOURCE = Path(__file__).resolve().parents[1] / "src"

BALANCER = """\
global
    maxconn 8192

defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout http-request 10s
    # an upgraded connection is silent between two pings (heartbeat.interval_ms, 20 s): this must be longer
    timeout tunnel 5m
    option forwardfor
    option redispatch
    retries 2

frontend public
    bind 127.0.0.1:{port}
    default_backend nodes

backend nodes
    # sockets live for hours: whoever has fewest gets the next one
    balance leastconn
    # a node that drains, or has lost its store, answers 503 here and gets no new connection; it keeps those it has
    option httpchk
    # with a Host, as every request: a node refuses those for names that are not its own (origins.hosts)
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost
    http-check expect status 200
    default-server check inter 500ms fall 2 rise 1
{servers}
"""


class DemoFailed(Exception):
    """Something did not start, and why."""


def find(program: str) -> str:
    """Where a program is; Debian keeps haproxy in a folder that is not on everybody's PATH."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise DemoFailed(f"{program} is not installed (on Debian: apt-get install {program})")
    return path


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Program:
    """A process of ours, in a session of its own, so that a Ctrl-C reaches this script alone."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        """Start it; what it says goes to ``<folder>/<name>.log``."""
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=env, start_new_session=True
            )
        self.mourned = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def ended(self) -> str | None:
        """How it ended, or None."""
        code = self.process.poll()
        if code is None:
            return None
        return f"status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    def await_port(self, port: int) -> None:
        """Wait until it listens there.

        Raises:
            DemoFailed: with the end of its log.
        """
        end = time.monotonic() + START
        while time.monotonic() < end and self.ended() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        tail = self.log.read_text(errors="replace")[-1500:]
        raise DemoFailed(f"{self.name} does not listen on port {port} ({self.ended() or 'it runs'}):\n{tail}")


class Cluster:
    """Redis, nodes and balancer; a context manager that ends what it started."""

    def __init__(self, port: int, nodes: int) -> None:
        """Prepare.

        Args:
            port: of the balancer; 0 for any.
            nodes: how many.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="stillhere-cluster-"))
        self.key = secrets.token_urlsafe(24)
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.programs: list[Program] = []
        self.nodes: dict[str, Program] = {}
        self.ports: dict[str, int] = {}
        self._secret = secrets.token_urlsafe(48)
        self._count = nodes

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _start(self) -> None:
        redis, haproxy = find("redis-server"), find("haproxy")
        port = free_port()
        # nothing on disk: the nodes know who is connected, and tell it again to a store that lost it
        memory_only = ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        options = ["--port", str(port), "--bind", "127.0.0.1", *memory_only]
        self._run("redis", [redis, *options]).await_port(port)
        for number in range(1, self._count + 1):
            name, self.ports[f"n{number}"] = f"n{number}", free_port()
            env = self._environment(name, self.ports[name], f"redis://127.0.0.1:{port}/0")
            self.nodes[name] = self._run(name, [sys.executable, __file__, "--as-node"], env)
        for name, node in self.nodes.items():
            node.await_port(self.ports[name])
        servers = "\n".join(f"    server {name} 127.0.0.1:{port}" for name, port in self.ports.items())
        config = self.folder / "haproxy.cfg"
        config.write_text(BALANCER.format(port=self.port, servers=servers))
        balancer = self._run("haproxy", [haproxy, "-db", "-f", str(config)])
        balancer.await_port(self.port)
        self._await_ready(balancer)

    def _await_ready(self, balancer: Program) -> None:
        """Wait until a node answers through the balancer that it is ready."""
        end = time.monotonic() + START
        problem = ""
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2):
                    return
            except OSError as error:
                problem = str(error)
            time.sleep(0.2)
        said = balancer.log.read_text(errors="replace")[-1500:]
        raise DemoFailed(f"no node is ready behind the balancer: {problem}\n{said}")

    def _run(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> Program:
        program = Program(name, command, self.folder, env)
        self.programs.append(program)
        return program

    def _environment(self, name: str, port: int, store: str) -> dict[str, str]:
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("STILLHERE_", "PRESENCE_"))}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SOURCE), environ.get("PYTHONPATH")]))
        settings: dict[str, object] = {
            "server.port": port,
            "server.node": name,
            "server.drain_s": 5,
            "server.log_format": "pretty",
            "server.trusted_proxies": ["127.0.0.1"],
            "store.url": store,
            "auth.secret": self._secret,
            "admin.api_keys": [self.key],
        }
        for key, value in settings.items():
            text = value if isinstance(value, str) else json.dumps(value)
            environ[f"STILLHERE_{key.upper().replace('.', '__')}"] = text
        return environ

    def _end(self) -> None:
        """The balancer first, so that it does not complain of nodes that go; then the nodes, then Redis."""
        end = time.monotonic() + PATIENCE
        for group in ([p for p in self.programs if p.name == "haproxy"], list(self.nodes.values()), self.programs):
            for program in group:
                if program.ended() is None:
                    program.process.send_signal(signal.SIGCONT)  # one that was paused by hand hears nothing else
                    program.process.terminate()
            for program in group:
                try:
                    program.process.wait(max(0.1, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    program.process.kill()
                    program.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what can be seen ---------------------------------------------------------------------------------------

    def stats(self, name: str) -> dict[str, Any] | None:
        """``/v1/stats`` of a node; None where it does not answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports[name]}/v1/stats", headers={"X-API-Key": self.key}
        )
        try:
            with urllib.request.urlopen(request, timeout=0.5) as answer:
                return dict(json.load(answer))
        except (OSError, ValueError):
            return None

    def status(self) -> str:
        """One line: the nodes with their connections, and who is online."""
        parts, present, held = [], None, 0
        up = 0
        for name, node in self.nodes.items():
            told = None if node.ended() else self.stats(name)
            if told is None:
                parts.append(f"{name} {'down' if node.ended() else 'silent'}")
                continue
            service, now = told["service"], told["now"]
            mark = " draining" if service["draining"] else "" if service["storeReachable"] else " without store"
            up += not mark
            parts.append(f"{name} {now['connections']}{mark}")
            if service["storeReachable"]:
                present, held = now["usersPresent"], now["windowsPending"]
        online = "?" if present is None else str(present)
        nodes = f"nodes up {up}/{len(self.nodes)} | connections: {', '.join(parts)}"
        return f"{nodes} | users online {online}, windows {held}"

    def departures(self) -> list[str]:
        """What ended since the last call."""
        told = []
        for program in self.programs:
            how = program.ended()
            if how is not None and not program.mourned:
                program.mourned = True
                told.append(f"{program.name} (pid {program.pid}) ended: {how}; its log is {program.log}")
        return told


def greeting(cluster: Cluster) -> str:
    """What to do, in lines."""
    pids = "   ".join(f"{name} {node.pid}" for name, node in cluster.nodes.items())
    others = "   ".join(f"{p.name} {p.pid}" for p in cluster.programs if p.name not in cluster.nodes)
    victim = next(reversed(cluster.nodes))
    second = list(cluster.nodes)[min(1, len(cluster.nodes) - 1)]
    return f"""
  A cluster runs, for a trial on this machine: anybody may log in as anybody.

  Demo    {cluster.url}/          open it in some windows, as several people
  Admin   {cluster.url}/admin/
  API     {cluster.url}/docs
  Nodes   {pids}          (processes)
  Beside  {others}
  Logs    {cluster.folder}

  While you watch, in another terminal:
    kill -9 {cluster.nodes[victim].pid}      {victim} dies: its tabs come back on the others, nobody goes offline
    curl -X POST -H 'X-API-Key: {cluster.key}' {cluster.url}/v1/nodes/{second}/drain
                       {second} moves its clients away in 5 s
    kill -STOP {cluster.programs[0].pid}     Redis stands still: nobody goes offline; -CONT wakes it up

  Ctrl-C ends everything.
"""


def watch(cluster: Cluster, seconds: float) -> None:
    """Tell the state once a second, over itself on a terminal and on a new line where it changed elsewhere."""
    end = time.monotonic() + seconds if seconds else None
    terminal, last = sys.stdout.isatty(), ""
    while end is None or time.monotonic() < end:
        for line in cluster.departures():
            print(f"\r\x1b[K  {line}" if terminal else f"  {line}", flush=True)
        line = cluster.status()
        if terminal:
            print(f"\r\x1b[K  {line}", end="", flush=True)
        elif line != last:
            print(f"  {line}", flush=True)
        last = line
        time.sleep(1.0)


def serve_node() -> None:
    """The process of one node; everything it needs is in its environment."""
    from stillhere.cli.running import run
    from stillhere.http.app import DevMode
    from stillhere.server.settings import load_settings, require_loopback

    settings = load_settings(None, os.environ, {})
    require_loopback(settings)
    assert settings.auth.secret is not None
    run(settings, dev=DevMode(settings.auth.secret))


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description="Three nodes on one Redis behind HAProxy, on this machine.")
    parser.add_argument("--port", type=int, default=0, help="of the balancer (default: any free one)")
    parser.add_argument("--nodes", type=int, default=3, choices=range(1, 10), metavar="N", help="how many (default 3)")
    parser.add_argument("--seconds", type=float, default=0, help="end by itself after so long (default: never)")
    parser.add_argument("--as-node", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.as_node:
        serve_node()
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Cluster(given.port, given.nodes) as cluster, contextlib.suppress(KeyboardInterrupt):
            print(greeting(cluster), flush=True)
            watch(cluster, given.seconds)
            return 0
    except DemoFailed as error:
        print(f"stillhere: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("\n  ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
