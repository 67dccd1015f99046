"""A service manager hears of the start, the stop, and that the loop still turns."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from stillhere.cli.systemd import Notifier


def test_a_state_reaches_the_managers_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(5)
        Notifier({"NOTIFY_SOCKET": path}).send("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_a_name_in_the_abstract_namespace_is_one_too() -> None:
    name = f"stillhere-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).send("STOPPING=1")
        assert manager.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_without_a_manager_nothing_happens(environ: dict[str, str]) -> None:
    Notifier(environ).send("READY=1")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "3000000"}, 3.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": "3000000"}, 0.0),
        ({"NOTIFY_SOCKET": "/x"}, 0.0),
    ],
)
def test_the_watchdog_is_ours_only_where_the_manager_says_so(environ: dict[str, str], seconds: float) -> None:
    assert Notifier(environ).watchdog == seconds
