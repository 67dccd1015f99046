"""How the Redis store reaches its server, over real servers: addresses, start-up checks, broken links, failover."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stillhere.store.cluster.line import Engine
from stillhere.store.contract import StoreRefused, StoreUnavailable
from stillhere.store.redis.addresses import Host, Mode, parse_address
from stillhere.store.redis.checks import _PROBES, about_server, acl_line, library_commands, rights
from stillhere.store.redis.engine import RedisEngine, partition_key
from stillhere.store.redis.library import LIBRARY
from stillhere.store.redis.link import REQUEST_TIMEOUT, Finder, Link, Unsuitable
from tests.contract.redis_topologies import (
    SERVICE,
    Cluster,
    Sentinels,
    Server,
    Tls,
    cluster,
    free_ports,
    raw,
    restricted,
    sentinels,
    standalone,
)

ECHO = "#!lua name=echo\nredis.register_function('echo', function(keys, args) return {keys[1] or '', unpack(args)} end)"
SHORT = 0.3
"""Seconds for a request to a server that shall not answer."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with standalone() as server:
        yield server


@pytest.fixture(scope="module")
def masters() -> Iterator[Cluster]:
    with cluster() as masters:
        yield masters


@pytest.fixture(scope="module")
def watched() -> Iterator[Sentinels]:
    with sentinels() as watched:
        yield watched


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(tmp_path_factory.mktemp("tls"))


@contextlib.asynccontextmanager
async def linked(server: Server, library: str = ECHO, timeout: float = REQUEST_TIMEOUT) -> AsyncIterator[Link]:
    address = parse_address(server.url)
    link = await (await Link(address, address.hosts[0], library, timeout).open()).greet(Mode.STANDALONE)
    try:
        yield link
    finally:
        await link.close()


async def refused(url: str, partitions: int = 1) -> str:
    """The sentence with which a start is refused."""
    with pytest.raises(StoreRefused) as error:
        await RedisEngine(url, partitions).check()
    return str(error.value)


# -- a link ---------------------------------------------------------------------------------------------------------


async def test_a_call_carries_bytes_both_ways_and_the_run_is_that_of_the_process(server: Server) -> None:
    async with linked(server) as link:
        assert await link.call("echo", ["{stillhere:0}:k"], [b"\x00\xff", "text", 7]) == [
            b"{stillhere:0}:k",
            b"\x00\xff",
            b"text",
            b"7",
        ]
        assert link.run == server.admin().info("server")["run_id"]


async def test_a_library_that_the_server_lost_is_loaded_again_and_the_call_goes_through(server: Server) -> None:
    async with linked(server) as link:
        await link.call("echo", [], ["a"])
        server.admin().function_flush()
        assert await link.call("echo", [], ["b"]) == [b"", b"b"]


async def test_two_links_that_find_the_library_missing_both_get_their_answer(server: Server) -> None:
    async with linked(server) as one, linked(server) as other:
        server.admin().function_flush()
        first, second = await asyncio.gather(one.call("echo", [], ["1"]), other.call("echo", [], ["2"]))
        assert (first, second) == ([b"", b"1"], [b"", b"2"])


async def test_many_callers_of_one_link_each_get_their_own_answer(server: Server) -> None:
    async with linked(server) as link:
        answers = await asyncio.gather(*(link.call("echo", [], [number]) for number in range(50)))
        assert answers == [[b"", b"%d" % number] for number in range(50)]


async def test_a_cancelled_request_closes_the_link_so_that_nobody_gets_its_answer(server: Server) -> None:
    async with linked(server) as link:
        server.admin().client_pause(200)
        asking = asyncio.create_task(link.ask("SET", "{stillhere:0}:probe:link", "v"))
        waiting = asyncio.create_task(link.ask("GET", "{stillhere:0}:probe:link"))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        with pytest.raises(StoreUnavailable, match="is closed"):
            await waiting
        assert link.closed
        server.admin().client_unpause()


async def test_a_caller_who_is_cancelled_while_waiting_for_its_turn_does_not_harm_the_link(server: Server) -> None:
    async with linked(server) as link:
        first = asyncio.create_task(link.call("echo", [], ["1"]))
        second = asyncio.create_task(link.call("echo", [], ["2"]))
        await asyncio.sleep(0)
        second.cancel()
        assert await first == [b"", b"1"]
        assert await link.call("echo", [], ["3"]) == [b"", b"3"]


async def test_a_server_that_stands_still_is_given_up_within_the_time_out() -> None:
    with standalone() as server:
        async with linked(server, timeout=SHORT) as link:
            server.pause()
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.3 s"):
                await link.call("echo", [], [])
            assert time.monotonic() - began < SHORT + 1.0
            assert link.closed
            # nor does it let anybody in
            with pytest.raises(StoreUnavailable, match="did not answer within"):
                await RedisEngine(server.url, timeout=SHORT).line(0)


