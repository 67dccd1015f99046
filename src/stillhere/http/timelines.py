"""Calls about the past of a user: the timeline, a recording of it, and why they were shown as they were.

All of them only read. What they answer comes from the store; where that cannot be asked, an explanation says so.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta
from starlette.responses import Response

from stillhere.core.events import Entry
from stillhere.core.explain import Explanation, Rule, explain
from stillhere.core.phrases import instant
from stillhere.core.record import Shown
from stillhere.core.words import Status, UserId
from stillhere.http.answers import PAGE, PAGE_MOST, AnyStatus, Taken, Told
from stillhere.http.call import Call, answer
from stillhere.http.diagnostics import known_record, local_status
from stillhere.http.errors import Refused
from stillhere.http.examples import AT, KEY, USER
from stillhere.http.operations import Access, Answer, Operation
from stillhere.server.node import Node
from stillhere.store.contract import StoreError
from stillhere.wire.frames import ms
from stillhere.wire.recording import MEDIA, Header, write_entry, write_header
from stillhere.wire.timeline import (
    CURSOR_PATTERN,
    INSTANT,
    INSTANT_PATTERN,
    TimelineItem,
    expand,
    is_cut,
    parse_instant,
    read_part,
)

_ALWAYS = 1e12
"""Unix seconds that nobody will see."""

_EVERYTHING = 1_000_000
"""More entries than any timeline has (``timeline.entries``)."""

_NOW = 1.0
"""Seconds that count as this moment."""

_AN_INSTANT = {
    "anyOf": [{"pattern": INSTANT_PATTERN}, {"format": "date-time"}],
    "maxLength": 64,
    "examples": [str(AT), "-5m"],
}

Instant = Annotated[str, Meta(extra_json_schema=_AN_INSTANT)]


class TimelineQuery(Taken, frozen=True):
    """Which part of a timeline."""

    after: Annotated[Instant, Meta(description=f"Only what happened after this instant: {INSTANT}.")] = ""
    before: Annotated[Instant, Meta(description="Only what happened before this instant.")] = ""
    cursor: Annotated[
        str,
        Meta(
            description="The `cursor` of the page before; none for the first.",
            extra_json_schema={"pattern": CURSOR_PATTERN},
        ),
    ] = ""
    limit: Annotated[int, Meta(ge=1, le=PAGE_MOST, description="How many items at most.")] = PAGE


class Timeline(Told, frozen=True):
    """What happened to a user, oldest first."""

    user: str
    items: list[TimelineItem]
    cursor: Annotated[
        str | None, Meta(description="Ask on with this, now or later; null where nothing is recorded so far.")
    ]
    more: Annotated[bool, Meta(description="There are further items already.")]
    cut: Annotated[bool, Meta(description="The timeline no longer reaches back to its beginning.")]
    gap: Annotated[bool, Meta(description="What the cursor was at is no longer there: some items may be missed.")]


class ExplainQuery(Taken, frozen=True):
    """Which instant."""

    at: Annotated[Instant, Meta(description=f"{INSTANT}; this moment if it is absent.")] = ""


class Explained(Told, frozen=True):
    """Why a user was shown as they were."""

    user: str
    at: Annotated[int, Meta(description="The instant, milliseconds since the Unix epoch.")]
    status: Annotated[AnyStatus, Meta(description="As watchers were shown it; `unknown` where nobody can tell.")]
    since: Annotated[int | None, Meta(description="Since when, Unix milliseconds.")]
    rule: Annotated[str, Meta(description="What decided.", extra_json_schema={"enum": [rule.value for rule in Rule]})]
    sentence: str
    advice: str | None
    evidence: Annotated[list[TimelineItem], Meta(description="What shows it, oldest first.")]


def told(explanation: Explanation, entries: list[Entry]) -> Explained:
    """An explanation as it is answered.

    Args:
        explanation: of one user.
        entries: the timeline that it is about.
    """
    wanted = set(explanation.evidence)
    return Explained(
        user=explanation.user,
        at=ms(explanation.at),
        status=_status(explanation.status),
        since=None if explanation.since is None else ms(explanation.since),
        rule=explanation.rule.value,
        sentence=explanation.sentence,
        advice=explanation.advice,
        evidence=[item for index, item in expand(entries) if index in wanted],
    )


async def explained(node: Node, user: UserId, at: float, now: float) -> Explained:
    """Explain with all that this node can find out; never offline for lack of it."""
    shown: Shown | None = None
    doubt = False
    try:
        try:
            record = await known_record(node, user)
            shown = None if record is None else record.shown
        except StoreError:
            doubt = True
        entries = await _entries(node, user)
    except StoreError:
        return told(_alone(node, user, at), [])
    found = explain(user, entries, at, now, shown)
    if doubt and now - at <= _NOW and found.status is Status.OFFLINE:
        return told(_alone(node, user, at), [])
    return told(found, entries)


def _alone(node: Node, user: UserId, at: float) -> Explanation:
    """Without the store, this node's own connections are all that is known, and only of this moment."""
    here = node.roster.active_count(user) if node.now() - at <= _NOW else 0
    status = local_status(node, user) if here else Status.UNKNOWN
    said = f"{user} has active connections on this node." if here else f"How {user} is shown is unknown."
    text = f"The store cannot tell at {instant(node.now())}: out of reach, or still being told who is there. {said}"
    return Explanation(user, at, status, Rule.STORE_UNREACHABLE, text)


