"""What may be set, from where, and what is said about mistakes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.core.grace import PROFILES, GracePolicy
from stillhere.core.words import FINAL_CAUSES, Cause
from stillhere.server.secrets import Secret
from stillhere.server.settings import (
    KEYS,
    AuthSettings,
    ClusterSettings,
    GraceSettings,
    LimitsSettings,
    ServerSettings,
    Settings,
    SettingsError,
    check,
    load_settings,
    read_settings,
    require_auth,
    require_loopback,
)
from stillhere.server.settings_rules import is_loopback

CANARY = "canary-canary-canary-canary-canary"


def from_toml(tmp_path: Path, text: str, environ: dict[str, str] | None = None, **flags: object) -> Settings:
    file = tmp_path / "stillhere.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, environ or {}, flags)


def problems(load: Callable[[], object]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value) == "\n".join(caught.value.problems)
    return list(caught.value.problems)


def env_problems(**environ: str) -> list[str]:
    return problems(lambda: load_settings(None, environ, {}))


def test_nothing_said_gives_the_defaults() -> None:
    assert load_settings(None, {}, {}) == Settings()
    assert check(Settings()) == Settings()


def test_later_sources_win(tmp_path: Path) -> None:
    toml = "[limits]\nwatch = 1\nrooms = 1\nqueries = 1\n"
    environ = {"STILLHERE_LIMITS__ROOMS": "2", "STILLHERE_LIMITS__QUERIES": "2", "OTHER": "x"}
    file = tmp_path / "s.toml"
    file.write_text(toml)
    settings, sources = read_settings(file, environ, {"limits.queries": 3, "server.port": None})
    limits = settings.limits
    assert (limits.watch, limits.rooms, limits.queries, limits.connections) == (1, 2, 3, 15_000)
    assert sources == {
        "limits.watch": str(file),
        "limits.rooms": "STILLHERE_LIMITS__ROOMS",
        "limits.queries": "command line",
    }


def test_the_environment_is_text_and_says_any_type() -> None:
    settings = load_settings(
        None,
        {
            "STILLHERE_SERVER__PORT": " 80 ",
            "STILLHERE_SERVER__DRAIN_S": "2.5",
            "STILLHERE_AUTH__ALLOW_QUERY_TOKEN": "true",
            "STILLHERE_AUTH__AUDIENCE": "stillhere",
            "STILLHERE_ORIGINS__ALLOWED": '["https://example.com"]',
            "STILLHERE_ADMIN__API_KEYS": json.dumps(["k" * 32]),
            "STILLHERE_WEBHOOKS": json.dumps([{"url": "https://example.com/h", "secret": "s" * 32}]),
            "STILLHERE_LIMITS__WATCH": "",
        },
        {},
    )
    assert settings.server.port == 80
    assert settings.server.drain_s == 2.5
    assert settings.auth.allow_query_token is True
    assert settings.auth.audience == "stillhere"
    assert settings.origins.allowed == ("https://example.com",)
    assert settings.admin.api_keys == (Secret("k" * 32),)
    assert settings.webhooks[0].events == ("online", "offline")
    assert settings.limits.watch == 1000


def test_flags_are_text_or_values() -> None:
    flags = {"server.port": "80", "origins.allowed": ["https://example.com"], "limits.watch": 5}
    settings = load_settings(None, {}, flags)
    assert (settings.server.port, settings.origins.allowed, settings.limits.watch) == (80, ("https://example.com",), 5)


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(CANARY + "\r\n")
    (tmp_path / "keys").write_text(f"{'a' * 32}\n\n{'b' * 32}\n")
    (tmp_path / "url").write_text("redis://:pw@cache:6379/0\n")
    settings = load_settings(
        None,
        {
            "STILLHERE_AUTH__SECRET_FILE": str(tmp_path / "secret"),
            "STILLHERE_ADMIN__API_KEYS_FILE": str(tmp_path / "keys"),
            "STILLHERE_STORE__URL_FILE": str(tmp_path / "url"),
            "STILLHERE_AUTH__JWKS_FILE": "keys.json",
        },
        {},
    )
    assert settings.auth.secret == Secret(CANARY)
    assert settings.admin.api_keys == (Secret("a" * 32), Secret("b" * 32))
    assert settings.store.url == "redis://:pw@cache:6379/0"
    assert settings.auth.jwks_file == "keys.json"


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"STILLHERE_AUTH__SECRET_FILE": "/nowhere/at/all"}, "auth.secret cannot be read from /nowhere/at/all"),
        ({"STILLHERE_AUTH__SECRET_FILE": "a\0b"}, "auth.secret cannot be read"),
        ({"STILLHERE_AUTH__SECRET_FILE": "x", "STILLHERE_AUTH__SECRET": CANARY}, "both set; keep one"),
        ({"STILLHERE_SERVER__PORT_FILE": "x"}, "server.port is not a secret; set STILLHERE_SERVER__PORT itself"),
    ],
)
def test_a_secret_file_that_cannot_be_read_is_told(environ: dict[str, str], says: str) -> None:
    told = env_problems(**environ)
    assert len(told) == 1
    assert says in told[0]
    assert CANARY not in told[0]


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        (
            "STILLHERE_SERVER__PORT",
            "99999",
            'server.port is "99999" (STILLHERE_SERVER__PORT); it must be a whole number from 0 to 65535',
        ),
        ("STILLHERE_SERVER__PORT", "http", "a whole number from 0 to 65535"),
        ("STILLHERE_SERVER__PORT", "80.5", "a whole number from 0 to 65535"),
        ("STILLHERE_SERVER__DRAIN_S", "nan", "a number from 0 to 3600"),
        ("STILLHERE_SERVER__DRAIN_S", "inf", "a number from 0 to 3600"),
        ("STILLHERE_LIMITS__MESSAGES_PER_SECOND", "0", "a number above 0, at most 100000"),
        ("STILLHERE_AUTH__ALLOW_QUERY_TOKEN", "maybe", "true or false"),
        ("STILLHERE_SERVER__LOG_LEVEL", "loud", "one of debug, error, info, warning"),
        ("STILLHERE_GRACE__GOING_AWAY", "-1", "a whole number of milliseconds from 0 to 86400000"),
        ("STILLHERE_HEARTBEAT__INTERVAL_MS", "0", "a whole number of milliseconds from 1 to 86400000"),
        ("STILLHERE_ORIGINS__ALLOWED", "https://a.example", "a list (in the environment as JSON)"),
        ("STILLHERE_ORIGINS__ALLOWED", '"https://a.example"', "a list (in the environment as JSON)"),
        ("STILLHERE_AUTH__ALGORITHMS", '["none"]', "each one of ES256, EdDSA, HS256"),
        ("STILLHERE_WEBHOOKS", '{"url":"https://a"}', "a list of tables with url, secret and events"),
        ("STILLHERE_WEBHOOKS", '[{"url":"https://a"}]', "missing required field `secret` - at `$[0]`"),
        ("STILLHERE_WEBHOOKS", '[{"url":"https://a","secret":"s","x":1}]', "unknown field `x` - at `$[0]`"),
        ("PRESENCE_OFFLINE_GRACE_MS", "soon", 'PRESENCE_OFFLINE_GRACE_MS is "soon" (environment); it must be a whole'),
    ],
)
def test_a_wrong_value_is_told_with_what_would_be_right(variable: str, value: str, sentence: str) -> None:
    told = env_problems(**{variable: value})
    assert len(told) == 1
    assert sentence in told[0]


def test_several_workers_need_a_store_that_nodes_share() -> None:
    for url in ("memory:", "sqlite:///x.db"):
        (told,) = env_problems(STILLHERE_SERVER__WORKERS="2", STILLHERE_STORE__URL=url)
        assert "server.workers is 2 (STILLHERE_SERVER__WORKERS)" in told
        assert f'store.url is "{url}" (STILLHERE_STORE__URL); every worker is a node' in told
        assert "name a Redis or Valkey in store.url" in told and "or set server.workers to 1" in told
    for url in ("redis://h", "rediss://h", "redis+sentinel://h", "REDIS+CLUSTER://h"):
        environ = {"STILLHERE_SERVER__WORKERS": "2", "STILLHERE_STORE__URL": url}
        assert load_settings(None, environ, {}).server.workers == 2
    (told,) = env_problems(STILLHERE_SERVER__WORKERS="2", STILLHERE_STORE__URL="mysql://h")
    assert "server.workers" not in told


def test_the_name_of_a_node_leaves_room_for_the_number_of_a_worker() -> None:
    environ = {"STILLHERE_SERVER__WORKERS": "10", "STILLHERE_STORE__URL": "redis://h"}
    assert load_settings(None, environ, {"server.node": "n" * 61}).server.node == "n" * 61
    (told,) = env_problems(STILLHERE_SERVER__NODE="n" * 62, **environ)
    assert "choose a shorter name" in told


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ('[server]\nport = "80"', 'server.port is "80" ('),
        ("[server]\nport = true", "server.port is true ("),
        ("[server]\nport = 80.0", "server.port is 80.0 ("),
        ("[server]\nhost = 1", "server.host is 1 ("),
        ('[server]\nhost = ""', "it must be a text of 1 to 512 characters"),
        ("[server]\nport = 2026-01-01", "server.port is "),
        ("[server.port]\nx = 1", 'server.port is {"x":1} ('),
        ("server = 3", "server is no table ("),
        ("[sever]\nport = 80", "did you mean [server]?"),
        ("[server]\nprot = 80", "server.prot is 80 ("),
        ("port = 80", "did you mean server.port?"),
        ("[limits]\noutbox = 1", "did you mean limits.outbox_bytes?"),
        ("[timeline]\nwatch = 1", "did you mean limits.watch?"),
        ("[nonsense]\nqqqq = 1", "the sections are admin, auth, cluster"),
        ("[grace]\nkicked = 1", "grace.kicked cannot be set"),
        ("[server", "is not TOML"),
        ("a = [" * 5000, "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_told(tmp_path: Path, toml: str, says: str) -> None:
    told = problems(lambda: from_toml(tmp_path, toml))
    assert len(told) == 1
    assert says in told[0]
    assert "stillhere.toml" in told[0]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (told,) = problems(lambda: load_settings(tmp_path / "gone.toml", {}, {}))
    assert "gone.toml cannot be read (No such file or directory)" in told
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'[server]\nhost = "\xe9"')
    (told,) = problems(lambda: load_settings(latin, {}, {}))
    assert "is not UTF-8" in told


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert from_toml(tmp_path, "\ufeff[server]\nport = 80").server.port == 80


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    toml = "[server]\nport = -1\nnode = 'a b'\n[auth]\nsecret = 'short'\n[nope]\nx = 1\n"
    environ = {"STILLHERE_LIMITS__WATCH": "many", "STILLHERE_SERVER_PORT": "80"}
    told = problems(lambda: from_toml(tmp_path, toml, environ, **{"cluster.lease_ms": 100, "x.y": 1}))
    for word in (
        "server.port is -1",
        'server.node is "a b"',
        "auth.secret has 5 bytes",
        "nope (",
        'limits.watch is "many"',
        "did you mean STILLHERE_SERVER__PORT",
        "cluster.lease_ms is 100 (command line) and cluster.beat_ms is 5000 (default)",
        "x.y is 1 (command line)",
    ):
        assert sum(word in problem for problem in told) == 1, word
    assert len(told) == 8


def test_a_relation_is_not_judged_on_a_value_that_was_refused() -> None:
    told = env_problems(STILLHERE_HEARTBEAT__INTERVAL_MS="x", STILLHERE_HEARTBEAT__TIMEOUT_MS="25000")
    assert len(told) == 1


def test_names_that_are_no_settings_are_left_alone() -> None:
    environ = {
        "STILLHERE_URL": "http://127.0.0.1:7400",
        "STILLHERE_API_KEY": "k",
        "STILLHERE_PORT_7400_TCP": "tcp://10.0.0.1:7400",
        "STILLHERE_SERVER_PORT": "tcp://10.0.0.1:7400",
        "STILLHERE_SERVER_SERVICE_HOST": "10.0.0.1",
    }
    assert load_settings(None, environ, {}) == Settings()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            {"heartbeat.timeout_ms": 20_000},
            "heartbeat.timeout_ms is 20000 (command line) and heartbeat.interval_ms is 20000",
        ),
        ({"cluster.beat_ms": 7501}, "cluster.lease_ms is 15000 (default) and cluster.beat_ms is 7501"),
        ({"grace.abnormal": 300_001}, "grace.abnormal is 300001 (command line) and grace.max_ms is 300000"),
        (
            {"limits.message_bytes": 300_000},
            "limits.outbox_bytes is 262144 (default) and limits.message_bytes is",
        ),
        ({"limits.meta_bytes": 40_000}, "limits.meta_bytes is 40000 (command line) and limits.message_bytes is 32768"),
        ({"server.node": "a/b"}, 'server.node is "a/b" (command line); a node\'s name'),
        ({"server.trusted_proxies": ["10.0.0.1/8"]}, "'10.0.0.1/8' is not an address such as"),
        ({"server.host": "0.0.0.0"}, 'server.host is "0.0.0.0" (command line), which others can reach'),
        ({"server.host": "stillhere.example"}, "which others can reach"),
        ({"origins.allowed": ["example.com"]}, "origins.allowed: 'example.com' cannot be an allowed origin"),
        ({"origins.hosts": ["a b"]}, "origins.hosts: 'a b' cannot be a trusted host"),
        ({"auth.secret": "x" * 31}, "auth.secret has 31 bytes (command line); HS256 needs at least 32"),
        ({"auth.secret": "x" * 63, "auth.algorithms": ["HS256", "HS512"]}, "HS512 needs at least 64"),
        ({"auth.secret": "-----BEGIN PUBLIC KEY-----\nx"}, "a public key is no secret"),
        ({"auth.secret": '{"kty":"RSA","n":"x"}' + "x" * 32}, "a public key is no secret"),
        ({"auth.jwks_url": "http://example.com/"}, "it must be an https URL (plain http only to loopback)"),
        ({"auth.jwks_url": "https://a.example/", "auth.jwks_file": "k"}, "only one of them may be set"),
        ({"auth.secret": "x" * 32, "auth.algorithms": ["RS256"]}, "auth.secret is set, which none of them uses"),
        ({"auth.secret": "x" * 32, "auth.algorithms": ["HS256", "RS256"]}, "of which RS256 needs one"),
        ({"auth.jwks_file": "k", "auth.algorithms": ["HS256"]}, "auth.secret is unset, which HS256 needs"),
        ({"auth.jwks_file": "k", "auth.algorithms": ["HS256"]}, "a JWKS is set, which none of them uses"),
        ({"admin.api_keys": ["k" * 32, "short"]}, "admin.api_keys[1] has 5 bytes"),
        ({"webhooks": [{"url": "http://127.0.0.1/", "secret": "s" * 32}]}, "webhooks[0].url is"),
        ({"webhooks": [{"url": "https://a.example/", "secret": "s"}]}, "webhooks[0].secret has 1 bytes"),
        ({"webhooks": [{"url": "https://a.example/", "secret": "s" * 32, "events": []}]}, "events is empty"),
    ],
)
def test_settings_that_contradict_each_other_are_told_with_both_values(flags: dict[str, object], says: str) -> None:
    told = problems(lambda: load_settings(None, {}, flags))
    assert sum(says in problem for problem in told) == 1, told


def test_settings_made_in_code_are_checked_too() -> None:
    (told,) = problems(lambda: check(Settings(cluster=ClusterSettings(lease_ms=1, beat_ms=1))))
    assert "cluster.lease_ms is 1" in told
    (told,) = problems(lambda: check(Settings(server=ServerSettings(host="0.0.0.0"))))
    assert "server.host" in told


@pytest.mark.parametrize(
    ("toml", "environ", "flags", "windows"),
    [
        ("", {}, {}, (3.0, 8.0, 8.0)),
        ("", {"PRESENCE_OFFLINE_GRACE_MS": "2000"}, {}, (2.0, 2.0, 2.0)),
        ("", {"PRESENCE_OFFLINE_GRACE_MS": "0"}, {}, (0.0, 0.0, 0.0)),
        ("[grace]\ngoing_away = 9000", {"PRESENCE_OFFLINE_GRACE_MS": "2000"}, {}, (2.0, 9.0, 2.0)),
        (
            "",
            {"STILLHERE_GRACE__GOING_AWAY": "9000", "PRESENCE_OFFLINE_GRACE_MS": "2000"},
            {"grace.page_hidden": 1},
            (2.0, 9.0, 0.001),
        ),
        ("[grace]\nprofile = 'fast'", {"PRESENCE_OFFLINE_GRACE_MS": ""}, {}, (2.0, 4.0, 4.0)),
        ("[grace]\nmax_ms = 5000", {}, {}, (3.0, 5.0, 5.0)),
    ],
)
def test_one_variable_sets_the_windows_of_a_page_unless_one_is_set_itself(
    tmp_path: Path, toml: str, environ: dict[str, str], flags: dict[str, object], windows: tuple[float, ...]
) -> None:
    policy = from_toml(tmp_path, toml, environ, **flags).grace.policy
    assert tuple(map(policy.window, (Cause.CLIENT_CLOSE, Cause.GOING_AWAY, Cause.PAGE_HIDDEN))) == windows


def test_every_cause_that_has_a_window_has_its_key() -> None:
    causes = {key.removeprefix("grace.") for key in KEYS.by_name if key.startswith("grace.")} - {"profile", "max_ms"}
    assert causes == {cause.value for cause in Cause if cause not in FINAL_CAUSES}
    assert set(msgspec.inspect.type_info(GraceSettings).fields[0].type.values) == set(PROFILES)  # type: ignore[attr-defined]
    assert Settings().grace.policy == GracePolicy.of("steady")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
    ],
)
def test_only_loopback_needs_no_authentication(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    settings = Settings(server=ServerSettings(host=host))
    for refuse in (check, require_loopback):
        if loopback:
            refuse(settings)
        else:
            assert "server.host" in problems(lambda refuse=refuse: refuse(settings))[0]  # type: ignore[misc]
    check(Settings(server=ServerSettings(host=host), auth=AuthSettings(jwks_file="k")))


def test_to_serve_something_must_verify_tokens() -> None:
    (told,) = problems(lambda: require_auth(Settings()))
    assert "auth.secret, auth.jwks_url and auth.jwks_file are all unset" in told
    for auth in (AuthSettings(secret=Secret(CANARY)), AuthSettings(jwks_url="https://x"), AuthSettings(jwks_file="x")):
        require_auth(Settings(auth=auth))


@pytest.mark.parametrize(
    ("auth", "algorithms"),
    [
        (AuthSettings(), ()),
        (AuthSettings(secret=Secret(CANARY)), ("HS256",)),
        (AuthSettings(jwks_file="k"), ("RS256", "ES256", "EdDSA")),
        (AuthSettings(secret=Secret(CANARY), jwks_file="k"), ("HS256", "RS256", "ES256", "EdDSA")),
        (AuthSettings(jwks_file="k", algorithms=("ES256",)), ("ES256",)),
    ],
)
def test_algorithms_follow_from_the_keys_unless_named(auth: AuthSettings, algorithms: tuple[str, ...]) -> None:
    assert auth.accepted_algorithms == algorithms


def test_times_are_milliseconds_outside_and_seconds_inside() -> None:
    settings = Settings()
    assert (settings.heartbeat.interval, settings.heartbeat.timeout, settings.heartbeat.probe_interval) == (20, 10, 30)
    assert (settings.cluster.lease, settings.cluster.beat) == (15, 5)
    limits = settings.limits
    assert (limits.auth_timeout, limits.handshake_timeout, limits.close_timeout) == (5, 5, 5)
    assert (limits.lag_timeout, limits.false_offline_horizon) == (10, 30)
    assert (settings.grace.longest, settings.timeline.keep, settings.auth.leeway) == (300, 7 * 86_400, 2)


@pytest.mark.parametrize(("rate", "burst", "effective"), [(20.0, None, 40), (20.0, 5, 5), (0.1, None, 1)])
def test_the_burst_is_twice_the_rate_unless_set(rate: float, burst: int | None, effective: float) -> None:
    assert LimitsSettings(messages_per_second=rate, messages_burst=burst).burst == effective


def test_the_parsed_parts_come_ready_for_use() -> None:
    settings = load_settings(
        None, {}, {"server.trusted_proxies": ["10.0.0.0/8"], "origins.allowed": ["https://example.com"]}
    )
    assert len(settings.server.proxies) == 1
    assert settings.origins.policy.decide("https://example.com", None, bearer=False).allowed


_texts = st.text(max_size=30)
_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(KEYS.by_name)) | _texts, _values, max_size=4))
def test_no_value_whatever_raises_anything_but_sentences(flags: dict[str, Any]) -> None:
    with contextlib.suppress(SettingsError):
        load_settings(None, {}, flags)


@given(st.dictionaries(st.sampled_from(sorted(KEYS.by_variable)), st.text(max_size=20), max_size=4))
def test_no_environment_whatever_raises_anything_but_sentences(environ: dict[str, str]) -> None:
    with contextlib.suppress(SettingsError):
        load_settings(None, environ, {})
