"""Where and with what a run was made: figures mean little without it."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("uvicorn", "uvloop", "msgspec", "pyjwt", "cryptography", "httptools", "starlette")


def parse_cpu_model(text: str) -> str:
    """The name of the processor, from ``/proc/cpuinfo``; architectures differ in whether they say one."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return "unknown"


def describe() -> dict[str, object]:
    """The machine, the versions and the moment."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": parse_cpu_model(Path("/proc/cpuinfo").read_text()),
        "cpus": len(os.sched_getaffinity(0)),
        "load": [round(load, 2) for load in os.getloadavg()],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "node": _output("node", "--version"),
        "commit": _output("git", "describe", "--always", "--dirty"),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _output(*command: str) -> str:
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
