"""The commands that need no server: help, tokens, settings, and what is refused before anything starts."""

from __future__ import annotations

import json
import os
import socket
import time
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import stillhere
from stillhere.cli.dev import greeting
from stillhere.cli.main import COMMANDS, main
from stillhere.core.words import UserId
from stillhere.server.auth import Authenticator, Identity
from stillhere.server.secrets import Secret
from stillhere.server.visibility import Patterns

SECRET = "a secret of more than thirty-two bytes"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, **environ: str) -> Result:
    """Run a command in this process with nobody's settings but these."""
    foreign: dict[str, str | None] = {name: None for name in os.environ if name.startswith(("STILLHERE_", "PRESENCE_"))}
    return CliRunner().invoke(main, list(arguments), env={**foreign, **environ})


def test_help_names_every_command_and_a_first_step() -> None:
    told = run("--help")
    assert told.exit_code == 0
    assert all(f"\n  {name} " in told.output for name in COMMANDS)
    assert "stillhere dev" in told.output


@pytest.mark.parametrize("command", [*COMMANDS, "config check", "config show"])
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    told = run(*command.split(), "--help")
    assert told.exit_code == 0
    assert (
        command.startswith("config")
        or f"Examples:\n    stillhere {command}" in told.output
        or "STILLHERE" in told.output
    )


def test_the_version_is_told() -> None:
    assert stillhere.__version__ in run("--version").output


@pytest.mark.parametrize("arguments", [("swerve",), ("serve", "--prot", "1"), ("token",), ("serve", "--set", "port")])
def test_a_wrong_command_line_ends_with_status_2(arguments: tuple[str, ...]) -> None:
    told = run(*arguments)
    assert told.exit_code == 2 and "Error: " in told.output


# -- token ------------------------------------------------------------------------------------------------------------


def verified(token: str) -> Identity:
    identity = Authenticator(secret=Secret(SECRET)).verify(token, time.time())
    assert isinstance(identity, Identity)
    return identity


def test_a_token_has_what_was_asked_for() -> None:
    asked = ["--sub", "alice", "--scope", "admin", "--ttl", "60", "--watch", "bob", "--watch", "team:*", "--rooms", "*"]
    made = run("token", *asked, "--sid", "s1", "--info", '{"name":"Alice"}', STILLHERE_AUTH__SECRET=SECRET)
    assert made.exit_code == 0
    who = verified(made.stdout.strip())
    assert (who.user, who.session, who.info, who.scopes) == ("alice", "s1", {"name": "Alice"}, frozenset({"admin"}))
    assert who.watch.allows("bob") and who.watch.allows("team:7") and not who.watch.allows("carol")
    assert isinstance(who.rooms, Patterns) and who.rooms.everything
    assert 50 < who.expires_at - time.time() <= 61


def test_a_token_fits_the_settings_of_the_server(folder: Path) -> None:
    Path("s.toml").write_text('[auth]\nalgorithms = ["HS512"]\naudience = "us"\nissuer = "me"\n')
    secret = SECRET * 2
    made = run("token", "--config", "s.toml", "--sub", "alice", STILLHERE_AUTH__SECRET=secret)
    keys = Authenticator(secret=Secret(secret), algorithms=["HS512"], audience="us", issuer="me")
    identity = keys.verify(made.stdout.strip(), time.time())
    assert isinstance(identity, Identity) and identity.user == UserId("alice")


def test_no_secret_is_made_up_for_a_token() -> None:
    told = run("token", "--sub", "alice")
    assert told.exit_code == 2 and told.stdout == "" and "auth.secret is not set" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--sub", "al\x1bice"), "control character"),
        (("--sub", "x" * 300), "300 bytes"),
        (("--sub", "alice", "--info", "[]"), "JSON object"),
        (("--sub", "alice", "--info", json.dumps({"name": "x" * 2000})), "info"),
        (("--sub", "alice", "--ttl", "0"), "--ttl"),
        (("--sub", "alice", "--set", 'auth.algorithms=["RS256"]', "--set", "auth.jwks_file=k.json"), "auth."),
    ],
)
def test_a_token_that_the_server_would_refuse_is_not_made(arguments: tuple[str, ...], complaint: str) -> None:
    told = run("token", *arguments, STILLHERE_AUTH__SECRET=SECRET)
    assert told.exit_code == 2 and told.stdout == "" and complaint in told.stderr
    assert "\x1b" not in told.stderr and SECRET not in told.output


# -- config -----------------------------------------------------------------------------------------------------------


def test_settings_without_a_fault_are_ok() -> None:
    told = run("config", "check", STILLHERE_AUTH__SECRET=SECRET)
    assert (told.exit_code, told.output) == (0, "ok\n")


