"""Reading the log of a partition: streams written by hand, holes, other epochs, other programs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from stillhere.core.events import Notice, NoticeKind
from stillhere.store.cluster.line import Reader
from stillhere.store.contract import StoreUnavailable
from stillhere.store.redis.codec import pack
from stillhere.store.redis.engine import LOG_FIELD, RedisEngine, partition_key
from tests.contract.redis_topologies import Server, standalone

LOG = partition_key(0, "log")
E, E2 = 1_800_000_000_000_123, 1_800_000_000_001_999
"""Two epochs, the second newer."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with standalone() as server:
        yield server


@pytest.fixture
async def reader(server: Server) -> AsyncIterator[Reader]:
    server.admin().flushall()
    engine = RedisEngine(server.url)
    reader: Reader = await engine.reader(0)
    yield reader
    await reader.close()
    await engine.close()


def write(server: Server, epoch: int, *places: int) -> None:
    """As the function library does."""
    for seq in places:
        entry = pack(["n", NoticeKind.DRAIN.value, seq, 5.0, "n1", "", "", "", ""])
        server.admin().xadd(LOG, {LOG_FIELD: entry}, id=f"{epoch}-{seq}")


def garbage(server: Server, epoch: int, seq: int) -> None:
    server.admin().xadd(LOG, {b"somebody": b"else"}, id=f"{epoch}-{seq}")


async def test_entries_come_in_order_from_a_place_on(server: Server, reader: Reader) -> None:
    write(server, E, 1, 2, 3)
    told = await reader.read(E, 1, 10, 0.0)
    assert [entry[:2] for entry in told.entries] == [(E, 2), (E, 3)]
    assert told.entries[0][2] == Notice(NoticeKind.DRAIN, 2, 5.0, "n1")
    assert (told.gap, told.strange) == (False, 0)
    assert (await reader.read(E, 3, 10, 0.0)).entries == []


async def test_no_more_than_the_limit_comes_at_once(server: Server, reader: Reader) -> None:
    write(server, E, *range(1, 8))
    told = await reader.read(E, 0, 3, 0.0)
    assert [entry[1] for entry in told.entries] == [1, 2, 3]
    assert [entry[1] for entry in (await reader.read(E, 3, 3, 0.0)).entries] == [4, 5, 6]


async def test_a_reader_waits_for_news_and_no_longer(server: Server, reader: Reader) -> None:
    write(server, E, 1)
    began = time.monotonic()
    reading = asyncio.create_task(reader.read(E, 1, 10, 20.0))
    await asyncio.sleep(0.1)
    assert not reading.done()
    write(server, E, 2)
    assert [entry[1] for entry in (await reading).entries] == [2]
    assert time.monotonic() - began < 10
    began = time.monotonic()
    told = await reader.read(E, 2, 10, 0.1)
    assert told.entries == [] and not told.gap
    assert 0.09 < time.monotonic() - began < 5


async def test_a_trimmed_log_is_a_gap(server: Server, reader: Reader) -> None:
    write(server, E, *range(1, 11))
    server.admin().xtrim(LOG, maxlen=4, approximate=False)
    assert (await reader.read(E, 5, 100, 0.0)).gap
    told = await reader.read(E, 6, 100, 0.0)
    assert not told.gap and [entry[1] for entry in told.entries] == [7, 8, 9, 10]


async def test_a_log_that_was_trimmed_to_nothing_is_a_gap(server: Server, reader: Reader) -> None:
    write(server, E, *range(1, 11))
    server.admin().xtrim(LOG, maxlen=0, approximate=False)
    assert (await reader.read(E, 5, 100, 0.0)).gap
    assert not (await reader.read(E, 10, 100, 0.0)).gap


async def test_a_hole_in_the_middle_is_told_after_what_came_before_it(server: Server, reader: Reader) -> None:
    write(server, E, 1, 2, 3, 4)
    server.admin().xdel(LOG, f"{E}-3")
    told = await reader.read(E, 0, 100, 0.0)
    assert not told.gap and [entry[1] for entry in told.entries] == [1, 2]
    assert (await reader.read(E, 2, 100, 0.0)).gap


