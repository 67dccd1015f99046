"""One connection to one Redis server, and the way to the right server.

A link is never mended: whatever goes wrong in the middle of a request closes it, since a reply that is still on its way
would answer the next request, and since the store must know over which connection a request came (rule R2: the channel
number). Nothing is repeated here either, with one exception: a call of a function that the server does not have yet was
not executed.

::

    StoreUnavailable
    ├── Unreached        no connection came about; says to which host
    └── Unsuitable       somebody has to change something: at the start this refuses, later it is tried again
"""

from __future__ import annotations

import asyncio
import inspect
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis.exceptions as failures
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot

from stillhere.store.contract import StoreUnavailable
from stillhere.store.redis.addresses import Address, Host, Mode

REQUEST_TIMEOUT = 2.0
"""Seconds for one request, and for opening a connection (failure matrix, row 11)."""

Word = bytes | str | int
"""A part of a request."""

CERTIFICATE_WANTED = "asks for a client certificate: add ssl_certfile= and ssl_keyfile= to store.url"
ACL_HELP = "the page docs/redis.md has the ACL line"


class Unreached(StoreUnavailable):
    """No connection came about, or it ended before the server had said anything."""

    def __init__(self, sentence: str, host: Host) -> None:
        super().__init__(sentence)
        self.host = host


class Unsuitable(StoreUnavailable):
    """The server answers, but not as it must; waiting does not help, an operator does."""


_STATES: Mapping[str, str] = {
    "OOM": "is full: raise its maxmemory, or give Stillhere a server of its own; under the policy noeviction it keeps "
    "what it has",
    "MISCONF": "takes no writes, since it could not save to its disk; its log says why",
    "NOREPLICAS": "takes no writes, since fewer replicas are in reach than its min-replicas-to-write asks for; start "
    "them, or lower it",
    "READONLY": "is a replica now; the master is looked for again",
    "MASTERDOWN": "is a replica that has lost its master",
    "CLUSTERDOWN": "says that the Cluster is down: some of its slots are not served",
    "LOADING": "is still loading its data",
    "BUSY": "is busy with a script of somebody's",
    "MOVED": "no longer has this slot; its owner is looked for again",
    "ASK": "is giving this slot to another node",
    "TRYAGAIN": "is giving this slot to another node",
    "UNBLOCKED": "has changed its role; the master is looked for again",
}
"""What servers answer when they cannot serve; their part after "Redis at host:port"."""

_CODES: Sequence[tuple[type[Exception], str]] = (
    (failures.OutOfMemoryError, "OOM"),
    (failures.ReadOnlyError, "READONLY"),
    (failures.MasterDownError, "MASTERDOWN"),
    (failures.ClusterDownError, "CLUSTERDOWN"),
    (failures.BusyLoadingError, "LOADING"),
    (failures.MovedError, "MOVED"),
    (failures.AskError, "ASK"),
    (failures.TryAgainError, "TRYAGAIN"),
)
"""redis-py takes the code out of a message for which it has a class."""


def explain(error: Exception, host: Host, seconds: float) -> StoreUnavailable:
    """A sentence for whatever went wrong.

    Args:
        error: of redis-py, or of asyncio.
        host: where.
        seconds: the time-out that was in force.
    """
    at = f"Redis at {host}"
    if isinstance(error, StoreUnavailable):
        return error
    if isinstance(error, failures.AuthenticationError):
        return Unsuitable(f"{at} {_login_problem(str(error))}")
    if isinstance(error, TimeoutError | failures.TimeoutError):
        return Unreached(f"{at} did not answer within {seconds:g} s", host)
    text = str(error)[:200]
    code = next((code for kind, code in _CODES if isinstance(error, kind)), text.partition(" ")[0])
    if code in _STATES:
        return StoreUnavailable(f"{at} {_STATES[code]}")
    if isinstance(error, failures.NoPermissionError) or "user executing the script can't" in text:
        return Unsuitable(f"{at} lacks a right for this user: {text}; {ACL_HELP}")
    if isinstance(error, failures.ResponseError):
        return StoreUnavailable(f"{at} answered: {text}")
    return _unreached(error, host, at)


def _login_problem(text: str) -> str:
    if "called without any password" in text or "no password is set" in text:
        return "has no password for the user default; leave it out of store.url, or write user:password"
    if "Authentication required" in text:
        return "asks for a password: write user:password@ before the host in store.url"
    return "refuses the user or the password of store.url"


def _unreached(error: Exception, host: Host, at: str) -> StoreUnavailable:
    tls = _within(error, ssl.SSLError)
    if isinstance(tls, ssl.SSLCertVerificationError):
        return Unsuitable(
            f"the certificate of {at} is not accepted: {tls.verify_message}; name its authority with ssl_ca_certs=, or "
            "the host as the certificate names it"
        )
    if tls is not None and "CERTIFICATE_REQUIRED" in str(tls):
        return Unsuitable(f"{at} {CERTIFICATE_WANTED}")
    system = _within(error, OSError)
    why = getattr(system, "strerror", None) or str(system or error) or type(error).__name__
    return Unreached(f"{at} cannot be reached: {why[:200]}", host)


