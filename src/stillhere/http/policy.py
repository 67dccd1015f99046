"""``/v1/policy/replay``: what other grace windows would have led to, from what this server itself has recorded.

It answers the whole curve of a cause at once, so that a page can move a window over it without another question.
Nothing is changed, least of all a setting.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType
from starlette.responses import Response

from stillhere.core.words import Cause
from stillhere.http.answers import At, Taken, Told
from stillhere.http.call import Call, answer
from stillhere.http.errors import RETRY_AFTER, Refused
from stillhere.http.examples import AT
from stillhere.http.operations import Access, Answer, Operation
from stillhere.http.whatif import ENTRIES, USERS, WITH_WINDOW, WORK, Draining, Tally, Trial, try_windows
from stillhere.server.node import Node
from stillhere.wire.frames import ms

KEPT = 10.0
"""Seconds for which the same question has the same answer."""

WAITING = 8
"""Questions that wait while another one is answered; the next one is refused."""

_CAUSE = {"enum": ["", *WITH_WINDOW]}


class ReplayQuery(Taken, frozen=True):
    """Which windows to try."""

    cause: Annotated[
        str, Meta(description="Only this cause; all that have a window if it is absent.", extra_json_schema=_CAUSE)
    ] = ""
    window_ms: (
        Annotated[
            int,
            Meta(ge=0, le=86_400_000, description="A further window to try, in ms; at most `grace.max_ms`."),
        ]
        | UnsetType
    ) = UNSET


class Outcome(Told, frozen=True):
    """False offlines and ghost time, as they were recorded."""

    false_offlines: Annotated[int, Meta(description="OFFLINEs after an end of this cause that were false.")]
    ghost_ms: Annotated[int, Meta(description="How long users who were gone were still shown.")]


class TriedWindow(Told, frozen=True):
    """One window of the curve."""

    window_ms: int
    false_offlines: Annotated[int, Meta(description="OFFLINEs after an end of this cause that would be false.")]
    rate: Annotated[float, Meta(description="The same, per end of a connection with this cause.")]
    ghost_ms: Annotated[int, Meta(description="How long users who were gone would still be shown.")]


class ReplayedCause(Told, frozen=True):
    """The trade-off of one cause; all other windows as they were recorded."""

    cause: str
    window_ms: Annotated[int, Meta(description="The window in force now; one of `tried` has it.")]
    ends: Annotated[int, Meta(description="Connections that ended with this cause.")]
    recorded_ms: Annotated[list[int], Meta(description="The windows that were in force when they ended.")]
    recorded: Annotated[Outcome, Meta(description="What really happened to these users.")]
    tried: Annotated[list[TriedWindow], Meta(description="By window, shortest first.")]


class PolicyReplay(Told, frozen=True):
    """What other windows would have led to, and what that rests on."""

    at: At
    users: Annotated[int, Meta(description="Whose timelines were replayed.")]
    users_known: Annotated[int, Meta(description="That the store knows.")]
    complete: Annotated[bool, Meta(description="All of them, with their whole timelines.")]
    entries: Annotated[int, Meta(description="Of these timelines, that were replayed.")]
    skipped: Annotated[int, Meta(description="Entries at the beginning of timelines that were cut.")]
    unfaithful: Annotated[
        int, Meta(description="Users whose recorded events did not follow again from what was recorded.")
    ]
    oldest_at: Annotated[int | None, Meta(description="Time of the oldest entry, Unix milliseconds; null without any.")]
    horizon_ms: Annotated[int, Meta(description="`limits.false_offline_horizon_ms`.")]
    causes: Annotated[list[ReplayedCause], Meta(description="With which a connection ended, by name.")]


class PolicyCalls:
    """The call; one question is answered at a time, and the answer kept for a moment."""

    def __init__(self, *, work: int = WORK) -> None:
        """Begin with no answer.

        Args:
            work: entries that one answer may run.
        """
        self._work = work
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._kept: dict[ReplayQuery, tuple[float, PolicyReplay]] = {}

    async def _replay(self, call: Call) -> Response:
        node, wanted = call.api.node, call.query(ReplayQuery)
        if wanted.cause and wanted.cause not in WITH_WINDOW:
            raise Refused(
                400,
                f"the query parameter cause is {wanted.cause[:64]!r}; it must be a cause that has a window: one of "
                f"{', '.join(WITH_WINDOW)}",
            )
        most = node.settings.grace.max_ms
        if wanted.window_ms is not UNSET and wanted.window_ms > most:
            raise Refused(
                400, f"the query parameter windowMs is {wanted.window_ms}; no window may be longer than grace.max_ms, "
                f"which is {most}"
            )  # fmt: skip
        if self._waiting >= WAITING:
            raise Refused(503, f"{WAITING} replays wait for their turn already; try again", RETRY_AFTER)
        self._waiting += 1
        try:
            async with self._turn:
                return answer(await self._answer(node, wanted))
        except Draining:
            raise Refused(503, "this node is draining; ask another one", RETRY_AFTER) from None
        finally:
            self._waiting -= 1

    async def _answer(self, node: Node, wanted: ReplayQuery) -> PolicyReplay:
        now = node.monotonic()
        self._kept = {query: kept for query, kept in self._kept.items() if now - kept[0] < KEPT}
        if wanted in self._kept:
            return self._kept[wanted][1]
        causes = [Cause(wanted.cause)] if wanted.cause else [Cause(name) for name in WITH_WINDOW]
        extra = () if wanted.window_ms is UNSET else (wanted.window_ms / 1000,)
        told = _told(node, await try_windows(node, causes, extra, work=self._work))
        self._kept[wanted] = node.monotonic(), told
        return told

    def operations(self) -> tuple[Operation, ...]:
        """What can be called."""
        return (
            Operation(
                method="GET",
                path="/v1/policy/replay",
                handler=self._replay,
                tag="Policy",
                summary="What other grace windows would have led to",
                description=(
                    "Runs recorded timelines through the same rules under other windows, as `stillhere advise` does: "
                    f"at most {USERS} users, the newest {ENTRIES} entries of each, {WORK} entries over all windows "
                    "that are tried. It is done in small slices beside everything else, and may take some seconds; "
                    f"the answer is kept for {KEPT:.0f} s. No setting is changed."
                ),
                access=Access.READ,
                query=ReplayQuery,
                answer=Answer(PolicyReplay, example=_EXAMPLE, description="The curve of each cause."),
                problems=(503,),
            ),
        )


def _told(node: Node, tally: Tally) -> PolicyReplay:
    return PolicyReplay(
        at=ms(node.now()),
        users=tally.users,
        users_known=node.statistics().known,
        complete=tally.complete,
        entries=tally.entries,
        skipped=tally.skipped,
        unfaithful=tally.unfaithful,
        oldest_at=None if tally.oldest is None else ms(tally.oldest),
        horizon_ms=node.settings.limits.false_offline_horizon_ms,
        causes=[_cause(node, cause, trial) for cause, trial in sorted(tally.trials.items())],
    )


def _cause(node: Node, cause: Cause, trial: Trial) -> ReplayedCause:
    name = cause.value
    return ReplayedCause(
        cause=name,
        window_ms=ms(node.settings.grace.policy.windows[cause]),
        ends=trial.ends,
        recorded_ms=[ms(window) for window in sorted(trial.windows)],
        recorded=Outcome(trial.recorded.false_offline.get(name, 0), ms(trial.recorded.ghost.get(name, 0.0))),
        tried=[
            TriedWindow(
                ms(window),
                figures.false_offline.get(name, 0),
                round(figures.false_offline.get(name, 0) / trial.ends, 6),
                ms(figures.ghost.get(name, 0.0)),
            )
            for window, figures in trial.tried.items()
        ],
    )


_EXAMPLE = PolicyReplay(
    at=AT,
    users=2,
    users_known=2,
    complete=True,
    entries=41,
    skipped=0,
    unfaithful=0,
    oldest_at=AT - 3_600_000,
    horizon_ms=30_000,
    causes=[
        ReplayedCause(
            "going_away",
            window_ms=2000,
            ends=4,
            recorded_ms=[2000],
            recorded=Outcome(1, 2000),
            tried=[TriedWindow(0, 4, 1.0, 0), TriedWindow(2000, 1, 0.25, 2000), TriedWindow(5000, 0, 0.0, 0)],
        )
    ],
)