async def test_a_new_epoch_is_a_gap(server: Server, reader: Reader) -> None:
    write(server, E, 1, 2)
    write(server, E2, 1)
    told = await reader.read(E, 1, 100, 0.0)
    assert [entry[:2] for entry in told.entries] == [(E, 2)]
    told = await reader.read(E, 2, 100, 0.0)
    assert told.gap and told.entries == ()


async def test_an_epoch_in_which_nothing_was_written_yet_is_no_gap(server: Server, reader: Reader) -> None:
    assert not (await reader.read(E, 0, 100, 0.0)).gap
    write(server, E, 1, 2)
    told = await reader.read(E2, 0, 100, 0.0)
    assert not told.gap and told.entries == []
    write(server, E2, 1)
    assert [entry[:2] for entry in (await reader.read(E2, 0, 100, 0.0)).entries] == [(E2, 1)]


async def test_a_log_that_is_behind_the_place_is_a_gap(server: Server, reader: Reader) -> None:
    """A replica became the master and had not heard of the last entries."""
    write(server, E, 1, 2, 3)
    assert (await reader.read(E, 4, 100, 0.0)).gap


async def test_a_log_that_is_gone_is_a_gap(server: Server, reader: Reader) -> None:
    write(server, E, 1, 2)
    reading = asyncio.create_task(reader.read(E, 2, 100, 0.3))
    await asyncio.sleep(0.1)
    server.admin().delete(LOG)
    assert (await reading).gap
    assert (await reader.read(E, 2, 100, 0.0)).gap


async def test_what_stands_at_the_next_place_but_cannot_be_read_is_told_as_nothing(
    server: Server, reader: Reader
) -> None:
    write(server, E, 1)
    garbage(server, E, 2)
    server.admin().xadd(LOG, {LOG_FIELD: b"\xc1 no MessagePack"}, id=f"{E}-3")
    server.admin().xadd(LOG, {LOG_FIELD: pack(["t", 1])}, id=f"{E}-4")
    write(server, E, 5)
    told = await reader.read(E, 0, 100, 0.0)
    assert [entry[1] for entry in told.entries] == [1, 2, 3, 4, 5]
    assert [entry[2] is None for entry in told.entries] == [False, True, True, True, False]
    assert (told.gap, told.strange) == (False, 3)


async def test_what_another_program_wrote_out_of_turn_is_skipped_counted_once_and_stops_nobody(
    server: Server, reader: Reader
) -> None:
    garbage(server, 1_700_000_000_000, 0)
    write(server, E, 1, 2)
    garbage(server, E, 17)
    garbage(server, E2, 0)
    told = await reader.read(E, 0, 100, 0.0)
    assert [entry[1] for entry in told.entries] == [1, 2]
    assert (told.gap, told.strange) == (False, 2)
    began = time.monotonic()
    told = await reader.read(E, 2, 100, 0.2)
    assert (told.gap, told.strange, list(told.entries)) == (False, 0, [])
    assert time.monotonic() - began > 0.15, "it must wait, not read the same strange entries for ever"
    write(server, E2, 1)
    assert (await reader.read(E, 2, 100, 0.0)).gap


async def test_strange_entries_before_the_first_place_are_skipped(server: Server, reader: Reader) -> None:
    garbage(server, 1_700_000_000_000, 0)
    write(server, E, 1)
    told = await reader.read(0, 0, 100, 0.0)
    assert told.gap and told.strange == 1


async def test_a_key_of_another_kind_is_told_of_in_a_sentence(server: Server, reader: Reader) -> None:
    server.admin().set(LOG, "mine")
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        await reader.read(E, 1, 10, 0.0)


async def test_a_reader_that_is_cut_off_while_it_waits_says_so(server: Server, reader: Reader) -> None:
    write(server, E, 1)
    reading = asyncio.create_task(reader.read(E, 1, 10, 20.0))
    await asyncio.sleep(0.1)
    server.admin().client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(StoreUnavailable):
        await reading
    with pytest.raises(StoreUnavailable, match="is closed"):
        await reader.read(E, 1, 10, 0.0)


async def test_a_cancelled_reader_is_closed_and_its_answer_goes_to_nobody(server: Server, reader: Reader) -> None:
    reading = asyncio.create_task(reader.read(E, 0, 10, 20.0))
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    with pytest.raises(StoreUnavailable, match="is closed"):
        await reader.read(E, 0, 10, 0.0)
