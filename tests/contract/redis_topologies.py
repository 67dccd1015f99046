"""Real Redis servers for the tests: one alone, with a password, TLS or few rights; a Cluster; a set with Sentinels.

Everything listens on loopback, on ports that the kernel chose, and lives in a temporary folder. Each context manager
ends the processes that it started, and no others.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import NoPermissionError
from redis.retry import Retry

START_SECONDS = 20.0
LOOPBACK = "127.0.0.1"
SERVICE = "presence"


def server_binary() -> str:
    """The program under test: ``STILLHERE_TEST_REDIS_SERVER``, or ``redis-server`` of the path; skips without one."""
    binary = os.environ.get("STILLHERE_TEST_REDIS_SERVER") or shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server")
    return binary


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on at the moment; all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until(condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Ask until a condition holds.

    Raises:
        TimeoutError: it did not within the time.
    """
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError):
            if condition():
                return
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def raw(admin: redis.Redis, *words: str | int) -> Any:
    """What a server answers, as it is: redis-py would make something else of some answers."""
    connection: Any = admin.connection_pool.get_connection()
    try:
        connection.send_command(*words)
        return connection.read_response()
    finally:
        admin.connection_pool.release(connection)


class Server:
    """One server process."""

    def __init__(self, folder: Path, config: str, port: int, *, sentinel: bool = False, tls: Tls | None = None) -> None:
        self.folder = folder
        self.port = port
        self.tls = tls
        self._sentinel = sentinel
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "server.conf"
        self._config.write_text(config)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """For a URL."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        """Of a server that asks for nothing."""
        return f"redis://{self.host}"

    def start(self) -> Server:
        """Start, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            command = [server_binary(), str(self._config), *(["--sentinel"] if self._sentinel else [])]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        wait_until(self._answers, f"a server on {self.host}: {self.log()[-400:]}")
        return self

    def log(self) -> str:
        """What it has written so far."""
        return (self.folder / "log").read_text(errors="replace")

    def admin(self, **options: Any) -> redis.Redis:
        """A client for the test itself."""
        if self.tls is not None:
            options = {"ssl": True, "ssl_ca_certs": str(self.tls.authority), "ssl_check_hostname": False, **options}
        return redis.Redis(LOOPBACK, self.port, socket_timeout=5, protocol=2, retry=Retry(NoBackoff(), 0), **options)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            if self.tls is not None and "Failed finding TLS support" in self.log():
                pytest.skip("this server was built without TLS")
            raise AssertionError(f"the server on {self.host} ended: {self.log()[-400:]}")
        try:
            return bool(self.admin().ping())
        except (redis.AuthenticationError, NoPermissionError):
            return True
        except redis.ConnectionError as error:
            # one that asks for a client certificate has started as well
            return self.tls is not None and "CERTIFICATE_REQUIRED" in str(error).upper().replace(" ", "_")

    def pause(self) -> None:
        """Keep it from running."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a crash."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


class Tls:
    """An authority, and a certificate of it for loopback."""

    def __init__(self, folder: Path, *, names: Sequence[str] = ("localhost",)) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.authority, self.certificate, self.key = folder / "ca.pem", folder / "server.pem", folder / "server.key"
        root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority of {folder.name}")])
        root = _certificate(root_name, root_name, root_key, root_key, x509.BasicConstraints(True, None))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        if "localhost" in names:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(LOOPBACK)))
        leaf = _certificate(subject, root_name, key, root_key, x509.SubjectAlternativeName(alternatives))
        self.authority.write_bytes(root.public_bytes(serialization.Encoding.PEM))
        self.certificate.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def config(self, port: int, *, clients: bool) -> str:
        """Lines for a server's configuration."""
        return (
            f"port 0\ntls-port {port}\ntls-cert-file {self.certificate}\ntls-key-file {self.key}\n"
            f"tls-ca-cert-file {self.authority}\ntls-auth-clients {'yes' if clients else 'no'}\n"
        )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        .sign(signer, hashes.SHA256())
    )


def _basics(port: int) -> str:
    return f'bind {LOOPBACK}\nport {port}\nsave ""\nappendonly no\nprotected-mode no\ndaemonize no\n'


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="stillhere-redis-") as name:
        yield Path(name)


@contextlib.contextmanager
def _running(*servers: Server) -> Iterator[None]:
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            # nothing in the temporary folder is worth a slow end
            server.kill()


