"""A redis-server of the bench: without files, pinned, ended with the measurement."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import redis

from bench.stand import Failed, free_port

_START = 10.0


class RedisServer:
    """``with RedisServer(cpus) as server``: ``server.url``, and what ``INFO`` says."""

    def __init__(self, cpus: set[int]) -> None:
        """Prepare; ``cpus`` is where it may run."""
        self._cpus = cpus
        self._folder = Path(tempfile.mkdtemp(prefix="stillhere-bench-redis-"))
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client: Any = redis.Redis(port=self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        program = shutil.which("redis-server")
        if program is None:
            raise Failed("redis-server is not installed (on Debian: apt-get install redis-server)")
        ours = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._cpus)  # inherited
        try:
            options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self._folder)]
            self._process = subprocess.Popen(
                [program, "--port", str(self.port), *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.sched_setaffinity(0, ours)
        end = time.monotonic() + _START
        while time.monotonic() < end:
            try:
                self.client.ping()
            except redis.ConnectionError:
                time.sleep(0.05)
            else:
                return self
        self._end()
        raise Failed(f"redis-server does not answer on port {self.port} after {_START:g} s")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self.client.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def info(self, section: str) -> dict[str, Any]:
        """A section of ``INFO``."""
        return cast(dict[str, Any], self.client.info(section))

    def cpu(self) -> float:
        """Seconds of CPU that the server used so far, user and system."""
        told = self.info("cpu")
        return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])

    def memory(self) -> int:
        """Bytes that the server has allocated for data."""
        return int(self.info("memory")["used_memory"])

    def sent(self) -> int:
        """Bytes that the server wrote to its clients so far."""
        return int(self.info("stats")["total_net_output_bytes"])

    def version(self) -> str:
        """As it says itself."""
        return str(self.info("server")["redis_version"])