async def test_a_server_that_is_killed_in_the_middle_of_a_request_closes_the_link() -> None:
    with standalone() as server:
        async with linked(server) as link:
            server.pause()
            asking = asyncio.create_task(link.call("echo", [], []))
            await asyncio.sleep(0.05)
            server.kill()
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await asking
            assert link.closed
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await RedisEngine(server.url).line(0)


async def test_a_failing_function_is_told_of_and_closes_the_link(server: Server) -> None:
    library = "#!lua name=fails\nredis.register_function('fails', function() return redis.error_reply('ERR no') end)"
    async with linked(server, library) as link:
        with pytest.raises(StoreUnavailable, match="answered: no"):
            await link.call("fails", [], [])
        assert link.closed


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"maxmemory": "100kb", "maxmemory-policy": "noeviction"}, "is full: raise its maxmemory"),
        ({"min-replicas-to-write": "1"}, "min-replicas-to-write"),
    ],
    ids=["full", "too-few-replicas"],
)
async def test_a_server_that_takes_no_writes_says_what_to_do(settings: dict[str, str], sentence: str) -> None:
    with standalone(settings=settings) as server:
        async with linked(server) as link:
            with pytest.raises(StoreUnavailable, match=sentence):
                await link.ask("SET", "{stillhere:0}:probe:link", "v")


async def test_a_server_that_cannot_save_says_so() -> None:
    with standalone() as server:
        admin = server.admin()
        admin.config_set("save", "3600 1")
        # Redis renames the finished snapshot over this name
        (server.folder / "dump.rdb").mkdir()
        (server.folder / "dump.rdb" / "in-the-way").touch()
        admin.set("changed", "1")
        raw(admin, "BGSAVE")
        for _ in range(200):
            if admin.info("persistence")["rdb_last_bgsave_status"] == "err":
                break
            await asyncio.sleep(0.02)
        async with linked(server) as link:
            with pytest.raises(StoreUnavailable, match="could not save to its disk"):
                await link.ask("SET", "{stillhere:0}:probe:link", "v")


async def test_a_script_of_somebody_that_runs_for_long_says_so() -> None:
    with standalone(settings={"busy-reply-threshold": "10"}) as server:
        async with linked(server) as link:
            running = asyncio.create_task(asyncio.to_thread(_spin, server))
            await asyncio.sleep(0.2)
            with pytest.raises(StoreUnavailable, match="busy with a script"):
                await link.ask("GET", "{stillhere:0}:probe:link")
            server.admin().script_kill()
            await running


def _spin(server: Server) -> None:
    with contextlib.suppress(Exception):
        server.admin().eval("while true do end", 0)


# -- the start ------------------------------------------------------------------------------------------------------


async def test_a_fit_server_passes_and_keeps_nothing_of_the_probes(server: Server) -> None:
    server.admin().flushall()
    engine: Engine = RedisEngine(server.url)
    await engine.check()
    await engine.check()
    assert server.admin().keys("*") == []
    assert (engine.kind, engine.partitions) == ("redis", 1)
    await engine.close()


async def test_nobody_there_is_unavailable_and_not_refused() -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await RedisEngine(f"redis://127.0.0.1:{free_ports(1)[0]}").check()


async def test_passwords_missing_wrong_and_needless_are_refused_without_being_repeated() -> None:
    with standalone(password="open-sesame") as server:
        await RedisEngine(f"redis://:open-sesame@{server.host}").check()
        assert "asks for a password" in await refused(server.url)
        wrong = await refused(f"redis://:hush-hush@{server.host}")
        assert "refuses the user or the password" in wrong and "hush" not in wrong
        # a running node waits: the password may be about to be changed
        with pytest.raises(StoreUnavailable, match="refuses the user"):
            await RedisEngine(f"redis://:hush-hush@{server.host}").line(0)


async def test_a_needless_password_is_refused(server: Server) -> None:
    assert "leave it out" in await refused(f"redis://:hush-hush@{server.host}")


async def test_the_user_with_the_fewest_rights_is_enough() -> None:
    with restricted(acl_line(LIBRARY.text, password="pw"), "stillhere", "pw") as (_, url):
        engine = RedisEngine(url)
        await engine.check()
        line, reader = await engine.line(0), await engine.reader(0)
        assert not (await reader.read(0, 0, 10, 0.0)).gap
        await line.close()
        await reader.close()


