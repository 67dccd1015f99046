"""``stillhere webhooks``: how the webhooks of a running server go; send again what was given up; send a test."""

from __future__ import annotations

import time
from typing import Any

import click

from stillhere.cli.api import Api, segment, server_options
from stillhere.cli.failure import FAILED, REFUSED, Failure
from stillhere.cli.output import ago, json_line, safe, table


@click.group(short_help="List, replay or test the webhooks of a running server.")
def webhooks() -> None:
    """Look after the webhooks of a running server. Needs a key of admin.api_keys, or a token with the scope admin.

    \b
    Examples:
      stillhere webhooks list
      stillhere webhooks test wh_0a1b2c3d4e5f
      stillhere webhooks replay wh_0a1b2c3d4e5f
    """


@webhooks.command("list")
@click.argument("hook", required=False)
@server_options
@click.option("--json", "as_json", is_flag=True, help="As one line of JSON, as the server answers.")
def list_(hook: str | None, url: str, api_key: str | None, token: str | None, as_json: bool) -> None:
    """List the webhooks, or the dead letters of one.

    \b
    Examples:
      stillhere webhooks list
      stillhere webhooks list wh_0a1b2c3d4e5f
    """
    api = Api(url, api_key=api_key, token=token)
    path, name = ("/v1/webhooks", "webhooks") if hook is None else (f"{_path(hook)}/letters", "letters")
    answer = _expect(api.get(path), api, name)
    if as_json:
        click.echo(json_line(answer))
    else:
        click.echo("\n".join(_hooks(answer[name]) if hook is None else _letters(answer)))


@webhooks.command()
@click.argument("hook")
@server_options
def replay(hook: str, url: str, api_key: str | None, token: str | None) -> None:
    """Send the dead letters of a webhook again, oldest first, up to the first that is not taken.

    The server does it; `stillhere webhooks list HOOK` tells what is left.
    """
    api = Api(url, api_key=api_key, token=token)
    letters = _expect(api.post(f"{_path(hook)}/replay", {}), api, "letters")["letters"]
    click.echo(f"{letters} letters are sent again" if letters else "there are no dead letters")


@webhooks.command()
@click.argument("hook")
@server_options
def test(hook: str, url: str, api_key: str | None, token: str | None) -> None:
    """Send one message of the type webhook.test now, and say what became of it. Ends with 1 if it was not taken."""
    api = Api(url, api_key=api_key, token=token)
    told = _expect(api.post(f"{_path(hook)}/test", {}), api, "delivered")
    if told["delivered"]:
        click.echo(f"delivered: the endpoint answered {told.get('status')} in {told.get('tookMs')} ms")
    else:
        raise Failure(f"not delivered: {told.get('reason')}", status=FAILED)


def _path(hook: str) -> str:
    return f"/v1/webhooks/{segment(hook)}"


def _hooks(hooks: list[dict[str, Any]]) -> list[str]:
    if not hooks:
        return ["the server has no webhooks; docs/webhooks.md says how to configure one"]
    now = time.time()
    rows = [
        (
            str(hook.get("hook")),
            str(hook.get("url")),
            ",".join(map(str, hook.get("events", ()))),
            str(hook.get("node")),
            f"failing for {ago(hook['failingSince'], now)}" if hook.get("failingSince") else "ok",
            f"{hook.get('lagMs', 0) / 1000:.1f} s",
            str(hook.get("deadLetters")),
        )
        for hook in hooks
    ]
    lines = table(("HOOK", "URL", "EVENTS", "NODE", "STATE", "LAG", "DEAD"), rows)
    return lines + [safe(f"{hook.get('hook')}: {hook['reason']}") for hook in hooks if hook.get("reason")]


def _letters(answer: dict[str, Any]) -> list[str]:
    letters = answer["letters"]
    if not letters:
        return ["there are no dead letters"]
    now = time.time()
    rows = [
        (
            str(letter.get("id")),
            str(letter.get("type")),
            str((letter.get("message", {}).get("data") or {}).get("user", "")),
            f"{ago(letter.get('at'), now)} ago",
            str(letter.get("attempts")),
            str(letter.get("reason")),
        )
        for letter in letters
    ]
    lines = table(("ID", "TYPE", "USER", "HAPPENED", "ATTEMPTS", "REASON"), rows)
    if answer.get("dropped"):
        lines.append(f"{answer['dropped']} older ones were dropped")
    return lines


def _expect(answer: Any, api: Api, name: str) -> dict[str, Any]:
    if not isinstance(answer, dict) or name not in answer:
        raise Failure(f"what answers at {api.url} has no webhooks: its answer has no {name}", status=REFUSED)
    return answer
