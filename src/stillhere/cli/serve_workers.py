"""``stillhere serve`` with several workers: one port, one parent, a node in each worker."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Mapping

import msgspec

from stillhere.cli import logs
from stillhere.cli.failure import INTERRUPTED, REFUSED, Failure
from stillhere.cli.running import run, take_port
from stillhere.cli.systemd import Notifier
from stillhere.server.settings import Settings
from stillhere.server.workers import Line, Supervisor, worker_names
from stillhere.transport.serve import CannotListen, listen


def run_workers(settings: Settings, sources: Mapping[str, str] | None = None) -> None:
    """Serve with ``server.workers`` processes until a signal; returns after a clean stop.

    Args:
        settings: checked settings, with a store that nodes share.
        sources: where each setting that was set came from, for the pages.

    Raises:
        Failure: it cannot start, status 2; or it failed, status 1.
        SystemExit: with the status of a worker that could not start, or failed.
    """
    if not (hasattr(socket, "SO_REUSEPORT") and hasattr(os, "fork")):
        raise Failure(
            f"server.workers is {settings.server.workers}, and this system cannot share a port among processes; "
            "server.workers = 1 is possible, and a server on each of several ports",
            status=REFUSED,
        )
    logs.configure(settings.server.log_format, settings.server.log_level)
    notifier = Notifier()
    with contextlib.closing(_hold_port(settings)) as held:
        port = held.getsockname()[1]

        def work(name: str, line: Line) -> int:
            os.environ.pop("NOTIFY_SOCKET", None)  # the parent speaks for all
            held.close()
            server = msgspec.structs.replace(settings.server, node=name, port=port)
            try:
                _serve(msgspec.structs.replace(settings, server=server), line, sources)
            except Failure as failure:
                failure.show()
                return failure.exit_code
            return 0

        names = worker_names(settings.server.node, settings.server.workers)
        status = Supervisor(names, work, notify=notifier.send, watchdog=notifier.watchdog).run()
    if status == -signal.SIGINT:
        raise SystemExit(INTERRUPTED)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    if status:
        raise SystemExit(status)


def _serve(settings: Settings, line: Line, sources: Mapping[str, str] | None) -> None:
    host, port = settings.server.host, settings.server.port
    try:
        listener = listen(host, port, shared=True)
    except CannotListen as error:
        raise Failure(f"{error}; --host and --port say where to listen", status=REFUSED) from None
    run(settings, listener=listener, line=line, sources=sources)


def _hold_port(settings: Settings) -> socket.socket:
    """A socket that keeps the port for as long as the parent lives, also while no worker listens.

    Who shares a port does not notice who has it already: that nobody has it is found out with a socket that does not
    share. The one that is kept shares and does not listen, so the kernel gives it no connection.
    """
    with contextlib.closing(take_port(settings)) as probe:
        family, address = probe.family, probe.getsockname()
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except OSError as error:
        held.close()
        raise Failure(f"cannot keep port {address[1]} of {address[0]}: {error.strerror}", status=REFUSED) from None
    return held