def test_every_fault_is_named_at_once(folder: Path) -> None:
    Path("s.toml").write_text('[server]\nport = "x"\n[srever]\nport = 1\n')
    told = run("config", "check", "--config", "s.toml", "--set", "grace.bye=1", STILLHERE_LIMITS__WATCH="many")
    assert told.exit_code == 2 and told.stdout == ""
    assert len(told.stderr.splitlines()) == 4
    for part in ('server.port is "x" (s.toml)', "srever", "grace.bye", 'limits.watch is "many"', "did you mean"):
        assert part in told.stderr
    assert all(line.startswith("stillhere: ") for line in told.stderr.splitlines())


def test_a_server_without_a_key_is_a_fault() -> None:
    for command in (("config", "check"), ("serve",)):
        told = run(*command)
        assert told.exit_code == 2 and "auth.secret" in told.stderr and "stillhere dev" in told.stderr


def test_what_is_shown_is_toml_without_secrets_and_says_where_it_came_from(folder: Path) -> None:
    Path("s.toml").write_text("[server]\nport = 7500\n[grace]\ngoing_away = 12000\n")
    hook = '[{"url":"https://a.example/x","secret":"' + "h" * 40 + '"}]'
    told = run("config", "show", "--config", "s.toml", "--set", f"webhooks={hook}", STILLHERE_AUTH__SECRET=SECRET)
    assert told.exit_code == 0
    assert SECRET not in told.output and "h" * 40 not in told.output
    shown = tomllib.loads(told.output)
    assert (shown["server"]["port"], shown["auth"]["secret"], shown["grace"]["abnormal"]) == (7500, "***", 15000)
    assert shown["webhooks"] == [{"url": "https://a.example/x", "secret": "***", "events": ["online", "offline"]}]
    for line in ("port = 7500  # s.toml", 'secret = "***"  # STILLHERE_AUTH__SECRET', "# jwks_url is unset"):
        assert line in told.output.splitlines()


def test_what_is_shown_can_be_had_as_json() -> None:
    told = run("config", "show", "--json", "--set", "server.port=7500", STILLHERE_STORE__URL="redis://u:pw@h/0")
    shown = json.loads(told.output)
    assert shown["settings"]["store"]["url"] == "redis://***@h/0"
    assert shown["sources"]["server.port"] == "command line"


@pytest.mark.parametrize("port", ["7500", "0"])
def test_a_named_flag_wins_over_set_and_an_absent_one_does_not(port: str) -> None:
    shown = json.loads(run("config", "show", "--json", "--set", f"server.port={port}").output)
    assert shown["settings"]["server"]["port"] == int(port)


# -- serve and dev ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_the_development_server_refuses_a_host_that_others_can_reach(host: str) -> None:
    told = run("dev", "--host", host, "--port", "0")
    assert told.exit_code == 2 and host in told.stderr and "loopback" in told.stderr


def test_a_port_in_use_is_told_before_the_store_is_touched(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = run("serve", "--port", str(port), "--set", "store.url=sqlite:///s.db", STILLHERE_AUTH__SECRET=SECRET)
    assert told.exit_code == 2 and told.stdout == ""
    assert f"port {port} of 127.0.0.1 is in use" in told.stderr and "--port" in told.stderr
    assert list(folder.iterdir()) == []


def test_an_address_of_another_machine_is_told() -> None:
    told = run("serve", "--host", "192.0.2.1", "--port", "0", STILLHERE_AUTH__SECRET=SECRET)
    assert told.exit_code == 2 and "192.0.2.1" in told.stderr and "--host" in told.stderr


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("store.url=redis://u:pw@127.0.0.1:port/0", "store.url"),
        ("store.url=mysql://x", "store.url"),
        ("auth.jwks_file=none.json", "none.json"),
    ],
)
def test_a_store_or_key_that_cannot_be_used_is_told(folder: Path, setting: str, complaint: str) -> None:
    told = run("serve", "--port", "0", "--set", setting, STILLHERE_AUTH__SECRET=SECRET)
    assert told.exit_code == 2 and complaint in told.stderr and "pw" not in told.output


def test_the_greeting_says_how_to_build_pages_that_are_missing() -> None:
    url = "http://127.0.0.1:7500"
    with_pages, without = greeting(url, "memory:", "n", pages=True), greeting(url, "memory:", "n", pages=False)
    assert any(line.split() == ["Demo", f"{url}/"] for line in with_pages)
    assert any("make pages" in line for line in without)
    assert any(f"stillhere who --watch --url {url}" in line for line in with_pages)
    assert not any("--url" in line for line in greeting("http://127.0.0.1:7400", "memory:", "n", pages=True))