def _within(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """The first error of a kind in the chain of causes."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None or isinstance(seen, kind):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


# redis-py would tell its name with CLIENT SETINFO, for which the user would need a right; how to leave it out depends
# on the version.
_NAMELESS: Mapping[str, None] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(AbstractConnection).parameters
    else {"lib_name": None, "lib_version": None}
)


class Link:
    """One connection. One request at a time; who comes meanwhile waits."""

    run = ""
    """The ``run_id`` of the server's process: another one after each start."""

    def __init__(
        self,
        address: Address,
        host: Host,
        library: str,
        timeout: float,
        *,
        credentials: bool = True,
        database: bool = True,
    ) -> None:
        """A link that is not open yet.

        Args:
            address: how to connect.
            host: to whom.
            library: the text of the function library, loaded when the server does not have it.
            timeout: seconds for a request, and for opening.
            credentials: whether to log in.
            database: whether to select one; Sentinels have none.
        """
        options = address.connection_options(credentials=credentials, db=address.db if database else 0)
        kind: Callable[..., Connection] = Connection if address.tls is None else SSLConnection
        self._connection = kind(
            host=host.name,
            port=host.port,
            # RESP2: its replies are the same on every version
            protocol=2,
            # redis-py must repeat nothing and time nothing out: see the module's text
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=None,
            **options,
            **_NAMELESS,
        )
        self.host = host
        self._library = library
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more."""
        return self._closed

    async def open(self) -> Link:
        """Connect and log in.

        Raises:
            StoreUnavailable: with a sentence.
        """
        try:
            async with asyncio.timeout(self._timeout):
                await self._connection.connect()  # type: ignore[no-untyped-call]
        except BaseException as error:
            await self.close()
            if not isinstance(error, Exception):
                raise
            if isinstance(error, failures.ResponseError) and not isinstance(error, failures.NoPermissionError):
                # AUTH went well, SELECT did not
                clustered = "cluster mode" in str(error)
                right = f"write redis+cluster://{self.host}" if clustered else "choose a lower number"
                raise Unsuitable(
                    f"Redis at {self.host} does not have the database of store.url ({str(error)[:80]}): {right}"
                ) from error
            raise explain(error, self.host, self._timeout) from error
        return self

    async def greet(self, mode: Mode) -> Link:
        """Learn the run of the server's process, and that it is a master.

        Raises:
            StoreUnavailable: with a sentence.
        """
        server, replication = await self.ask_all([("INFO", "server"), ("INFO", "replication")])
        about = info_fields(server) | info_fields(replication)
        self.run = about.get("run_id", "")
        problem: StoreUnavailable | None = None
        # Valkey calls it server_mode
        if "sentinel" in (about.get("redis_mode"), about.get("server_mode")):
            problem = Unsuitable(f"{self.host} is a Sentinel: write redis+sentinel://{self.host}/service")
        elif not self.run:
            problem = Unsuitable(f"{self.host} does not tell its run_id, as Redis and Valkey do")
        elif about.get("role") != "master":
            # the Sentinels or the Cluster will know better in a moment; a fixed address will not
            kind = Unsuitable if mode is Mode.STANDALONE else StoreUnavailable
            problem = kind(f"Redis at {self.host} is a replica, and Stillhere writes: it needs the master")
        if problem is not None:
            await self.close()
            raise problem
        return self

    async def call(self, function: str, keys: Sequence[Word], args: Sequence[Word], timeout: float = 0.0) -> Any:
        """Call a function of the library.

        Args:
            function: its name.
            keys: all keys that it touches.
            args: the rest.
            timeout: seconds; 0 for those of the link.

        Returns:
            The reply, texts as bytes.

        Raises:
            StoreUnavailable: it may have been executed or not; the link is closed.
        """
        seconds = timeout or self._timeout
        request = ("FCALL", function, len(keys), *keys, *args)
        async with self._turn:
            reply = (await self._exchange([request], seconds))[0]
            if isinstance(reply, failures.ResponseError) and "Function not found" in str(reply):
                loaded = (await self._exchange([("FUNCTION", "LOAD", self._library)], seconds))[0]
                # another node may have been quicker
                if isinstance(loaded, failures.ResponseError) and "already exists" not in str(loaded):
                    await self._fail(loaded, seconds)
                reply = (await self._exchange([request], seconds))[0]
            if isinstance(reply, failures.ResponseError):
                await self._fail(reply, seconds)
            return reply

    async def ask(self, *request: Word, timeout: float = 0.0) -> Any:
        """Send one command; arguments and errors are those of :meth:`call`."""
        async with self._turn:
            reply = (await self._exchange([request], timeout or self._timeout))[0]
            if isinstance(reply, failures.ResponseError):
                await self._fail(reply, timeout or self._timeout)
            return reply

    async def ask_all(self, requests: Sequence[Sequence[Word]], *, errors: bool = False) -> list[Any]:
        """Send commands in one go.

        Args:
            requests: the commands.
            errors: give an error reply back as a value in its place, and keep the link.

        Raises:
            StoreUnavailable: the link is closed.
        """
        async with self._turn:
            replies = await self._exchange(requests, self._timeout)
            for reply in replies:
                if not errors and isinstance(reply, failures.ResponseError):
                    await self._fail(reply, self._timeout)
            return replies

    async def close(self) -> None:
        """End the connection; never raises."""
        self._closed = True
        try:
            # does not wait for the other side, which may be gone
            await self._connection.disconnect(nowait=True)
        except (failures.RedisError, OSError):
            pass

    async def _fail(self, error: Exception, seconds: float) -> None:
        await self.close()
        raise explain(error, self.host, seconds) from error

    async def _exchange(self, requests: Sequence[Sequence[Word]], seconds: float) -> list[Any]:
        """Send, and read as many replies; error replies are values."""
        if self._closed:
            raise StoreUnavailable(f"the connection to Redis at {self.host} is closed")
        try:
            async with asyncio.timeout(seconds):
                packed = self._connection.pack_commands(requests)
                await self._connection.send_packed_command(packed, check_health=False)
                return [await self._reply() for _ in requests]
        except BaseException as error:
            # a cancelled caller too: its reply is still on its way
            await self.close()
            if not isinstance(error, Exception):
                raise
            raise explain(error, self.host, seconds) from error

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response(disable_decoding=True)
        except failures.ResponseError as error:
            return error


def info_fields(reply: bytes) -> dict[str, str]:
    """The fields of an answer to ``INFO``."""
    lines = reply.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


class Finder:
    """Knows where a partition is: asks anew for each connection."""

    def __init__(self, address: Address, timeout: float) -> None:
        """A finder.

        Args:
            address: the hosts to ask, or the one host.
            timeout: seconds that each host has for its answer.
        """
        self.address = address
        self._hosts = list(address.hosts)
        self._timeout = timeout

    async def find(self, key: str) -> Host:
        """The server that has a key.

        Args:
            key: any key of the partition.

        Raises:
            StoreUnavailable: with a sentence.
        """
        if self.address.mode is Mode.STANDALONE:
            return self.address.hosts[0]
        problems: list[StoreUnavailable] = []
        for host in tuple(self._hosts):
            try:
                if self.address.mode is Mode.SENTINEL:
                    found = await self._ask_sentinel(host, credentials=False)
                else:
                    found = await self._ask_node(host, key_slot(key.encode()))
            except StoreUnavailable as problem:
                problems.append(problem)
                continue
            # whoever answered is asked first the next time
            self._hosts.remove(host)
            self._hosts.insert(0, host)
            return found
        # as long as one of them may still answer better, waiting may help
        raise next((problem for problem in problems if not isinstance(problem, Unsuitable)), problems[0])

    async def _ask_sentinel(self, host: Host, *, credentials: bool) -> Host:
        link = Link(self.address, host, "", self._timeout, credentials=credentials, database=False)
        try:
            await link.open()
            name = self.address.service
            reply = (await link.ask_all([("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)], errors=True))[0]
        except Unsuitable as problem:
            # Sentinels often have no password; those that have one are asked again, with that of the URL
            if credentials or not self.address.password or "asks for a password" not in str(problem):
                raise
            return await self._ask_sentinel(host, credentials=True)
        finally:
            await link.close()
        if isinstance(reply, failures.NoPermissionError):
            raise Unsuitable(f"the Sentinel at {host} does not let this user ask for the master: {reply}")
        if isinstance(reply, failures.ResponseError):
            raise Unsuitable(f"{host} is no Sentinel: write redis://{host} if it is the server itself")
        if reply is None:
            raise Unsuitable(f"the Sentinel at {host} knows no master called {self.address.service!r}")
        return Host(reply[0].decode(), int(reply[1]))

    async def _ask_node(self, host: Host, slot: int) -> Host:
        link = Link(self.address, host, "", self._timeout)
        try:
            reply = (await (await link.open()).ask_all([("CLUSTER", "SLOTS")], errors=True))[0]
        finally:
            await link.close()
        if isinstance(reply, failures.ResponseError) and "cluster support disabled" in str(reply):
            raise Unsuitable(f"Redis at {host} is not part of a Cluster: write redis://{host}")
        if isinstance(reply, failures.ResponseError):
            raise explain(reply, host, self._timeout)
        for first, last, owner, *_ in reply:
            if first <= slot <= last:
                # a node that does not know its own name leaves it out: it is the one we asked
                return Host((owner[0] or b"").decode() or host.name, int(owner[1]))
        raise StoreUnavailable(f"no node of the Cluster serves slot {slot}, as the node at {host} knows it")
