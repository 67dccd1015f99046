"""The settings over HTTP: all of them, with their sources, and no secret."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from stillhere.http.settings import settings_in_force
from stillhere.server.settings import KEYS, Settings, read_settings, redacted
from stillhere.server.settings_rules import redacted_url
from tests.unit.http.stand import API_KEY, SECRET, Stand, standing

WEBHOOK_SECRET = "whsec_" + "bWFya2VyLWhvb2stMDEyMzQ1Njc4OWFiY2RlZjAxMjM="


async def by_key(stand: Stand) -> dict[str, dict[str, Any]]:
    told = await stand.get("/v1/settings")
    assert told["node"] == "n1"
    return {setting["key"]: setting for setting in told["settings"]}


async def test_every_setting_is_told_with_its_value_and_its_default(stand: Stand) -> None:
    found = await by_key(stand)
    assert found.keys() == KEYS.by_name.keys()
    watch = found["limits.watch"]
    assert (watch["value"], watch["default"], watch["changed"], watch["source"]) == (1000, 1000, False, "default")
    assert (watch["variable"], watch["secret"]) == ("STILLHERE_LIMITS__WATCH", False)
    assert found["limits.messages_burst"]["value"] is None


async def test_what_was_changed_is_marked() -> None:
    async with standing(grace__going_away=2000, limits__watch=7) as stand:
        found = await by_key(stand)
    changed = {key for key, setting in found.items() if setting["changed"]}
    assert changed - {"server.node"} == {"grace.going_away", "limits.watch", "auth.secret", "admin.api_keys"}
    assert (found["grace.going_away"]["value"], found["grace.going_away"]["default"]) == (2000, 8000)
    assert found["grace.going_away"]["source"] is None, "nobody told the application where it came from"


async def test_who_may_only_read_may_read_the_settings_and_others_may_not(stand: Stand) -> None:
    assert (await stand.client.get("/v1/settings")).status_code == 401
    headers = {"Authorization": f"Bearer {stand.token(watch='*')}"}
    assert (await stand.client.get("/v1/settings", headers=headers)).status_code == 403
    assert (await stand.client.get("/v1/settings", headers={"X-API-Key": API_KEY})).status_code == 200
    await stand.get("/v1/settings")


async def test_neither_the_secret_nor_the_key_of_the_server_is_in_the_answer(stand: Stand) -> None:
    headers = {"X-API-Key": API_KEY}
    text = (await stand.client.get("/v1/settings", headers=headers)).text
    assert SECRET not in text and API_KEY not in text
    found = await by_key(stand)
    assert (found["auth.secret"]["value"], found["auth.secret"]["secret"]) == ("***", True)
    assert found["admin.api_keys"]["value"] == ["***"]


def full_of_secrets(url: str) -> tuple[Settings, dict[str, str], list[str]]:
    """Settings with a marker in each place that may hold a secret, and the markers."""
    markers = [f"marker{number:02}" for number in range(6)]
    hooks = [{"url": f"https://app.example.com/in?key={markers[3]}", "secret": WEBHOOK_SECRET, "events": ["online"]}]
    environ = {
        "STILLHERE_AUTH__SECRET": f"{markers[0]}-0123456789-0123456789-0123456789",
        "STILLHERE_ADMIN__API_KEYS": json.dumps([f"{m}-0123456789-0123456789-0123456789" for m in markers[1:3]]),
        "STILLHERE_AUTH__JWKS_URL": f"https://idp.example.com/keys?token={markers[4]}",
        "STILLHERE_AUTH__ALGORITHMS": '["HS256","RS256"]',
        "STILLHERE_WEBHOOKS": json.dumps(hooks),
        "STILLHERE_STORE__URL": url.format(markers[5]),
    }
    settings, sources = read_settings(None, environ, {})
    return settings, sources, [*markers, "bWFya2VyLWhvb2st"]


URLS = (
    "redis://ops:{}@10.0.0.5:6379/0",
    "rediss://:{}@10.0.0.5/0",
    "redis://:a@b{}@10.0.0.5/0",
    "redis://:a?b{}@10.0.0.5/0",
    "redis://10.0.0.5/0?password={}",
    "redis://10.0.0.5/0?password=a@{}",
    "redis+sentinel://ops:{}@10.0.0.5:26379,10.0.0.6:26379/main?x=1",
    "redis+cluster://:{}@10.0.0.5:6379,10.0.0.6:6379",
)


@pytest.mark.parametrize("url", URLS)
def test_no_secret_of_settings_full_of_secrets_is_told(url: str) -> None:
    assert {key.name for key in KEYS.by_name.values() if key.secret} == {
        "auth.secret", "admin.api_keys", "store.url", "webhooks",
    }, "a new setting that is secret needs a marker here"  # fmt: skip
    if "?b" in url:  # no store can be meant by it, but whoever shows it must not show the password
        assert "marker" not in redacted_url(url.format("marker"))
        return
    settings, sources, markers = full_of_secrets(url)
    told = list(settings_in_force(settings, sources))
    text = str(told) + str(redacted(settings)) + repr(settings.store)
    for marker in markers:
        assert marker not in text
    found = {setting.key: setting for setting in told}
    assert found["store.url"].changed and "***" in found["store.url"].value
    assert found["store.url"].source == "STILLHERE_STORE__URL"
    assert found["webhooks"].value == [{"url": "https://app.example.com/in?***", "secret": "***", "events": ["online"]}]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///stillhere.db", "sqlite:///stillhere.db"),
        ("memory:", "memory:"),
        ("https://idp.example.com/keys", "https://idp.example.com/keys"),
        ("https://idp.example.com/keys?", "https://idp.example.com/keys?"),
        ("redis://u:p@host/0", "redis://***@host/0"),
        ("redis://host/0?password=p", "redis://host/0?***"),
        ("redis://host/0?password=p@q", "redis://***"),
    ],
)
def test_of_a_url_all_is_shown_but_what_may_be_secret(url: str, shown: str) -> None:
    assert redacted_url(url) == shown


def test_a_value_says_which_source_won_and_a_window_that_the_profile_set() -> None:
    environ = {"STILLHERE_GRACE__PROFILE": "fast", "STILLHERE_LIMITS__WATCH": "5"}
    settings, sources = read_settings(None, environ, {"limits.watch": "6"})
    found = {setting.key: setting for setting in settings_in_force(settings, sources)}
    assert (found["limits.watch"].value, found["limits.watch"].source) == (6, "command line")
    assert found["grace.profile"].source == "STILLHERE_GRACE__PROFILE"
    assert (found["grace.going_away"].value, found["grace.going_away"].source) == (4000, "grace.profile")
    assert found["grace.max_ms"].source == "default"


async def test_the_document_describes_the_call_and_says_that_secrets_are_left_out(stand: Stand) -> None:
    document = await stand.get("/openapi.json")
    described = document["paths"]["/v1/settings"]["get"]
    assert re.search(r"Secrets.* are `\*\*\*`", described["description"])
    assert "SettingInForce" in document["components"]["schemas"]