# the first two are not needed for one server with one database, and INFO comes before the probes
@pytest.mark.parametrize("right", sorted(set(rights(LIBRARY.text)) - {"select", "cluster|slots", "info"}))
async def test_a_right_that_is_missing_is_named(right: str) -> None:
    with _less_than_all() as (server, url):
        server.admin(username="admin", password="admin").execute_command("ACL", "SETUSER", "stillhere", f"-{right}")  # type: ignore[no-untyped-call]
        sentence = await refused(url)
        assert f"+{right}" in sentence and "docs/redis.md" in sentence


@contextlib.contextmanager
def _less_than_all() -> Iterator[tuple[Server, str]]:
    line = acl_line(LIBRARY.text, password="pw")
    with standalone("user admin on >admin ~* &* +@all", line) as server:
        yield server, f"redis://stillhere:pw@{server.host}"


async def test_missing_info_and_missing_keys_are_named() -> None:
    for line, sentence in (
        ("user u on >p ~{stillhere:* +@all -info", "info"),
        ("user u on >p ~other:* +@all", "~{stillhere:*"),
    ):
        with restricted(line, "u", "p") as (_, url):
            assert sentence in await refused(url)


def test_every_command_of_the_library_has_a_probe() -> None:
    assert library_commands(LIBRARY.text) <= {name.lower() for name, _ in _PROBES}


def test_the_page_for_operators_has_the_acl_line() -> None:
    page = (Path(__file__).parents[2] / "docs" / "redis.md").read_text()
    assert acl_line(LIBRARY.text) in page


async def test_a_server_that_throws_keys_away_when_full_is_refused(server: Server) -> None:
    with standalone(settings={"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}) as full:
        assert "set maxmemory-policy noeviction" in await refused(full.url)
    with standalone(settings={"maxmemory": "100mb", "maxmemory-policy": "noeviction"}) as full:
        await RedisEngine(full.url).check()
    with standalone(settings={"maxmemory": "0", "maxmemory-policy": "allkeys-lru"}) as full:
        await RedisEngine(full.url).check()


async def test_a_full_server_is_unavailable_at_the_start() -> None:
    with standalone(settings={"maxmemory": "100kb", "maxmemory-policy": "noeviction"}) as server:
        engine = RedisEngine(server.url)
        with pytest.raises(StoreUnavailable, match="is full"):
            await engine.check()


async def test_a_database_that_does_not_exist_is_refused(server: Server) -> None:
    await RedisEngine(f"{server.url}/3").check()
    assert "does not have the database" in await refused(f"{server.url}/999")


@pytest.mark.parametrize(
    ("info", "accepted"),
    [
        ({"redis_version": "7.0.15"}, True),
        ({"redis_version": "8.2.1"}, True),
        ({"redis_version": "6.2.14"}, False),
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.0.6"}, True),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, True),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.11"}, False),
        ({}, False),
    ],
)
def test_versions_that_are_too_old_are_refused(info: dict[str, str], accepted: bool) -> None:
    problem = about_server(info, Mode.STANDALONE, Host("h", 1))
    assert (problem is None) is accepted
    assert accepted or "needs Redis 7.0 or later, or Valkey 8.0 or later" in str(problem)


# -- TLS ------------------------------------------------------------------------------------------------------------


async def test_tls_with_a_known_authority_passes_and_without_is_refused(certificates: Tls, tmp_path: Path) -> None:
    with standalone(tls=certificates) as server:
        await RedisEngine(f"rediss://{server.host}?ssl_ca_certs={certificates.authority}").check()
        assert "is not accepted" in await refused(f"rediss://{server.host}")
        other = Tls(tmp_path / "other")
        assert "ssl_ca_certs" in await refused(f"rediss://{server.host}?ssl_ca_certs={other.authority}")
        assert "cannot be read" in await refused(f"rediss://{server.host}?ssl_ca_certs={tmp_path}/none.pem")
        assert "speaks TLS: write rediss://" in await refused(server.url)


async def test_a_certificate_for_another_name_is_refused_unless_the_name_does_not_matter(tmp_path: Path) -> None:
    tls = Tls(tmp_path / "elsewhere", names=("redis.example",))
    with standalone(tls=tls) as server:
        url = f"rediss://{server.host}?ssl_ca_certs={tls.authority}"
        assert "as the certificate names it" in await refused(url)
        await RedisEngine(f"{url}&ssl_check_hostname=false").check()


async def test_a_client_certificate_is_asked_for_and_given(certificates: Tls) -> None:
    with standalone(tls=certificates, client_certificates=True) as server:
        url = f"rediss://{server.host}?ssl_ca_certs={certificates.authority}"
        assert "asks for a client certificate" in await refused(url)
        await RedisEngine(f"{url}&ssl_certfile={certificates.certificate}&ssl_keyfile={certificates.key}").check()