async def _entries(node: Node, user: UserId) -> list[Entry]:
    """The whole timeline of a user."""
    return list((await node.store.timeline(user, 0.0, _ALWAYS, _EVERYTHING)).entries)


async def _timeline(call: Call) -> Response:
    node, user = call.api.node, call.user()
    wanted, now = call.query(TimelineQuery), node.now()
    after = ms(_instant("after", wanted.after, now)) if wanted.after else None
    before = ms(_instant("before", wanted.before, now)) if wanted.before else None
    entries = await _entries(node, user)
    try:
        part = read_part(entries, wanted.cursor, after, before, wanted.limit)
    except ValueError as error:
        raise Refused(400, str(error)) from None
    return answer(Timeline(user, part.items, part.cursor, part.more, is_cut(entries), part.gap))


async def _recording(call: Call) -> Response:
    node, user = call.api.node, call.user()
    entries = await _entries(node, user)
    masks = call.api.masks
    header = Header(
        exported_at=node.now(),
        horizon=node.settings.limits.false_offline_horizon,
        windows={cause.value: seconds for cause, seconds in sorted(node.settings.grace.policy.windows.items())},
    )
    lines = [write_header(header), *(write_entry(masks.entry(entry)) for entry in entries)]
    return Response(b"".join(lines), headers={"Content-Type": MEDIA})


async def _explain(call: Call) -> Response:
    node, user = call.api.node, call.user()
    now = node.now()
    return answer(await explained(node, user, _instant("at", call.query(ExplainQuery).at, now), now))


def _instant(name: str, text: str, now: float) -> float:
    try:
        return parse_instant(text, now)
    except ValueError as error:
        raise Refused(400, f"the query parameter {name} is wrong: {error}") from None


def _status(status: Status) -> Any:
    return status.value


_GONE = 1_300
"""Of the example: milliseconds between the close and the return."""

_ITEMS = [
    TimelineItem(
        at=AT, type="closed", connection_key=KEY, tab="t_4f1c", node="n1", cause="going_away", code=1001, by="client",
        ended_at=AT, window_ms=800, deadline=AT + 800,
    ),
    TimelineItem(at=AT, type="grace_started", cause="going_away", window_ms=800, deadline=AT + 800, ended_at=AT),
    TimelineItem(at=AT + 800, type="windows_ran_out", tabs=["t_4f1c"]),
    TimelineItem(at=AT + 800, type="grace_expired", cause="going_away", ghost_ms=800),
    TimelineItem(
        at=AT + 800, type="PRESENCE_OFFLINE", cause="going_away", version=43, status="offline", connections=0,
        ghost_ms=800,
    ),
    TimelineItem(
        at=AT + _GONE, type="user_reconnected", tab="t_4f1c", cause="going_away", gap_ms=_GONE, window_ms=800,
        false_offline=True, too_short_ms=_GONE - 800,
    ),
]  # fmt: skip

_EXPLAINED = Explained(
    user="alice",
    at=AT + 1000,
    status="offline",
    since=AT + 800,
    rule="window_ran_out",
    sentence=(
        "alice was offline at 14:13:21.123, since 14:13:20.923: the last connection (tab t_4f1c, node n1) ended at "
        "14:13:20.123 with 1001 going_away, closed by the client; its window of 800 ms ran out. alice came back 1.3 s "
        "after the close: a false offline; a window of 1.5 s for going_away would have covered it."
    ),
    advice=(
        "grace.going_away = 1500 (ms) would have covered it; `stillhere replay … --grace going_away=1500` tells what "
        "else that changes."
    ),
    evidence=_ITEMS[:1] + _ITEMS[4:],
)

OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/users/{user}/timeline",
        handler=_timeline,
        tag="Users",
        summary="What happened to a user",
        description=(
            "Every connection, its end with cause and close code, every window and every change that watchers were "
            "shown, oldest first. Ask on with the `cursor`, also later for what is new. How much is kept is said by "
            "`timeline.entries` and `timeline.days`."
        ),
        access=Access.READ,
        parameters={"user": USER},
        query=TimelineQuery,
        answer=Answer(
            Timeline,
            example=Timeline("alice", _ITEMS, f"{AT + _GONE}-8c1f9a02-1", False, False, False),
            description="A page, oldest first. Of a user of whom nothing is recorded it is empty.",
        ),
        problems=(503,),
    ),
    Operation(
        method="GET",
        path="/v1/users/{user}/timeline/recording",
        handler=_recording,
        tag="Users",
        summary="A recording of the timeline, for a replay",
        description=(
            "JSON lines: a header, then every entry as the store has it, in seconds. Ids of sessions and connections "
            "are masked. `stillhere replay` and `stillhere advise` read it; docs/recorder.md has the format."
        ),
        access=Access.READ,
        parameters={"user": USER},
        answer=Answer(media=MEDIA, description="The whole timeline."),
        problems=(503,),
    ),
    Operation(
        method="GET",
        path="/v1/users/{user}/explain",
        handler=_explain,
        tag="Users",
        summary="Why is she offline?",
        description=(
            "Why a user is shown as they are, or were at an instant: the status, the rule that decided, a sentence, "
            "and the items of the timeline that show it. What nobody can tell is `unknown`. Reading it changes nothing."
        ),
        access=Access.READ,
        parameters={"user": USER},
        query=ExplainQuery,
        answer=Answer(Explained, example=_EXPLAINED, description="Why."),
    ),
)
