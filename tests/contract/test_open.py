"""Which store a URL names."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillhere.core.words import Incarnation
from stillhere.store.contract import StoreRefused
from stillhere.store.open import open_store
from tests.contract.stand import Clock


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory:", "memory"),
        ("sqlite:///{}/a.db", "sqlite"),
        ("sqlite:////{}/a b#%.db", "sqlite"),
        ("SQLITE:///{}/a.db", "sqlite"),
    ],
)
async def test_a_url_names_a_store(tmp_path: Path, url: str, kind: str) -> None:
    store = open_store(url.format(tmp_path), Clock())
    await store.start(Incarnation("n1.x"), 15.0)
    assert store.kind == store.statistics().kind == kind
    await store.stop()
    assert bool(list(tmp_path.glob("a*.db"))) is (kind == "sqlite")


async def test_a_relative_url_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///stillhere.db", Clock())
    await store.start(Incarnation("n1.x"), 15.0)
    await store.stop()
    assert (tmp_path / "stillhere.db").exists()


@pytest.mark.parametrize(
    ("url", "partitions"),
    [
        ("redis://me:hunter2@cache:6379/0", 1),
        ("rediss://me:hunter2@cache:6379/0", 1),
        ("redis+sentinel://me:hunter2@one:26379,two:26379/presence/0", 1),
        ("redis+cluster://me:hunter2@one:6379,two:6379", 4),
    ],
)
def test_redis_is_one_partition_but_for_a_cluster(url: str, partitions: int) -> None:
    store = open_store(url, Clock(), partitions=4)
    assert (store.kind, store.partitions) == ("redis", partitions)


def test_a_redis_url_that_is_wrong_is_refused_without_repeating_its_password() -> None:
    with pytest.raises(StoreRefused, match="Redis URL") as caught:
        open_store("redis://me:hunter2@cache:port/0", Clock())
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "sqlite", "sqlite://a.db", "sqlite:///", "memory:x", "postgres://me:hunter2@db/x"])
def test_another_url_is_refused_with_what_would_be_right(url: str) -> None:
    with pytest.raises(StoreRefused, match=r"it must be memory:, sqlite:///file\.db") as caught:
        open_store(url, Clock())
    assert "hunter2" not in str(caught.value)