@contextlib.contextmanager
def standalone(
    *lines: str,
    password: str = "",
    tls: Tls | None = None,
    client_certificates: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """One server.

    Args:
        lines: for its configuration, such as ``user …`` of an ACL.
        password: of the user ``default``.
        tls: speak TLS with this certificate.
        client_certificates: ask clients for one too.
        settings: more of its configuration, such as ``maxmemory``.
    """
    with _folder() as folder:
        port = free_ports(1)[0]
        config = _basics(port) if tls is None else _basics(0) + tls.config(port, clients=client_certificates)
        config += "".join(f"{name} {value}\n" for name, value in (settings or {}).items())
        config += f"requirepass {password}\n" if password else ""
        server = Server(folder, config + "".join(f"{line}\n" for line in lines), port, tls=tls)
        with _running(server):
            yield server


@contextlib.contextmanager
def restricted(acl_line: str, user: str, password: str) -> Iterator[tuple[Server, str]]:
    """One server with the user of an ACL line alone, and the URL for that user."""
    with standalone("user default off", acl_line) as server:
        yield server, f"redis://{user}:{password}@{server.host}"


class Cluster:
    """Masters that share the slots."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers

    @property
    def url(self) -> str:
        """Naming all of them."""
        return f"redis+cluster://{','.join(server.host for server in self.servers)}"

    def owner(self, key: str) -> Server:
        """The server that has a key."""
        slot = key_slot(key.encode())
        for first, last, node, *_ in raw(self.servers[0].admin(), "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == node[1])
        raise LookupError(f"no owner of slot {slot}")


@contextlib.contextmanager
def cluster(masters: int = 3) -> Iterator[Cluster]:
    """A Cluster without replicas, ready."""
    with _folder() as folder:
        ports = free_ports(2 * masters)
        servers = [
            Server(
                folder / str(port),
                _basics(port)
                # its usual bus port, 10,000 further on, is beyond the last port for most of the kernel's choices
                + f"cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout 2000\n",
                port,
            )
            for port, bus in zip(ports[:masters], ports[masters:], strict=True)
        ]
        with _running(*servers):
            shares = [16384 * number // masters for number in range(masters + 1)]
            for number, server in enumerate(servers):
                admin = server.admin()
                raw(admin, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                raw(admin, "CLUSTER", "ADDSLOTSRANGE", shares[number], shares[number + 1] - 1)
                if number:
                    raw(admin, "CLUSTER", "MEET", LOOPBACK, ports[0], ports[masters])
            for server in servers:
                wait_until(lambda server=server: _whole(server, masters), f"{server.host} to see the whole Cluster")  # type: ignore[misc]
            yield Cluster(servers)


def _whole(server: Server, masters: int) -> bool:
    with server.admin() as admin:
        state = raw(admin, "CLUSTER", "INFO").decode()
        return "cluster_state:ok" in state and len(raw(admin, "CLUSTER", "SLOTS")) >= masters


class Sentinels:
    """A master, a replica, and three Sentinels that watch them."""

    def __init__(self, data: Sequence[Server], sentinels: Sequence[Server]) -> None:
        self.data = data
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        """Naming all Sentinels."""
        return f"redis+sentinel://{','.join(server.host for server in self.sentinels)}/{SERVICE}"

    def master_port(self) -> int:
        """Where the first Sentinel that answers believes the master to be."""
        for server in self.sentinels:
            with contextlib.suppress(redis.RedisError):
                found = raw(server.admin(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
                return int(found[1])
        raise LookupError("no Sentinel answers")

    def master(self) -> Server:
        """The server that is the master now."""
        port = self.master_port()
        return next(server for server in self.data if server.port == port)


@contextlib.contextmanager
def sentinels(count: int = 3, password: str = "") -> Iterator[Sentinels]:
    """A set that fails over by itself, half a second after the master has gone.

    Args:
        count: of the Sentinels.
        password: of the Sentinels and of the servers.
    """
    with _folder() as folder:
        ports = free_ports(2 + count)
        secret = f"requirepass {password}\n" if password else ""
        # a master waits five seconds for more replicas before it sends them its data
        common = f"{secret}{_auth('masterauth', password)}repl-diskless-sync-delay 0\n"
        master = Server(folder / "master", _basics(ports[0]) + common, ports[0])
        follow = f"replicaof {LOOPBACK} {ports[0]}\n"
        replica = Server(folder / "replica", _basics(ports[1]) + common + follow, ports[1])
        watchers = [
            Server(folder / str(port), _sentinel_config(port, ports[0], count, password), port, sentinel=True)
            for port in ports[2:]
        ]
        with _running(master, replica):
            # Sentinels look for replicas every ten seconds only: this one has to be there the first time
            first = master.admin(password=password or None)
            wait_until(lambda: "state=online" in _info(first, "replication"), "the replica to follow")
            with _running(*watchers):
                for watcher in watchers:
                    admin = watcher.admin(password=password or None)
                    wait_until(lambda admin=admin: _watching(admin, count), "the Sentinels to find each other")  # type: ignore[misc]
                yield Sentinels((master, replica), watchers)


def _auth(name: str, password: str) -> str:
    return f"{name} {password}\n" if password else ""


def _sentinel_config(port: int, master: int, count: int, password: str) -> str:
    return (
        f"bind {LOOPBACK}\nport {port}\nprotected-mode no\n{_auth('requirepass', password)}"
        f"{_auth('sentinel sentinel-pass', password)}"
        f"sentinel monitor {SERVICE} {LOOPBACK} {master} {count // 2 + 1}\n"
        f"sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 3000\n"
        f"sentinel parallel-syncs {SERVICE} 1\n" + _auth(f"sentinel auth-pass {SERVICE}", password)
    )


def _watching(admin: redis.Redis, count: int) -> bool:
    text = _info(admin, "sentinel")
    return f"slaves=1,sentinels={count}" in text and "status=ok" in text


def _info(admin: redis.Redis, section: str) -> str:
    return str(raw(admin, "INFO", section).decode())
