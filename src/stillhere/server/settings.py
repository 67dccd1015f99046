"""The settings of a node: what may be said, what holds when nothing is said, and where it is read from.

Later sources win: defaults < a TOML file < environment ``STILLHERE_<SECTION>__<KEY>`` < flags. Everything that is wrong
is told at once, in :class:`SettingsError`. ``docs/settings.md`` is the table for operators, and a test keeps it true.

Integers named ``…_ms`` are milliseconds, as on the wire; the properties beside them give the seconds that the code
computes with.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from stillhere.core.grace import GRACE_MAX, GracePolicy
from stillhere.core.words import FINAL_CAUSES, Cause
from stillhere.server.origins import Network, OriginPolicy, parse_networks
from stillhere.server.secrets import REDACTED, Secret
from stillhere.server.settings_rules import StoreTarget, broken_rules, is_loopback, parse_store_url, redacted_url
from stillhere.server.settings_sources import Keys, SettingsError, gather
from stillhere.server.webhooks.payload import EventName

__all__ = [
    "Settings",
    "SettingsError",
    "check",
    "load_settings",
    "read_settings",
    "redacted",
    "require_auth",
    "require_loopback",
]

_DAY_MS = 86_400_000
Millis = Annotated[int, msgspec.Meta(ge=1, le=_DAY_MS)]
Window = Annotated[int, msgspec.Meta(ge=0, le=_DAY_MS)] | None
Count = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
Algorithm = Literal["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"]


def _host_name() -> str:
    """The host name, in the alphabet of node names."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "node"


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the TOML file."""


class ServerSettings(Section, frozen=True, kw_only=True):
    host: Text = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 7400
    node: str = msgspec.field(default_factory=_host_name)
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    drain_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 10.0
    websocket: Literal["native", "asgi"] = "native"
    trusted_proxies: tuple[str, ...] = ()
    log_format: Literal["auto", "json", "pretty"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def proxies(self) -> tuple[Network, ...]:
        """``trusted_proxies``, parsed for ``origins.client_ip``."""
        return parse_networks(self.trusted_proxies)


class StoreSettings(Section, frozen=True, kw_only=True):
    url: Text = "sqlite:///stillhere.db"

    @property
    def target(self) -> StoreTarget:
        """``url``, parsed: which engine, and where."""
        return parse_store_url(self.url)

    def __repr__(self) -> str:
        return f"StoreSettings(url={redacted_url(self.url)!r})"

    __str__ = __repr__


class AuthSettings(Section, frozen=True, kw_only=True):
    secret: Secret | None = None
    jwks_url: Text | None = None
    jwks_file: Text | None = None
    algorithms: tuple[Algorithm, ...] = ()
    audience: Text | None = None
    issuer: Text | None = None
    leeway_ms: Annotated[int, msgspec.Meta(ge=0, le=30_000)] = 2000
    allow_query_token: bool = False

    @property
    def configured(self) -> bool:
        """Whether there is a key to verify tokens with."""
        return self.secret is not None or self.jwks_url is not None or self.jwks_file is not None

    @property
    def accepted_algorithms(self) -> tuple[str, ...]:
        """``algorithms``, or where that is empty what suits the keys: HS256 for a secret, the others for a JWKS."""
        if self.algorithms:
            return self.algorithms
        asymmetric = ("RS256", "ES256", "EdDSA") if self.jwks_url or self.jwks_file else ()
        return (("HS256",) if self.secret is not None else ()) + asymmetric

    @property
    def leeway(self) -> float:
        return self.leeway_ms / 1000


class AdminSettings(Section, frozen=True, kw_only=True):
    api_keys: tuple[Secret, ...] = ()


class OriginsSettings(Section, frozen=True, kw_only=True):
    allowed: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    @property
    def policy(self) -> OriginPolicy:
        """A new policy of these settings."""
        return OriginPolicy(self.allowed, self.hosts)


class GraceSettings(Section, frozen=True, kw_only=True):
    """Windows; one of None has the length that the profile gives it."""

    profile: Literal["steady", "fast"] = "steady"
    max_ms: Millis = int(GRACE_MAX * 1000)
    """The bound that texts call ``grace.max``."""
    client_close: Window = None
    going_away: Window = None
    page_hidden: Window = None
    abnormal: Window = None
    heartbeat_lost: Window = None
    expired: Window = None
    slow_consumer: Window = None
    protocol_error: Window = None
    node_drain: Window = None
    node_lost: Window = None

    @property
    def longest(self) -> float:
        """``max_ms`` in seconds."""
        return self.max_ms / 1000

    @property
    def overrides(self) -> dict[Cause, int]:
        """Milliseconds of the windows that were set, by cause."""
        windows = {cause: getattr(self, cause.value) for cause in Cause if cause not in FINAL_CAUSES}
        return {cause: window for cause, window in windows.items() if window is not None}

    @property
    def policy(self) -> GracePolicy:
        """The windows in force."""
        seconds = {cause: window / 1000 for cause, window in self.overrides.items()}
        return GracePolicy.of(self.profile, seconds, longest=self.longest)


class HeartbeatSettings(Section, frozen=True, kw_only=True):
    interval_ms: Millis = 20_000
    timeout_ms: Millis = 10_000
    probe_interval_ms: Millis = 30_000

    @property
    def interval(self) -> float:
        return self.interval_ms / 1000

    @property
    def timeout(self) -> float:
        return self.timeout_ms / 1000

    @property
    def probe_interval(self) -> float:
        return self.probe_interval_ms / 1000


class ClusterSettings(Section, frozen=True, kw_only=True):
    lease_ms: Millis = 15_000
    beat_ms: Millis = 5000
    partitions: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    address: Text | None = None

    @property
    def lease(self) -> float:
        return self.lease_ms / 1000

    @property
    def beat(self) -> float:
        return self.beat_ms / 1000


class RoomsSettings(Section, frozen=True, kw_only=True):
    count_only_above: Count = 1000


class LimitsSettings(Section, frozen=True, kw_only=True):
    connections: Count = 15_000
    connections_per_user: Count = 20
    connections_per_ip: Count = 1000
    message_bytes: Annotated[int, msgspec.Meta(ge=1024, le=16_777_216)] = 32_768
    messages_per_second: Annotated[float, msgspec.Meta(gt=0, le=100_000)] = 20.0
    messages_burst: Count | None = None
    watch: Count = 1000
    rooms: Count = 100
    queries: Count = 1000
    outbox_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1_073_741_824)] = 262_144
    meta_bytes: Annotated[int, msgspec.Meta(ge=2, le=1_048_576)] = 2048
    info_bytes: Annotated[int, msgspec.Meta(ge=2, le=4096)] = 1024
    auth_timeout_ms: Millis = 5000
    handshake_timeout_ms: Millis = 5000
    close_timeout_ms: Millis = 5000
    lag_timeout_ms: Millis = 10_000
    false_offline_horizon_ms: Millis = 30_000

    @property
    def burst(self) -> float:
        """``messages_burst``, or twice ``messages_per_second`` (at least 1)."""
        return float(self.messages_burst) if self.messages_burst else max(1.0, 2 * self.messages_per_second)

    @property
    def auth_timeout(self) -> float:
        return self.auth_timeout_ms / 1000

    @property
    def handshake_timeout(self) -> float:
        return self.handshake_timeout_ms / 1000

    @property
    def close_timeout(self) -> float:
        return self.close_timeout_ms / 1000

    @property
    def lag_timeout(self) -> float:
        return self.lag_timeout_ms / 1000

    @property
    def false_offline_horizon(self) -> float:
        return self.false_offline_horizon_ms / 1000


class TimelineSettings(Section, frozen=True, kw_only=True):
    entries: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 200
    days: Annotated[float, msgspec.Meta(gt=0, le=3650)] = 7.0

    @property
    def keep(self) -> float:
        """``days`` in seconds."""
        return self.days * 86_400


class DeliverySettings(Section, frozen=True, kw_only=True):
    """How webhooks are delivered."""

    loopback: bool = False
    timeout_ms: Millis = 10_000
    give_up_ms: Millis = _DAY_MS

    @property
    def timeout(self) -> float:
        return self.timeout_ms / 1000

    @property
    def give_up(self) -> float:
        return self.give_up_ms / 1000


class Webhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where transitions are posted to."""

    url: Text
    secret: Secret
    events: tuple[EventName, ...] = ("online", "offline")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of them. ``Settings()`` is what holds when nothing is said."""

    server: ServerSettings = ServerSettings()
    store: StoreSettings = StoreSettings()
    auth: AuthSettings = AuthSettings()
    admin: AdminSettings = AdminSettings()
    origins: OriginsSettings = OriginsSettings()
    grace: GraceSettings = GraceSettings()
    heartbeat: HeartbeatSettings = HeartbeatSettings()
    cluster: ClusterSettings = ClusterSettings()
    rooms: RoomsSettings = RoomsSettings()
    limits: LimitsSettings = LimitsSettings()
    timeline: TimelineSettings = TimelineSettings()
    delivery: DeliverySettings = DeliverySettings()
    webhooks: tuple[Webhook, ...] = ()


KEYS = Keys.of(Settings)


def load_settings(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """Read the settings of a node.

    Args:
        file: a TOML file, or None.
        environ: the environment; only ``STILLHERE_…`` and ``PRESENCE_OFFLINE_GRACE_MS`` are looked at.
        flags: what the command line sets, ``"section.key"`` to value; a value of None counts as not given.

    Raises:
        SettingsError: all that is wrong, one sentence each.
    """
    return read_settings(file, environ, flags)[0]


def read_settings(
    file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]
) -> tuple[Settings, dict[str, str]]:
    """Like :func:`load_settings`, and say for each key that was set where its value came from."""
    gathered = gather(KEYS, file, environ, flags)
    sections: dict[str, dict[str, Any]] = {}
    whole: dict[str, Any] = {}
    for key, value in gathered.values.items():
        section, _, name = key.partition(".")
        if name:
            sections.setdefault(section, {})[name] = value
        else:
            whole[section] = value
    defaults = Settings()
    for section, values in sections.items():
        whole[section] = msgspec.structs.replace(getattr(defaults, section), **values)
    settings = msgspec.structs.replace(defaults, **whole)
    problems = gathered.problems + [
        text for keys, text in broken_rules(settings, gathered.sources) if gathered.refused.isdisjoint(keys)
    ]
    if problems:
        raise SettingsError(problems)
    return settings, gathered.sources


def check(settings: Settings) -> Settings:
    """Check settings that were made in code for the relations that :func:`load_settings` checks.

    Returns:
        The settings.

    Raises:
        SettingsError: all that is wrong. Types and ranges of single values are not checked: type checkers do that.
    """
    problems = [text for _, text in broken_rules(settings, {})]
    if problems:
        raise SettingsError(problems)
    return settings


def require_auth(settings: Settings) -> None:
    """Refuse to serve without a way to tell who comes in.

    Raises:
        SettingsError: there is no key to verify tokens with.
    """
    if not settings.auth.configured:
        problem = (
            "auth.secret, auth.jwks_url and auth.jwks_file are all unset; to serve, one of them is needed to verify "
            "tokens (for a trial on this machine without any: stillhere dev)"
        )
        raise SettingsError([problem])


def require_loopback(settings: Settings) -> None:
    """Refuse to be reached from outside: for the development server, where anybody may log in as anybody.

    Raises:
        SettingsError: ``server.host`` is not a loopback address.
    """
    if not is_loopback(settings.server.host):
        problem = (
            f'server.host is "{settings.server.host}"; the development server lets anybody in as anybody and listens '
            "on loopback only: 127.0.0.1, ::1 or localhost"
        )
        raise SettingsError([problem])


def redacted(settings: Settings) -> dict[str, Any]:
    """All settings as plain JSON-able values, secrets as ``***``: for ``config show`` and the pages.

    The windows are shown as they are in force, not as they were set.
    """
    shown: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(settings, enc_hook=_hide))
    shown["store"]["url"] = redacted_url(settings.store.url)
    if settings.auth.jwks_url is not None:
        shown["auth"]["jwks_url"] = redacted_url(settings.auth.jwks_url)
    for hook in shown["webhooks"]:
        hook["url"] = redacted_url(hook["url"])
    shown["grace"].update(
        {cause.value: round(seconds * 1000) for cause, seconds in settings.grace.policy.windows.items()}
    )
    return shown


def _hide(value: object) -> str:
    if isinstance(value, Secret):
        return REDACTED
    raise TypeError(f"a setting of type {type(value).__name__} cannot be shown")
