"""From settings to a running server and back: the same for ``serve`` and ``dev``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from stillhere.cli import logs
from stillhere.cli.failure import FAILED, INTERRUPTED, REFUSED, Failure
from stillhere.cli.systemd import Notifier
from stillhere.http.app import build_app
from stillhere.server.assembly import make_node
from stillhere.server.jwks import KeysError
from stillhere.server.node import Node
from stillhere.server.settings import Settings
from stillhere.server.settings_rules import redacted_url
from stillhere.server.workers import Line
from stillhere.store.contract import StoreError, StoreRefused
from stillhere.transport.serve import CannotListen, PortInUse, Server, build_server, listen

if TYPE_CHECKING:
    from stillhere.http.app import DevMode

_LOG = logging.getLogger("stillhere.serve")

GC_THRESHOLD = (10_000, 20, 50)
"""When Python looks for cycles: after so many allocations more than frees, and so many of those for the older ones.

A connection is some thirty objects that live for hours, and a search of everything looks at them all while nobody is
served. While 4,000 clients connected, the default of (700, 10, 10) searched for 0.85 s in all, once for 250 ms; these
numbers, and the start left out (:func:`tidy`), for 0.22 s and rarely all. Searching cannot be left off: every request
over HTTP leaves a few cycles behind, because uvicorn's HTTP protocol and its parser hold each other. A WebSocket must
leave none: 10,000 people who came and went for ten minutes once left 600 MiB of them, and each search took seconds, in
which all stood still.
"""

Started = Callable[[Server, Node], None]


def run(
    settings: Settings,
    *,
    dev: DevMode | None = None,
    started: Started | None = None,
    listener: socket.socket | None = None,
    line: Line | None = None,
    sources: Mapping[str, str] | None = None,
) -> None:
    """Serve until a signal; returns after a clean stop.

    The port is taken before the store is touched: a second start by mistake must not disturb what the first one keeps
    there.

    Args:
        settings: checked settings.
        dev: for the development server.
        started: called on the loop when requests are answered.
        listener: listens already, in place of where the settings say.
        line: of a worker, to its parent.
        sources: where each setting that was set came from, for the pages.

    Raises:
        Failure: it cannot start, status 2; or it failed, status 1.
    """
    listener = listener or take_port(settings, "; after `make demo`, PORT=…" if dev is not None else "")
    with contextlib.closing(listener):
        node = prepare(settings)
        server = build_server(
            build_app(node, dev=dev, sources=sources),
            node,
            sock=listener,
            websocket=settings.server.websocket,
            handshake_timeout=settings.limits.handshake_timeout,
            verdict_timeout=settings.limits.handshake_timeout,
            max_message_bytes=settings.limits.message_bytes,
            heartbeat_interval=settings.heartbeat.interval,
            heartbeat_timeout=settings.heartbeat.timeout,
            high_water=settings.limits.outbox_bytes,
            low_water=settings.limits.outbox_bytes // 4,
            on_stop=lambda: _drain(node),
        )
        node.listener = (server.host, server.port)
        server.supervised = line is not None
        logs.configure(settings.server.log_format, settings.server.log_level)
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            try:
                runner.run(_serve(server, node, started or _say_started, line))
            except KeyboardInterrupt:  # the second signal; the node was stopped on the way here
                # Forced, uvicorn leaves its lifespan task to be cancelled, and that writes a traceback.
                logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
                raise SystemExit(INTERRUPTED) from None
        if server.interrupted:  # whatever was awaited at that moment has taken the interrupt for its own
            raise SystemExit(INTERRUPTED)


def take_port(settings: Settings, hint: str = "") -> socket.socket:
    """Listen where the settings say.

    Args:
        settings: of the server.
        hint: what else may be passed.

    Raises:
        Failure: with what to pass instead, status 2.
    """
    try:
        return listen(settings.server.host, settings.server.port)
    except PortInUse as error:
        raise Failure(
            f"port {error.port} of {error.host} is in use: another server runs there. Pass another one with --port "
            f"(--port 0 takes any free one{hint}), or stop that server",
            status=REFUSED,
        ) from None
    except CannotListen as error:
        raise Failure(f"{error}; --host and --port say where to listen", status=REFUSED) from None


def prepare(settings: Settings) -> Node:
    """A node with its store and its keys; nothing is opened yet.

    Raises:
        Failure: the store or the keys cannot be used, status 2.
    """
    try:
        return make_node(settings)
    except (StoreRefused, KeysError, ValueError) as error:
        raise Failure(str(error), status=REFUSED) from None


async def _serve(server: Server, node: Node, started: Started, line: Line | None) -> None:
    notifier = line or Notifier()
    if line is not None:
        line.when_alone(server.stop)
    try:
        await node.start()
    except StoreRefused as error:
        raise Failure(str(error), status=REFUSED) from None
    except StoreError as error:
        raise Failure(f"the store cannot be used: {error}", status=FAILED) from None
    watching = asyncio.create_task(_watch(server, node, notifier, started))
    try:
        await server.serve()
    finally:
        watching.cancel()
        await node.stop()
    if not server.started:
        raise Failure("the server could not start; the log says why")
    _LOG.info("stopped", extra={"fields": {"node": node.name}})


async def _watch(server: Server, node: Node, notifier: Notifier | Line, started: Started) -> None:
    """Say when the server answers; and from then on, as often as asked, that its loop still turns."""
    while not server.started:  # noqa: ASYNC110 - uvicorn has a flag for it and no event
        await asyncio.sleep(0.005)
    tidy()
    started(server, node)
    notifier.send("READY=1")
    while notifier.watchdog:
        # A node whose task died of a mistake is to be replaced: without a word from here the manager does so.
        if node.tasks.failed is None:
            notifier.send("WATCHDOG=1")
        await asyncio.sleep(notifier.watchdog / 2)


async def _drain(node: Node) -> None:
    Notifier().send("STOPPING=1")
    _LOG.info("draining", extra={"fields": {"node": node.name, "seconds": node.settings.server.drain_s}})
    await node.drain()


def tidy() -> None:
    """Leave what the start made (modules, types, routes: it stays for good) out of every later search for cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)


def address(server: Server) -> str:
    """The URL at which a server can be reached from its own machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)
    return f"http://[{host}]:{server.port}" if ":" in host else f"http://{host}:{server.port}"


def _say_started(server: Server, node: Node) -> None:
    url = address(server)
    fields = {
        "url": url,
        "listening": f"{server.host}:{server.port}",
        "store": redacted_url(node.settings.store.url),
        "node": node.name,
        "docs": f"{url}/docs",
    }
    _LOG.info("serving", extra={"fields": fields})
