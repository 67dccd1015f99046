"""Store URLs, and what no print-out of the settings may hold."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from collections.abc import Callable

import msgspec
import pytest

from stillhere.server.secrets import Secret
from stillhere.server.settings import Settings, SettingsError, StoreSettings, check, load_settings, redacted
from stillhere.server.settings_rules import MemoryStore, RedisStore, SqliteStore

CANARY = "canary-canary-canary-canary-canary"


def problems(load: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load()
    return caught.value.problems


def env_problems(**environ: str) -> tuple[str, ...]:
    return problems(lambda: load_settings(None, environ, {}))


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("memory:", MemoryStore()),
        ("sqlite:///stillhere.db", SqliteStore("stillhere.db")),
        ("sqlite:////var/lib/stillhere.db", SqliteStore("/var/lib/stillhere.db")),
        ("SQLITE:///a b.db", SqliteStore("a b.db")),
        ("redis://cache", RedisStore("standalone", False, Secret("redis://cache"))),
        ("rediss://:p%40w@cache:6380/1", RedisStore("standalone", True, Secret("rediss://:p%40w@cache:6380/1"))),
        ("redis+sentinel://a:1,b:2/main/0", RedisStore("sentinel", False, Secret("redis+sentinel://a:1,b:2/main/0"))),
        ("rediss+cluster://[::1]:7000,b", RedisStore("cluster", True, Secret("rediss+cluster://[::1]:7000,b"))),
    ],
)
def test_a_store_url_names_an_engine_and_a_place(url: str, target: object) -> None:
    assert check(Settings(store=StoreSettings(url=url))).store.target == target


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("memory", "it must be memory:"),
        ("memory:x", "write memory:"),
        ("memory://", "write memory:"),
        ("sqlite:x.db", "three slashes"),
        ("sqlite://x.db", "three slashes"),
        ("sqlite:///", "names no file"),
        ("sqlite:////tmp/", "names no file"),
        ("sqlite:///:memory:", "write memory:"),
        ("sqlite:///a.db?mode=ro", "no parameters"),
        ("redis:cache", "write redis://host:port"),
        ("redis://", "must be a name or address"),
        ("redis://:6379", "must be a name or address"),
        ("redis://cache:port", "must be a name or address"),
        ("redis+sentinel://a,,b/main", "must be a name or address"),
        ("postgres://db", "begin with redis://"),
        ("stillhere.db", "sqlite:///file.db"),
    ],
)
def test_a_store_url_that_names_none_is_told(url: str, says: str) -> None:
    (told,) = problems(lambda: check(Settings(store=StoreSettings(url=url))))
    assert says in told
    assert problems(lambda: StoreSettings(url=url).target)


def secretive() -> Settings:
    return load_settings(
        None,
        {},
        {
            "auth.secret": CANARY,
            "admin.api_keys": [CANARY + "1"],
            "store.url": f"redis://{CANARY}:{CANARY}@cache:6379/0",
            "webhooks": [{"url": "https://a.example/", "secret": CANARY}],
            "grace.going_away": 1234,
        },
    )


def test_no_secret_is_ever_shown(caplog: pytest.LogCaptureFixture) -> None:
    settings = secretive()
    shown = redacted(settings)
    with caplog.at_level(logging.INFO):
        logging.getLogger("stillhere").info("%s %r", settings, settings.auth.secret)
    for text in (
        repr(settings),
        str(settings),
        f"{settings}",
        f"{settings.auth.secret:>5}",
        json.dumps(shown),
        caplog.text,
    ):
        assert "canary" not in text
    assert shown["auth"]["secret"] == "***"
    assert shown["admin"]["api_keys"] == ["***"]
    assert shown["webhooks"][0]["secret"] == "***"
    assert shown["store"]["url"] == "redis://***@cache:6379/0"
    assert shown["grace"]["going_away"] == 1234
    assert shown["grace"]["node_lost"] == 30_000
    with pytest.raises(TypeError):
        msgspec.json.encode(settings)


@pytest.mark.parametrize(
    "environ",
    [
        {"STILLHERE_AUTH__SECRTE": CANARY},
        {"STILLHERE_AUTH__SECRET": "canary"},
        {"STILLHERE_ADMIN__API_KEYS": '["canary"]'},
        {"STILLHERE_ADMIN__API_KEYS": '["canary'},
        {"STILLHERE_ADMIN__API_KEYS": '["canary", 1]'},
        {"STILLHERE_STORE__URL": "redis://canary:canary@:x"},
        {"STILLHERE_STORE__URL": "postgres://canary:canary@db"},
        {"STILLHERE_STORE__URL": "canary" * 100},
        {"STILLHERE_AUTH__JWKS_URL": "https://canary:canary@example.com/"},
        {"STILLHERE_WEBHOOKS": '[{"url":"http://canary:canary@a/","secret":"canary"}]'},
        {"STILLHERE_WEBHOOKS": f'[{{"url":"https://a/","secret":"{CANARY}","events":["canary"]}}]'},
        {"STILLHERE_WEBHOOKS": '["canary"]'},
    ],
)
def test_no_problem_shows_a_secret(environ: dict[str, str]) -> None:
    for told in env_problems(**environ):
        assert "canary" not in told


def test_a_secret_can_be_compared_but_not_copied_out() -> None:
    secret = Secret(CANARY)
    assert secret == Secret(CANARY)
    assert secret != Secret("other")
    assert secret != CANARY
    assert len({secret, Secret(CANARY)}) == 1
    assert (secret.reveal(), secret.size, repr(secret), str(secret)) == (CANARY, 34, "***", "***")
    for leak in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            leak(secret)
    for wrong in ("", "canary\ud800"):
        with pytest.raises(ValueError, match="a secret must") as caught:
            Secret(wrong)
        assert "canary" not in repr(caught.value)
