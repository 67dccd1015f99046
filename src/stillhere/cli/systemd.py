"""Telling a service manager how the process is: systemd's notification socket (``man sd_notify``)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends states where ``NOTIFY_SOCKET`` says; does nothing where it is not set."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Read the environment once."""
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environ.get("WATCHDOG_USEC", "")
        self.watchdog = int(microseconds) / 1e6 if mine and microseconds.isdecimal() and self._address else 0.0
        """Seconds within which ``WATCHDOG=1`` is expected again; 0 for never."""

    def send(self, state: str) -> None:
        """Send one state, such as ``READY=1``. A manager that does not listen is no reason to stop."""
        if self._address:
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
                    notify.setblocking(False)
                    notify.sendto(state.encode(), self._address)
            except OSError:
                pass
