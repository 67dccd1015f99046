"""Calls about webhooks: how each one goes, what was given up, sending it again, and a test."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from stillhere.http.answers import At, Told
from stillhere.http.call import Call, answer
from stillhere.http.errors import Refused
from stillhere.http.examples import AT, EPOCH, PRESENCE
from stillhere.http.operations import Access, Answer, Operation, Parameter
from stillhere.server.webhooks.payload import TransitionData
from stillhere.server.webhooks.sender import NotDelivered
from stillhere.wire.frames import ms


class WebhookInfo(Told, frozen=True):
    """A webhook, and how it goes."""

    hook: Annotated[str, Meta(description="Its id, made of its URL.")]
    url: Annotated[str, Meta(description="Without its query, which may hold a key.")]
    events: list[str]
    node: Annotated[str, Meta(description="Which node delivers; empty if none has begun yet.")]
    delivers: Annotated[bool, Meta(description="Whether that is the node that answers.")]
    cursor: Annotated[str, Meta(description="Everything up to this place of the log was taken or given up.")]
    lag_ms: Annotated[int, Meta(description="For how long the oldest event has waited; 0 if none does.")]
    failing_since: Annotated[int | None, Meta(description="Since when nothing was taken; null while all is well.")]
    reason: Annotated[str, Meta(description="What the last attempt ran into; empty while all is well.")]
    dead_letters: Annotated[int, Meta(description="How many events were given up and are kept.")]


class WebhookList(Told, frozen=True):
    """All webhooks of the settings."""

    webhooks: list[WebhookInfo]


class DeadLetter(Told, frozen=True):
    """An event that was given up."""

    id: Annotated[str, Meta(description="The `webhook-id` that it was sent with.")]
    type: str
    at: At
    died_at: At
    attempts: Annotated[int, Meta(description="0 where it was as old as the failure that it waited behind.")]
    reason: str
    message: Annotated[dict[str, Any], Meta(description="What was to be posted.")]


class DeadLetters(Told, frozen=True):
    """What was given up, oldest first."""

    hook: str
    letters: list[DeadLetter]
    dropped: Annotated[int, Meta(description="How many older ones there was no room for.")]


class Replaying(Told, frozen=True):
    """The letters will be sent again by the node that delivers."""

    hook: str
    letters: int


class Tested(Told, frozen=True):
    """What became of a test."""

    hook: str
    delivered: bool
    status: Annotated[int | None, Meta(description="That the endpoint answered; null if it did not.")]
    reason: Annotated[str, Meta(description="Why it was not delivered; empty if it was.")]
    took_ms: int


async def _list(call: Call) -> Response:
    node = call.api.node
    found = []
    for hook in await node.webhooks.statuses():
        mark = hook.mark
        waited = 0.0 if mark.oldest_at is None else max(0.0, node.now() - mark.oldest_at)
        found.append(
            WebhookInfo(
                hook=hook.hook,
                url=hook.url,
                events=list(hook.events),
                node=mark.node,
                delivers=hook.delivers,
                cursor=".".join(map(str, mark.cursors)),
                lag_ms=ms(waited),
                failing_since=None if mark.failing_since is None else ms(mark.failing_since),
                reason=mark.reason,
                dead_letters=mark.dead,
            )
        )
    return answer(WebhookList(found))


async def _letters(call: Call) -> Response:
    hook = _hook(call)
    box = await call.api.node.webhooks.letters(hook)
    letters = [
        DeadLetter(
            id=letter.id,
            type=letter.type,
            at=ms(letter.at),
            died_at=ms(letter.died_at),
            attempts=letter.attempts,
            reason=letter.reason,
            message=msgspec.json.decode(letter.body),
        )
        for letter in box.letters
    ]
    return answer(DeadLetters(hook, letters, box.dropped))


async def _replay(call: Call) -> Response:
    hook = _hook(call)
    return answer(Replaying(hook, await call.api.node.webhooks.replay(hook)), 202)


async def _test(call: Call) -> Response:
    hook, node = _hook(call), call.api.node
    began = node.monotonic()
    status, reason = None, ""
    try:
        told = await node.webhooks.test(hook)
        status = told.status
        reason = "" if told.taken else f"the endpoint answered {status}"
    except NotDelivered as error:
        reason = str(error)
    return answer(Tested(hook, not reason, status, reason, ms(node.monotonic() - began)))


def _hook(call: Call) -> str:
    """The hook of the path.

    Raises:
        Refused: there is none of this id.
    """
    hook = call.path("hook")
    hooks = call.api.node.webhooks.ids
    if hook not in hooks:
        there = f"those of the settings are {', '.join(hooks)}" if hooks else "the settings have none"
        raise Refused(404, f"there is no webhook {hook[:64]!r}; {there}")
    return hook


HOOK = Parameter("The id of a webhook, as `GET /v1/webhooks` tells it.", "wh_0a1b2c3d4e5f")

_ID = HOOK.example
_DATA = TransitionData("alice", "PRESENCE_ONLINE", 42, EPOCH, AT, "connection_open", f"{EPOCH}-42", presence=PRESENCE)
_LETTER = DeadLetter(
    id=f"msg_0-42-{AT}",
    type="presence.online",
    at=AT,
    died_at=AT + 86_400_000,
    attempts=152,
    reason="the endpoint answered 503",
    message={
        "type": "presence.online",
        "timestamp": "2026-09-21T13:33:20.123Z",
        "data": msgspec.to_builtins(_DATA),
    },
)

OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/webhooks",
        handler=_list,
        tag="Webhooks",
        summary="The webhooks, and how each one goes",
        description="Secrets are not told.",
        access=Access.ADMIN,
        answer=Answer(
            WebhookList,
            example=WebhookList(
                [
                    WebhookInfo(
                        hook=_ID,
                        url="https://app.example.com/presence",
                        events=["online", "offline"],
                        node="n1",
                        delivers=True,
                        cursor=f"{EPOCH}-42",
                        lag_ms=0,
                        failing_since=None,
                        reason="",
                        dead_letters=0,
                    )
                ]
            ),
            description="All webhooks of the settings.",
        ),
        problems=(503,),
    ),
    Operation(
        method="GET",
        path="/v1/webhooks/{hook}/letters",
        handler=_letters,
        tag="Webhooks",
        summary="What was given up",
        description="Events that the endpoint did not take for `delivery.give_up_ms`. The newest are kept.",
        access=Access.ADMIN,
        parameters={"hook": HOOK},
        answer=Answer(DeadLetters, example=DeadLetters(_ID, [_LETTER], 0), description="The letters, oldest first."),
        problems=(404, 503),
    ),
    Operation(
        method="POST",
        path="/v1/webhooks/{hook}/replay",
        handler=_replay,
        tag="Webhooks",
        summary="Send again what was given up",
        description=(
            "The node that delivers sends the dead letters, oldest first, up to the first that is not taken. What is "
            "taken is a dead letter no longer."
        ),
        access=Access.ADMIN,
        parameters={"hook": HOOK},
        answer=Answer(Replaying, 202, example=Replaying(_ID, 3), description="It will be done."),
        problems=(404, 503),
    ),
    Operation(
        method="POST",
        path="/v1/webhooks/{hook}/test",
        handler=_test,
        tag="Webhooks",
        summary="Send a test",
        description="One message of the type `webhook.test`, sent once and at once by the node that is asked.",
        access=Access.ADMIN,
        parameters={"hook": HOOK},
        answer=Answer(Tested, example=Tested(_ID, True, 204, "", 31), description="What became of it."),
        problems=(404,),
    ),
)
