"""The faults do what they are named after: tests of the network and of the Redis that the rows stand on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from tests.acceptance.faults.background import Background
from tests.acceptance.faults.proxy import BLACK_HOLE, SWALLOW, Fault, FaultProxy
from tests.acceptance.faults.redis_process import RedisProcess, client, follow, promote
from tests.acceptance.watching import wait_until


class Echo:
    """Answers with what it is told, and remembers it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.told: list[bytes] = []
        self.ends = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                tcp, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(tcp,), daemon=True).start()

    def _answer(self, tcp: socket.socket) -> None:
        try:
            while chunk := tcp.recv(65536):
                self.told.append(chunk)
                tcp.sendall(chunk)
        except OSError:
            pass
        self.ends += 1
        tcp.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    background = Background("proxy")
    found = FaultProxy(background, "127.0.0.1", echo.port, words=(b"READ",))
    yield found
    found.close()
    background.close()


def dial(proxy: FaultProxy, say: bytes = b"") -> socket.socket:
    tcp = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    if say:
        tcp.sendall(say)
        assert tcp.recv(100) == say
    return tcp


def silent(tcp: socket.socket, seconds: float = 0.2) -> bool:
    tcp.settimeout(seconds)
    try:
        return tcp.recv(100) == b"never"
    except TimeoutError:
        return True
    finally:
        tcp.settimeout(5)


def turned_away(proxy: FaultProxy) -> bool:
    try:
        with dial(proxy) as tcp:
            tcp.sendall(b"x")
            return not tcp.recv(100)
    except OSError:  # already while connecting, or only then: as the kernel has it
        return True


def test_a_black_hole_delivers_what_it_held_and_the_end_when_it_heals(proxy: FaultProxy, echo: Echo) -> None:
    with dial(proxy, b"before") as tcp:
        proxy.black_hole()
        tcp.sendall(b"held")
        assert silent(tcp)
    wait_until(lambda: proxy.held() == 4)
    assert echo.told == [b"before"]
    proxy.heal()
    wait_until(lambda: echo.told[1:] == [b"held"] and echo.ends == 1)


def test_one_direction_can_be_lost_alone(proxy: FaultProxy, echo: Echo) -> None:
    with dial(proxy, b"before") as tcp:
        proxy.fault(down=SWALLOW)
        tcp.sendall(b"applied")
        assert silent(tcp)
        assert echo.told == [b"before", b"applied"]
        proxy.heal()
        tcp.sendall(b"after")
        assert tcp.recv(100) == b"after"


def test_only_the_connections_that_said_a_word_are_hit(proxy: FaultProxy) -> None:
    with dial(proxy, b"XREAD") as reader, dial(proxy, b"PUT") as writer:
        proxy.fault(BLACK_HOLE, BLACK_HOLE, saying=b"READ")
        reader.sendall(b"a")
        writer.sendall(b"b")
        assert writer.recv(100) == b"b"
        assert silent(reader)
        assert proxy.count() == 2 and proxy.count(saying=b"READ") == 1
        with dial(proxy, b"READ"):
            pass  # a new one is not hit
        assert proxy.reset(saying=b"READ") >= 1
        with pytest.raises(ConnectionResetError):
            reader.recv(100)


def test_a_delay_and_a_drip_only_make_things_late(proxy: FaultProxy) -> None:
    with dial(proxy, b"before") as tcp:
        proxy.delay(0.1)
        begin = time.monotonic()
        tcp.sendall(b"late")
        assert tcp.recv(100) == b"late"
        assert time.monotonic() - begin >= 0.2
        proxy.fault(down=Fault(drip=0.01))
        tcp.sendall(b"slow")
        assert tcp.recv(100) == b"s"
        assert b"".join(tcp.recv(1) for _ in range(3)) == b"low"


def test_a_refusing_proxy_resets_old_and_new_connections(proxy: FaultProxy) -> None:
    with dial(proxy, b"before") as tcp:
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            tcp.recv(100)
    assert turned_away(proxy)
    proxy.heal()
    dial(proxy, b"again").close()


def test_a_half_closed_connection_still_carries_what_is_sent(proxy: FaultProxy, echo: Echo) -> None:
    with dial(proxy, b"before") as tcp:
        proxy.half_close()
        assert tcp.recv(100) == b""
        wait_until(lambda: echo.ends == 1)


def test_a_request_of_a_cut_connection_is_executed_late(proxy: FaultProxy, echo: Echo) -> None:
    with dial(proxy, b"before") as tcp:
        proxy.fault(up=BLACK_HOLE, new=False)
        tcp.sendall(b"old")
        wait_until(lambda: proxy.held() == 3)
        assert proxy.detach() == 3
        with pytest.raises(ConnectionResetError):
            tcp.recv(100)
    with dial(proxy, b"new"):
        assert echo.told == [b"before", b"new"]
        assert proxy.deliver() == 1
        wait_until(lambda: echo.told == [b"before", b"new", b"old"])


def test_a_proxy_leads_to_another_server(proxy: FaultProxy) -> None:
    other = Echo()
    with dial(proxy, b"before") as tcp:
        proxy.lead_to("127.0.0.1", other.port)
        with pytest.raises(ConnectionResetError):
            tcp.recv(100)
    dial(proxy, b"there").close()
    other.listener.close()
    assert other.told == [b"there"]


def test_a_persistent_redis_keeps_its_data_and_another_comes_back_empty() -> None:
    with RedisProcess(persistent=True) as server:
        server.admin.set("a", "1")
        run = server.info("server")["run_id"]
        server.kill()
        server.start()
        assert server.admin.get("a") == b"1"
        assert server.info("server")["run_id"] != run
        server.kill()
        server.wipe()
        server.start()
        assert server.admin.get("a") is None


def test_a_replica_takes_over_and_a_stopped_redis_answers_nobody() -> None:
    with RedisProcess() as master, RedisProcess() as replica:
        follow(replica, master.port)
        master.admin.set("a", "1")
        master.admin.wait(1, 1000)
        master.pause()
        hasty = client(master.port, 0.2)
        with pytest.raises(redis.TimeoutError):
            hasty.ping()
        hasty.close()
        promote(replica)
        assert replica.admin.get("a") == b"1"
        assert replica.admin.set("b", "2")
        master.resume()
        assert master.admin.ping()