async def test_tls_to_a_server_that_does_not_speak_it_is_refused(server: Server) -> None:
    assert "does not speak TLS: write redis://" in await refused(f"rediss://{server.host}")


# -- Sentinel and Cluster -------------------------------------------------------------------------------------------


async def test_the_sentinels_name_the_master_and_a_replica_is_refused(watched: Sentinels) -> None:
    engine = RedisEngine(watched.url)
    await engine.check()
    link = await engine._link(0)
    assert link.host.port == watched.master_port()
    await engine.close()
    assert link.closed
    replica = next(server for server in watched.data if server.port != watched.master_port())
    assert "is a replica" in await refused(replica.url)


async def test_wrong_words_for_a_sentinel_set_are_refused(watched: Sentinels, server: Server) -> None:
    sentinel = watched.sentinels[0]
    assert "is a Sentinel: write redis+sentinel://" in await refused(sentinel.url)
    assert "knows no master called 'nobody'" in await refused(f"redis+sentinel://{sentinel.host}/nobody")
    assert "is no Sentinel" in await refused(f"redis+sentinel://{server.host}/{SERVICE}")


async def test_sentinels_that_ask_for_a_password_get_that_of_the_url() -> None:
    with sentinels(count=1, password="pw") as watched:
        url = watched.url.replace("://", "://:pw@")
        await RedisEngine(f"{url}/2").check()
        assert "asks for a password" in await refused(watched.url)
        assert "refuses the user" in await refused(watched.url.replace("://", "://:no@"))


async def test_after_a_failover_the_new_master_is_found_and_has_another_run() -> None:
    with sentinels() as watched:
        engine = RedisEngine(watched.url, timeout=SHORT * 2)
        old = await engine._link(0)
        # the first Sentinel goes together with the master: the others are enough
        watched.sentinels[0].kill()
        watched.master().kill()
        with pytest.raises(StoreUnavailable):
            await old.ask("TIME")
        new: Link | None = None
        end = time.monotonic() + 30
        while new is None and time.monotonic() < end:
            try:
                new = await engine._link(0)
            except StoreUnavailable:
                await asyncio.sleep(0.1)
        assert new is not None and new.host.port != old.host.port
        assert new.run != old.run
        await new.ask("SET", "{stillhere:0}:probe:link", "v")
        await engine.close()


async def test_a_master_that_becomes_a_replica_closes_the_link(server: Server) -> None:
    with standalone() as demoted:
        async with linked(demoted) as link:
            demoted.admin().replicaof("127.0.0.1", str(server.port))
            with pytest.raises(StoreUnavailable, match="is a replica now"):
                await link.ask("SET", "{stillhere:0}:probe:link", "v")


async def test_each_partition_of_a_cluster_is_reached_at_the_owner_of_its_slot(masters: Cluster) -> None:
    engine = RedisEngine(masters.url, 8)
    await engine.check()
    owners = set()
    for partition in range(8):
        link = await engine._link(partition)
        assert link.host.port == masters.owner(partition_key(partition, "")).port
        owners.add(link.host.port)
        await (await engine.line(partition)).close()
    assert len(owners) > 1
    await engine.close()


async def test_one_node_of_a_cluster_is_enough_to_find_the_others(masters: Cluster) -> None:
    dead = free_ports(1)[0]
    address = parse_address(f"redis+cluster://127.0.0.1:{dead},{masters.servers[2].host}")
    host = await Finder(address, 1.0).find(partition_key(3, ""))
    assert host.port == masters.owner(partition_key(3, "")).port


async def test_the_wrong_node_of_a_cluster_closes_the_link(masters: Cluster) -> None:
    key = partition_key(0, "probe:link")
    wrong = next(server for server in masters.servers if server is not masters.owner(key))
    async with linked(wrong) as link:
        with pytest.raises(StoreUnavailable, match="no longer has this slot"):
            await link.ask("GET", key)
        assert link.closed


async def test_a_cluster_and_a_single_server_are_not_taken_for_each_other(masters: Cluster, server: Server) -> None:
    assert "write redis+cluster://" in await refused(masters.servers[0].url)
    # a Cluster of Valkey may have several databases, this one has one
    assert "does not have the database" in await refused(f"{masters.servers[0].url}/1")
    assert "is not part of a Cluster" in await refused(f"redis+cluster://{server.host}", 4)


async def test_a_cluster_that_has_lost_slots_is_unavailable() -> None:
    with cluster() as masters:
        engine = RedisEngine(masters.url, 4, timeout=SHORT * 4)
        masters.owner(partition_key(0, "")).kill()
        with pytest.raises(StoreUnavailable) as error:
            await engine.check()
        assert not isinstance(error.value, Unsuitable)
